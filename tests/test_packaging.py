"""The distribution: what it requires, what it carries, and that nothing is loaded before it is needed."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


def setup_arguments() -> dict[str, ast.expr]:
    """The keywords of the one call of ``setup``."""
    calls = [node for node in ast.walk(ast.parse(SETUP)) if isinstance(node, ast.Call)]
    call = next(call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "setup")
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


REQUIRED = {
    (requirement := Requirement(line)).name: requirement
    for line in ast.literal_eval(setup_arguments()["install_requires"])
}


@pytest.mark.parametrize(
    ("name", "too_old", "good"),
    [
        ("torch", ("2.13.0", "2.13.1"), ("2.14.0", "2.15.0")),
        ("torchvision", ("0.28.1",), ("0.29.0",)),
        ("Pillow", ("12.2.0",), ("12.3.0",)),
    ],
)
def test_versions_admitted(name: str, too_old: tuple[str, ...], good: tuple[str, ...]) -> None:
    assert [version for version in (*too_old, *good) if REQUIRED[name].specifier.contains(version)] == list(good)


def test_one_opencv_wheel_and_these_pythons_are_admitted() -> None:
    assert [name for name in REQUIRED if name.startswith("opencv")] == ["opencv-python"]
    specifier = Requirement(f"x{ast.literal_eval(setup_arguments()['python_requires'])}").specifier
    admitted = [minor for minor in range(8, 16) if specifier.contains(f"3.{minor}.0")]
    assert admitted == [10, 11, 12, 13]


def test_setup_imports_only_setuptools_and_the_standard_library() -> None:
    names = {alias.name for node in ast.walk(ast.parse(SETUP)) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(ast.parse(SETUP)) if isinstance(node, ast.ImportFrom)}
    assert {name for name in names if name.split(".")[0] not in sys.stdlib_module_names} == {"setuptools"}


def run_python(code: str, *flags: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """``code`` in a fresh interpreter that finds the two packages in ``cwd``, by default this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(cwd)}
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


HEAVY = ("torch", "torchvision", "numba", "cv2", "skimage", "scipy", "sklearn", "matplotlib", "numpy", "PIL")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import detector, proposals", HEAVY),
        ("import detector.cli", HEAVY),
        ("from detector.cli import COMMANDS, load_command; [load_command(verb) for verb in COMMANDS]", HEAVY),
        ("from detector import load_model, read_image", ("torch._dynamo", "numba", "sklearn", "matplotlib")),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(statement: str, heavy: tuple[str, ...]) -> None:
    done = run_python(f"{statement}\nimport sys\nprint([name for name in {heavy} if name in sys.modules])")
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.slow
def test_the_libraries_load_without_a_warning() -> None:
    done = run_python(
        "import torch, torchvision, torchvision.transforms.v2, numba, cv2, skimage.segmentation, scipy, "
        "sklearn.cluster, matplotlib.pyplot, pycocotools.cocoeval, pydantic, safetensors, defusedxml.ElementTree, "
        "PIL.Image, yaml",
        "-W",
        "error",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_lazy_names_of_the_packages_exist() -> None:
    import detector
    import proposals

    for package in (detector, proposals):
        for name in package.__all__:
            assert getattr(package, name) is not None
            assert name in dir(package)
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            package.nothing  # noqa: B018


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as built from the source distribution of a copy of this checkout, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    for package in ("detector", "proposals"):
        shutil.copytree(ROOT / package, folder / package, ignore=unwanted)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    source = run_python("from setuptools.build_meta import build_sdist; build_sdist('dist')", cwd=folder)
    assert source.returncode == 0, source.stderr
    command = [
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"),
        *("--wheel-dir", str(folder / "dist"), *map(str, (folder / "dist").glob("*.tar.gz"))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next((folder / "dist").glob("*.whl")))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for package in ("detector", "proposals")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - set(wheel.namelist()) == set(), "add them to package_data in setup.py"
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"detector", "proposals"}
    assert {"detector/py.typed", "proposals/py.typed", "detector/report/assets/report.css"} <= files


def test_the_wheel_has_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")).removesuffix("METADATA")
    assert "detector = detector.cli:main" in wheel.read(f"{info}entry_points.txt").decode()
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in wheel.namelist())
    metadata = wheel.read(f"{info}METADATA").decode()
    assert "License-Expression: MIT" in metadata
    assert re.search(r"^Requires-Python: .*>=3\.10", metadata, re.MULTILINE)


@pytest.mark.slow
def test_the_wheel_detects_far_from_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    photo = tmp_path / "elsewhere" / "photo.png"
    photo.parent.mkdir()
    Image.effect_noise((90, 60), 80).convert("RGB").save(photo)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = "import detector; print(detector.__file__)"
    home = run_python(where, cwd=tmp_path / "site")
    assert Path(home.stdout.strip()).is_relative_to(tmp_path), home.stderr
    command = [sys.executable, "-m", "detector", "detect", str(photo), "--out", "found"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "found" / "detections.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == str(photo)


def test_the_version_is_in_the_citation_and_has_its_entry_in_the_changelog() -> None:
    version = ast.literal_eval(setup_arguments()["version"])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (version, "MIT")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## .*{re.escape(version)}", changelog, re.MULTILINE)


def test_ci_preserves_the_exit_code(tmp_path: Path) -> None:
    """``.ci/run`` with a ``make`` that fails as the real one would: the code comes through."""
    fake = tmp_path / "make"
    fake.write_text('#!/bin/sh\necho "make $*"\nexit 2\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(ROOT / ".ci" / "run")], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout.split()[-1]) == (2, "test")
