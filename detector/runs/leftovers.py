"""What killed runs leave: temporary folders of :func:`detector.runs.folder.new_run_folder`, and which of them may go.

A run marks its temporary folder with a file that names the folder itself (its inode) and holds a lock on it while it
lives. The system gives the lock back however the process ends. So a folder is known as a leftover if it bears its own
mark and nobody holds the lock. One that was copied, or unpacked from an archive, bears the mark of another; one that a
run on another machine made may still be written there. Neither is ever removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from proposals.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: no lock, no mark, and nothing that is known as a leftover
    fcntl = None  # type: ignore[assignment]

MARK = ".run.json"
UNFINISHED = ".unfinished"
_MADE_BY = "googlenet-detector"
_DEPTH = 3  # out.unfinished, runs/out.unfinished, runs/out/.unfinished


@dataclass(frozen=True, slots=True)
class Leftover:
    """A temporary folder of a run that has not ended well.

    Attributes:
        path: of the folder. verb: of the command. begun: when, as text. size: bytes in it.
        alive: whether a process may still write it, on this machine or another.
    """

    path: Path
    verb: str
    begun: str
    size: int
    alive: bool


@contextlib.contextmanager
def marked(folder: Path, verb: str) -> Iterator[None]:
    """Mark ``folder``, which exists, as the work of this process while the block lasts, and as a leftover after it.

    Processes that are forked meanwhile hold the mark as well. Where the file system has no locks there is no mark.

    Raises:
        UserError: another process works there.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a full disk is told of by what is written next
                file = stack.enter_context((folder / MARK).open("a", encoding="utf-8"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    file.truncate(0)
                    json.dump(_mark(folder, verb), file)
                    file.flush()
                except BlockingIOError:
                    raise UserError(f"{folder}: another process is at work there") from None
                except OSError:
                    (folder / MARK).unlink()
        yield


def unmark(folder: Path) -> None:
    """Take the mark away: the folder is about to become a finished one."""
    (folder / MARK).unlink(missing_ok=True)


def find_leftovers(root: Path) -> list[Leftover]:
    """The temporary folders of runs in ``root`` and a few folders below it, sorted by path; links are not followed.

    ``root`` may be such a folder itself.
    """
    found = []
    is_one = UNFINISHED in root.name and _read_mark(root) is not None
    for path in [root] if is_one else _unfinished_folders(root, _DEPTH):
        mark = _read_mark(path)
        if mark is not None:
            alive = mark["host"] != platform.node()
            with _lock(path) as free:
                found.append(Leftover(path, mark["verb"], mark["begun"], _size(path), alive or not free))
    return sorted(found, key=lambda leftover: leftover.path)


def remove(leftover: Leftover) -> bool:
    """Remove the folder, unless meanwhile a process writes it or it is no leftover any more; whether it is gone.

    Raises:
        OSError: a file in it cannot be removed.
    """
    mark = _read_mark(leftover.path)
    if mark is None or mark["host"] != platform.node():
        return False
    with _lock(leftover.path) as free:
        if free:
            shutil.rmtree(leftover.path)
        return free


def _mark(folder: Path, verb: str) -> dict[str, Any]:
    status = folder.stat()
    return {
        "made_by": _MADE_BY,
        "verb": verb,
        "begun": time.strftime("%Y-%m-%d %H:%M:%S"),
        "host": platform.node(),
        "process": os.getpid(),
        "folder": [status.st_dev, status.st_ino],
    }


def _read_mark(folder: Path) -> dict[str, Any] | None:
    """The folder's mark; None where there is none, or another folder's."""
    try:
        with _regular(folder / MARK) as file:
            mark = json.loads(file.read(4096))
        status = folder.stat(follow_symlinks=False)
        good = mark["made_by"] == _MADE_BY and mark["folder"] == [status.st_dev, status.st_ino]
        return {name: str(mark[name]) for name in ("verb", "begun", "host")} if good else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Whether nobody holds the folder's mark; if so, this process does while the block lasts."""
    with contextlib.ExitStack() as stack:
        free = False
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(stack.enter_context(_regular(folder / MARK)), fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
        yield free


def _regular(path: Path) -> IO[bytes]:
    """The file opened, which is no link, and no pipe that would wait for a writer."""
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)), "rb")


def _unfinished_folders(root: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(root) as entries:
            folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in folders:
        if UNFINISHED in entry.name:
            yield root / entry.name
        elif depth > 1 and not entry.name.startswith("."):
            yield from _unfinished_folders(root / entry.name, depth - 1)


def _size(folder: Path) -> int:
    """Bytes of the files in ``folder``; what disappears meanwhile does not count."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat(follow_symlinks=False).st_size
    return total
