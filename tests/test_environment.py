"""``make`` sets up its environment by itself, once, and says what is missing; pip and Python are stand-ins here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A Python that keeps a diary. `-c` (is the version right?), `-m venv` and `-m pip` do what the test wants.
FAKE_PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >> "$DIARY"
case "$1 $2" in
    "--version "*) echo "Python 3.12.0" ;;
    "-m venv") [ -z "${NO_ENSUREPIP-}" ] || { echo "ensurepip is not available" >&2; exit 1; }
        for folder; do :; done
        mkdir -p "$folder/bin" && touch "$folder/pyvenv.cfg" && cp "$0" "$folder/bin/python" ;;
    "-m pip") case "$3" in install) [ -z "${NO_NETWORK-}" ] || { echo "pip: no network" >&2; exit 1; } ;; esac
        case "$*" in *install*headless) touch "$DIARY.headless" ;; esac ;;
    "-c import cv2") [ -z "${NO_LIBGL-}" ] || [ -e "$DIARY.headless" ] || exit 1 ;;
    "-c "*) [ -z "${TOO_OLD-}" ] || exit 1 ;;
esac
"""

WARMUPS = ("proposals.warmup", "detector.nets.warmup", "detector.evaluation.warmup")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What ``make`` needs of the checkout, and the stand-in for Python."""
    folder = tmp_path / "checkout with a space"
    (folder / "tools").mkdir(parents=True)
    for name in ("Makefile", "setup.py", "pyproject.toml", "tools/environment.sh"):
        shutil.copy(ROOT / name, folder / name)
    python = tmp_path / "fake-python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return folder


@pytest.fixture
def make(checkout: Path, tmp_path: Path) -> Run:
    """``make("environment", NO_NETWORK="1")``: run make with these in its environment."""

    def run(target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}
        environment = {**inherited, "DIARY": str(tmp_path / "diary"), "PYTHON": str(tmp_path / "fake-python")}
        together = {**environment, **variables}
        return subprocess.run(["make", target], cwd=checkout, env=together, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def diary(tmp_path: Path) -> Callable[[], list[str]]:
    """What the stand-in was called with since the last look."""

    def read() -> list[str]:
        path = tmp_path / "diary"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return read


def test_the_first_time_everything_the_second_time_nothing(make: Run, diary: Callable[[], list[str]]) -> None:
    done = make("environment")
    assert done.returncode == 0, done.stderr
    calls = diary()
    assert "python -m pip install --quiet --editable .[test,lint]" in calls
    assert calls[-3:] == [f"python -m {module}" for module in WARMUPS]
    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == ["making", "installing", "compiling"]
    assert not any("headless" in call for call in calls), "where OpenCV loads it stays"

    assert make("environment").returncode == 0
    assert diary() == []


@pytest.mark.parametrize("changed", ["setup.py", "pyproject.toml"])
def test_new_requirements_are_installed_into_the_same_environment(
    make: Run, diary: Callable[[], list[str]], checkout: Path, changed: str
) -> None:
    make("environment")
    diary()
    stamp = (checkout / ".venv" / ".ready").stat().st_mtime
    os.utime(checkout / changed, (stamp + 5, stamp + 5))
    assert make("environment").returncode == 0
    calls = diary()
    assert any("pip install" in call for call in calls)
    assert not any("-m venv" in call for call in calls)


def test_after_a_failed_installation_the_next_try_goes_on(make: Run, diary: Callable[[], list[str]]) -> None:
    assert make("environment", NO_NETWORK="1").returncode != 0
    diary()
    assert make("environment").returncode == 0
    assert any("pip install" in call for call in diary())


def test_where_opencv_lacks_a_library_the_headless_wheel_takes_its_place(
    make: Run, diary: Callable[[], list[str]]
) -> None:
    done = make("environment", NO_LIBGL="1")
    assert done.returncode == 0, done.stderr
    calls = diary()
    removed = calls.index("python -m pip uninstall --quiet --yes opencv-python opencv-python-headless")
    assert calls[removed + 1] == "python -m pip install --quiet opencv-python-headless"
    assert "swapping in opencv-python-headless" in done.stderr


@pytest.mark.parametrize(
    ("variables", "messages"),
    [
        ({"NO_ENSUREPIP": "1"}, ("error: ", "apt install python3-venv")),
        ({"TOO_OLD": "1"}, ("error: no Python of 3.10 to 3.13 found", "make PYTHON=")),
    ],
)
def test_an_unfit_python(make: Run, checkout: Path, variables: dict[str, str], messages: tuple[str, ...]) -> None:
    done = make("environment", **variables)
    assert done.returncode != 0
    assert all(message in done.stderr for message in messages)
    assert not (checkout / ".venv" / ".ready").exists()


def test_a_folder_that_is_no_environment_is_left_alone(make: Run, checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine.txt").write_text("mine")
    done = make("environment")
    assert done.returncode != 0
    assert "is no virtual environment; move it away" in done.stderr
    assert (checkout / ".venv" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("module", WARMUPS)
def test_what_compiles_the_loops_is_there(module: str) -> None:
    assert find_spec(module) is not None


def test_pip_keeps_the_settings_of_the_machine() -> None:
    script = (ROOT / "tools" / "environment.sh").read_text()
    assert "index-url" not in script
    assert "--isolated" not in script


@pytest.mark.parametrize(
    ("target", "called"),
    [("test", "python -m pytest"), ("demo", "python tools/demo.py"), ("docs", "python -m mkdocs build --strict")],
)
def test_targets(make: Run, diary: Callable[[], list[str]], target: str, called: str) -> None:
    assert make(target).returncode == 0
    assert diary()[-1].startswith(called)
