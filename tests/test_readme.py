"""What the README tells a newcomer to type is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from detector.cli import COMMANDS, load_command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
COMMAND_LINES = [
    part.strip()
    for line in SHELL.splitlines()
    for part in line.split("#")[0].split("|")
    if part.strip().startswith("detector ")
]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_commands_and_their_options_exist(line: str) -> None:
    _, verb, *arguments = shlex.split(line)
    if verb.startswith("--"):
        assert verb in ("--help", "--version")
        return
    assert verb in COMMANDS
    known = {name for param in load_command(verb).params for name in (*param.opts, *param.secondary_opts)}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_there_are_commands_to_check() -> None:
    assert len(COMMAND_LINES) >= 5


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)\b(?=`|\s+#)", README))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_layout_is_as_told() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?/`(?:, `.*?/`)*) \|", contributing, re.MULTILINE)
    folders = [folder for row in rows for folder in re.findall(r"`(.*?)/`", row)]
    assert len(folders) >= 8
    for folder in folders:
        assert (ROOT / folder).is_dir(), folder


def test_the_python_example_is_valid_and_names_what_exists() -> None:
    import ast

    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = __import__(node.module or "", fromlist=["x"])
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.slow
def test_the_python_examples_have_types(tmp_path: Path) -> None:
    from mypy import api

    (tmp_path / "example.py").write_text("".join([*re.findall(r"^```python\n(.*?)^```", README, re.M | re.S), TYPES]))
    where = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)]
    said, trouble, code = api.run([*where, str(tmp_path / "example.py")])
    assert (trouble, code) == ("", 0), said
    assert re.findall(r'Revealed type is "([^"]*)"', said) == [
        "detector.detection.pipeline.Detector",
        "detector.types.Detections",
        "list[detector.types.Detections]",
        "typing.Iterator[detector.types.Detections]",
    ]


TYPES = """
reveal_type(model)
reveal_type(detections)
reveal_type(model([image, "cat.jpg"]))
reveal_type(model.predict(["cat.jpg"]))
"""
