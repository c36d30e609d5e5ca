"""What killed runs leave is found and removed; nothing else is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.runs import leftovers
from detector.runs.folder import new_run_folder
from detector.runs.leftovers import MARK, find_leftovers, remove

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="without locks nothing is known as a leftover")


class Run:
    """A process that works in a run folder until it is killed."""

    def __init__(self, out: Path) -> None:
        code = (
            "import sys\n"
            "from detector.runs.folder import new_run_folder\n"
            "with new_run_folder(sys.argv[1], 'detect', {}) as folder:\n"
            "    (folder / 'half.txt').write_text('half')\n"
            "    print(folder, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.folder = Path(self.process.stdout.readline().strip())

    def kill(self) -> Path:
        """kill -9; what is left."""
        self.process.kill()
        self.process.communicate()
        return self.folder


@pytest.fixture
def killed(tmp_path: Path) -> Callable[..., Path]:
    """``killed("out")``: the folder that a run has left, as a killed one does."""

    def make(name: str = "out") -> Path:
        with (
            contextlib.suppress(InterruptedError),
            new_run_folder(tmp_path / name, "detect", {}, keep_unfinished=True) as folder,
        ):
            (folder / "half.txt").write_text("half")
            raise InterruptedError
        return folder

    return make


def paths(root: Path) -> list[Path]:
    return [leftover.path for leftover in find_leftovers(root) if not leftover.alive]


def test_a_killed_run_leaves_what_can_be_removed(tmp_path: Path) -> None:
    folder = Run(tmp_path / "out").kill()
    (found,) = find_leftovers(tmp_path)
    assert (found.path, found.verb, found.alive) == (folder, "detect", False)
    assert found.size >= 4
    assert remove(found)
    assert list(tmp_path.iterdir()) == []
    assert not remove(found)


def test_a_live_run_is_never_removed(tmp_path: Path) -> None:
    run = Run(tmp_path / "out")
    try:
        (found,) = find_leftovers(tmp_path)
        assert found.alive
        assert not remove(found)
        assert (run.folder / "half.txt").is_file()
    finally:
        run.kill()
    assert paths(tmp_path) == [run.folder]


def test_the_run_of_this_process_is_alive_too(tmp_path: Path) -> None:
    with new_run_folder(tmp_path / "out", "detect", {}) as folder:
        (found,) = find_leftovers(tmp_path)
        assert found.alive
        assert not remove(found)
        assert folder.is_dir()
    assert find_leftovers(tmp_path) == []
    assert not (tmp_path / "out" / MARK).exists(), "a finished folder bears no mark"


def test_where_leftovers_are_found(killed: Any, tmp_path: Path) -> None:
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    made = [killed(name) for name in ("a", "runs/b", "runs/empty", "a")]
    assert {path.relative_to(tmp_path).as_posix() for path in made} == {
        "a.unfinished", "a.unfinished-2", "runs/b.unfinished", "runs/empty/.unfinished",
    }  # fmt: skip
    assert paths(tmp_path) == sorted(made)
    assert paths(tmp_path / "none") == []


def replaced_mark(path: Path, **values: object) -> None:
    mark = json.loads((path / MARK).read_text())
    (path / MARK).write_text(json.dumps({**mark, **values}))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / MARK).unlink(),
        lambda folder: (folder / MARK).write_text(""),
        lambda folder: (folder / MARK).write_text("[" * 100_000),
        lambda folder: (folder / MARK).write_text("{}"),
        lambda folder: (folder / MARK).write_bytes(b"\xff"),
        lambda folder: replaced_mark(folder, made_by="somebody"),
        lambda folder: replaced_mark(folder, folder=[1, 2]),
        lambda folder: (folder / MARK).rename(folder / "other") and (folder / MARK).symlink_to("other"),
        lambda folder: (folder / MARK).unlink() or os.mkfifo(folder / MARK),
        lambda folder: folder.rename(folder.with_name("thesis")),
    ],
    ids=["none", "empty", "deep", "no facts", "no text", "another's", "another folder's", "link", "pipe", "renamed"],
)
def test_what_is_not_provably_ours_is_left_alone(killed: Any, tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    spoil(killed())
    assert find_leftovers(tmp_path) == []
    assert any(tmp_path.rglob("half.txt"))


def test_copies_and_links_are_left_alone(killed: Any, tmp_path: Path) -> None:
    folder = killed("elsewhere/out")
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy.unfinished")
    assert paths(tmp_path) == [folder]
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "out.unfinished").symlink_to(folder)
    assert find_leftovers(tmp_path / "here") == []


def test_a_folder_of_another_machine_is_kept(killed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = killed()
    (found,) = find_leftovers(tmp_path)
    monkeypatch.setattr("platform.node", lambda: "another")
    assert [leftover.alive for leftover in find_leftovers(tmp_path)] == [True]
    assert not remove(found)
    assert folder.is_dir()


def test_without_locks_there_is_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "fcntl", None)
    with new_run_folder(tmp_path / "out", "detect", {}) as folder:
        assert not (folder / MARK).exists()
    assert (tmp_path / "out").is_dir()


# --- the commands -----------------------------------------------------------------------------------------------------


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_clean_asks(run_cli: Any, killed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = killed()
    answer(monkeypatch, "n\n")
    done = run_cli("clean")
    assert done.code == 0
    assert "out.unfinished, detect, begun " in done.out
    assert "nothing was removed" in done.out
    assert folder.is_dir()
    answer(monkeypatch, "")
    assert run_cli("clean").code == 1, "nobody answers"
    assert folder.is_dir()
    answer(monkeypatch, "y\n")
    assert run_cli("clean").code == 0
    assert not folder.exists()
    done = run_cli("clean")
    assert (done.code, done.out) == (0, "nothing to remove\n")


@pytest.mark.parametrize(
    ("arguments", "said", "left"),
    [
        pytest.param(("a", "a"), "1 removed", {"b"}, id="a folder, twice"),
        pytest.param(("a/out.unfinished",), "1 removed", {"b"}, id="the path that doctor prints"),
        pytest.param(("link.unfinished",), "nothing to remove", {"a", "b"}, id="a link"),
    ],
)
def test_clean_without_asking(
    run_cli: Any, killed: Any, tmp_path: Path, arguments: tuple[str, ...], said: str, left: set[str]
) -> None:
    folders = {name: killed(f"{name}/out") for name in "ab"}
    (tmp_path / "link.unfinished").symlink_to(folders["a"])
    done = run_cli("clean", *arguments, "--yes")
    assert (done.code, done.out.splitlines()[-1]) == (0, said)
    assert {name for name, folder in folders.items() if folder.exists()} == left


def test_clean_keeps_a_live_run(run_cli: Any, tmp_path: Path) -> None:
    run = Run(tmp_path / "out")
    try:
        done = run_cli("clean", "--yes")
        assert done.code == 0
        assert "kept: a run may still be writing it" in done.out
        assert "nothing to remove" in done.out
        assert (run.folder / "half.txt").is_file()
    finally:
        run.kill()


def test_doctor_lists_leftovers(run_cli: Any, killed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from detector.commands import doctor

    monkeypatch.setattr(doctor, "CHECKS", (doctor.check_leftovers,))
    assert "no unfinished runs" in run_cli("doctor").out
    killed("runs/out")
    done = run_cli("doctor")
    assert done.code == 0, "a leftover is no fault of the installation"
    assert done.out.startswith("note   leftover: runs/out.unfinished, detect, begun ")
    assert "detector clean removes it" in done.out
