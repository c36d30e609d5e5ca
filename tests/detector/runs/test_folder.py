"""Run folders: whole or not there, and nothing overwritten."""

from __future__ import annotations

import enum
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from detector.runs.folder import (
    CONFIG_FILE,
    final_path,
    git_state,
    new_run_folder,
    new_run_path,
    plain,
    refuse_occupied,
)
from proposals.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_run_folder(out, "detect", {"k": 50}, seed=3) as folder:
        (folder / "result.txt").write_text("found")
        assert not out.exists()
        assert final_path(folder) == out
    assert names(out) == [CONFIG_FILE, "result.txt"]
    assert names(out.parent) == ["out"]
    record = yaml.safe_load((out / CONFIG_FILE).read_text())
    assert (record["verb"], record["seed"], record["config"]) == ("detect", 3, {"k": 50})
    assert record["versions"]["python"].startswith("3.")
    assert isinstance(record["command"], list)


@pytest.mark.parametrize(
    ("keep", "written", "fault", "left"),
    [
        (False, "half", ZeroDivisionError("no"), None),
        (True, "half", ZeroDivisionError("no"), ""),
        (True, "", UserError("bad input"), None),
        (True, "half", UserError("bad input"), "; what was finished is in {}"),
    ],
    ids=["not kept", "kept", "nothing to keep", "a user's fault says where"],
)
def test_after_an_exception_the_final_name_is_free(
    tmp_path: Path, keep: bool, written: str, fault: Exception, left: str | None
) -> None:
    """``left``: what is said of the folder that is left; None where there is none."""
    with (
        pytest.raises(type(fault)) as caught,
        new_run_folder(tmp_path / "out", "detect", {}, keep_unfinished=keep) as folder,
    ):
        (folder / "half.txt").write_text(written)
        raise fault
    assert names(tmp_path) == ([] if left is None else ["out.unfinished"])
    assert str(caught.value) == f"{fault}{(left or '').format(tmp_path / 'out.unfinished')}"


@pytest.mark.parametrize("way", ["itself", "a link", "the current one"])
def test_an_empty_folder_is_filled_in_place(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, out = tmp_path / "mount", tmp_path / "mount"
    real.mkdir()
    inode = real.stat().st_ino
    if way == "a link":
        out = tmp_path / "link"
        out.symlink_to(real)
    elif way == "the current one":
        monkeypatch.chdir(real)
        out = Path()
    with new_run_folder(out, "detect", {}) as folder:
        (folder / "a.txt").write_text("a")
        assert final_path(folder) == out
        assert not (real / CONFIG_FILE).exists(), "the folder must not look whole yet"
    assert names(real) == ["a.txt", CONFIG_FILE]
    assert real.stat().st_ino == inode


def test_what_is_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for attempt in (lambda: refuse_occupied(tmp_path / "out"), lambda: enter(tmp_path / "out")):
        with pytest.raises(UserError, match="already exists and is not empty"):
            attempt()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["thesis.txt"]


def enter(out: Path | None) -> None:
    with new_run_folder(out, "detect", {}):
        pass


@pytest.mark.parametrize(("begun", "kept"), [(False, "out.unfinished"), (True, "out/.unfinished")])
def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path, begun: bool, kept: str) -> None:
    """Whether the folder was there before, empty, or not; the results are kept."""
    out = tmp_path / "out"
    if begun:
        out.mkdir()
    with pytest.raises(UserError, match="appeared during the run"), new_run_folder(out, "detect", {}) as folder:
        (folder / "a.txt").write_text("results")
        out.mkdir(exist_ok=True)
        (out / "a.txt").write_text("somebody else's")
    assert (out / "a.txt").read_text() == "somebody else's"
    assert (tmp_path / kept / "a.txt").read_text() == "results"
    assert not (out / CONFIG_FILE).exists()


@pytest.mark.parametrize("number", [28, 30, 5], ids=["disk full", "read-only disk", "broken disk"])
def test_faults_of_the_disk_are_the_users_to_mend(tmp_path: Path, number: int) -> None:
    with pytest.raises(UserError, match=os.strerror(number)), new_run_folder(tmp_path / "out", "detect", {}):
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []
    with pytest.raises(ConnectionError), new_run_folder(tmp_path / "out", "detect", {}):
        raise ConnectionResetError(104, "reset")


def test_the_default_is_dated_and_never_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        enter(None)
    made = names(tmp_path / "runs")
    assert len(made) == 3
    assert all(re.fullmatch(r"detect-\d{8}-\d{6}(-\d)?", name) for name in made)
    monkeypatch.setattr("time.strftime", lambda form: "now")
    (tmp_path / "a-now").mkdir()
    (tmp_path / "a-now-2.unfinished").mkdir()
    assert new_run_path("a", tmp_path) == tmp_path / "a-now-3"
    assert new_run_path("b", tmp_path) == tmp_path / "b-now"


class Colour(str, enum.Enum):
    red = "red"


@dataclass
class Point:
    x: int
    where: Path


class Settings(BaseModel):
    k: tuple[int, ...] = (1, 2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("a/b"), "a/b"),
        (Colour.red, "red"),
        (Point(1, Path("c")), {"x": 1, "where": "c"}),
        (Settings(), {"k": [1, 2]}),
        ({1: (2, {3})}, {"1": [2, [3]]}),
        (np.float32(0.5), 0.5),
        (np.arange(2), [0, 1]),
        (None, None),
        (True, True),
    ],
)
def test_plain(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert yaml.safe_load(yaml.safe_dump(found)) == expected
    with pytest.raises(TypeError, match="object cannot be written"):
        plain(object())


def test_the_state_of_the_checkout_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        about = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", str(tmp_path), *about, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    code = tmp_path / "package"
    code.mkdir()
    (code / "a.py").write_text("a = 1\n")
    assert git_state(code) is None
    git("init", "-q")
    assert git_state(code) is None  # nothing was committed yet
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert git_state(code) == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (code / "a.py").write_text("a = 2\n")
    assert git_state(code) == {"commit": git("rev-parse", "HEAD"), "changed": True}
    monkeypatch.setenv("PATH", "")
    assert git_state(code) is None
