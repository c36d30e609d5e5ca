"""What the how-to documents tell to type, and to copy, is sound."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from detector.cli import COMMANDS, load_command

DOCUMENTS = sorted((Path(__file__).resolve().parents[1] / "docs" / "how_to").glob("*.md"))


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each command line of ours in a shell script."""
    found = re.findall(r"(?:^|(?<=;))\s*(detector [^|;&\n]*)", text.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in found]


def assert_commands_exist(lines: list[list[str]]) -> None:
    for verb, *words in lines:
        assert verb in COMMANDS
        known = {name for param in load_command(verb).params for name in (*param.opts, *param.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, verb


def test_there_are_documents() -> None:
    assert DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_commands_in_shell_scripts_exist(document: Path) -> None:
    scripts = blocks(document, "sh")
    lines = [line for script in scripts for line in commands(script)]
    assert len(lines) >= len(scripts) / 2
    assert_commands_exist(lines)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_shell_scripts_are_shell(document: Path) -> None:
    for script in blocks(document, "sh"):
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""


def test_the_kubernetes_job_runs_each_shard_once() -> None:
    (text,) = (text for document in DOCUMENTS for text in blocks(document, "yaml") if "kind: Job" in text)
    spec = yaml.safe_load(text)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert int(variables["SHARDS"]) == spec["completions"]
    script = container["command"][-1]
    (line,) = commands(script)
    assert_commands_exist([line])
    assert line[line.index("--shard") + 1] == "$i/$SHARDS"
    assert "i=$((JOB_COMPLETION_INDEX + 1))" in script, "Kubernetes counts from 0, shards from 1"
