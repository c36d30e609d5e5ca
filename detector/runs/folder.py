"""Run folders: where a command leaves its results, with the configuration, versions and seed that made them.

Nothing of the user's is overwritten: results are written under a temporary name and take their place only when
the run has ended well, so a folder without ``.unfinished`` in its path is a whole one. What a killed run leaves is
known by its mark; see :mod:`detector.runs.leftovers`.
"""

from __future__ import annotations

import errno
import itertools
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from detector.runs.leftovers import MARK, UNFINISHED, marked, unmark
from detector.runs.shards import JOURNAL_FILE
from detector.strict_yaml import write_whole
from proposals.errors import UserError

CONFIG_FILE = "config.yaml"
CODE = Path(__file__).resolve().parents[1]
RECORDED = ("googlenet-detector", "torch", "torchvision", "numpy", "numba", "scikit-image", "scipy", "Pillow")
OPENCV_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
# Faults of the disk, not of the program: the user frees space or names another folder.
DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the distributions that decide a result, read without importing them."""
    versions = {"python": platform.python_version()}
    for name in (*RECORDED, *OPENCV_WHEELS):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_state(code: Path = CODE) -> dict[str, Any] | None:
    """The commit of the checkout that ``code`` is in and whether its files differ from it; None outside a checkout.

    A package installed into an environment that happens to lie in some other project's checkout has no state either.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(code), *words], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    if not (code.parent / ".git").exists():
        return None
    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):  # no git at hand, or a broken checkout
        return None


def plain(value: Any) -> Any:
    """``value`` in the types that YAML and JSON know: paths and enums as text, arrays and tuples as lists.

    Raises:
        TypeError: nothing plain stands for the value.
    """
    return to_jsonable_python(value, fallback=_array_as_list)


def _array_as_list(value: Any) -> Any:
    if not hasattr(value, "tolist"):
        raise TypeError(f"{type(value).__name__} cannot be written to a configuration")
    return value.tolist()


def new_run_path(verb: str, root: Path = Path("runs")) -> Path:
    """A free ``runs/<verb>-<date>-<time>``; a number follows where that is there, whole or unfinished."""
    path = root / f"{verb}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidate, number = path, 1
    while candidate.exists() or candidate.with_name(candidate.name + UNFINISHED).exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


@contextmanager
def new_run_folder(
    out: Path | str | None,
    verb: str,
    config: Mapping[str, Any] | None,
    seed: int | None = None,
    keep_unfinished: bool = False,
    resume: bool = False,
) -> Iterator[Path]:
    """A temporary folder to write into, which becomes ``out`` when the block ends without an exception.

    ``config.yaml`` in it holds the verb, the command line, ``config``, ``seed`` and the versions.

    Args:
        out: the folder to make; it must not exist yet, or be empty. None: a new folder under ``runs``.
        verb: the command, such as "detect". config: the resolved settings; see :func:`plain`. None: no ``config.yaml``.
        seed: the seed of the run's random numbers, if it draws any.
        keep_unfinished: after an exception, leave what there is under the temporary name (long work that can be
            taken up again) in place of removing it.
        resume: go on in the folder that an interrupted run to ``out`` has left, if there is one.

    Yields:
        The temporary folder. The final one is ``final_path(folder)``.

    Raises:
        UserError: ``out`` holds something, cannot be made, or the disk is full; another process works on it.
    """
    final = Path(out).expanduser() if out is not None else new_run_path(verb)
    left = interrupted_run(final) if resume else None
    # An empty folder may be a mount point or the current directory, which cannot be replaced: work inside it.
    inside = _is_empty_folder(final) if left is None else left.name == UNFINISHED
    temporary = left or (final / UNFINISHED if inside else _unfinished(final.absolute()))
    try:
        temporary.mkdir(parents=True, exist_ok=left is not None)
    except OSError as error:
        raise UserError(f"{final}: cannot make this folder: {error.strerror}; choose another one") from error
    ended_well = False
    with marked(temporary, verb):  # first of all: a folder that another process works on is not to be touched
        try:
            if config is not None:
                write_config(temporary / CONFIG_FILE, verb, config, seed)
            yield temporary
            ended_well = True
            _move_into_place(temporary, final, inside)
        except BaseException as error:
            kept = (keep_unfinished or ended_well) and holds_results(temporary)
            rest = f"; what was finished is in {temporary}" if kept else ""
            if not kept:
                shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) and _is_fault_of(error, temporary):
                raise UserError(f"{final}: cannot write here: {error.strerror}{rest}") from error
            if isinstance(error, UserError) and kept:
                raise UserError(f"{error}{rest}") from error
            raise


def refuse_occupied(out: Path | str | None) -> None:
    """Say at once, before long work, that ``out`` cannot become a run folder: UserError if it holds something."""
    if out is not None:
        _is_empty_folder(Path(out).expanduser())


def interrupted_run(out: Path | str) -> Path | None:
    """The unfinished folder of the latest run to ``out`` that can be gone on with; None where there is none."""
    final = Path(out).expanduser().absolute()
    begun = [final / UNFINISHED, *itertools.takewhile(Path.is_dir, _temporary_names(final))]
    return next((folder for folder in reversed(begun) if (folder / JOURNAL_FILE).is_file()), None)


def final_path(temporary: Path) -> Path:
    """The folder that the temporary one of :func:`new_run_folder` becomes."""
    if temporary.name == UNFINISHED:
        return temporary.parent
    return temporary.with_name(temporary.name.rpartition(UNFINISHED)[0])


def _unfinished(final: Path) -> Path:
    """A temporary name beside ``final``; an earlier run may have left its own there."""
    return next(path for path in _temporary_names(final) if not path.exists())


def _temporary_names(final: Path) -> Iterator[Path]:
    for number in itertools.count(1):
        yield final.with_name(f"{final.name}{UNFINISHED}{f'-{number}' * (number > 1)}")


def holds_results(temporary: Path) -> bool:
    """Whether anything was written beside ``config.yaml``, the run's mark and journal; empty files do not count."""
    others = (CONFIG_FILE, MARK, JOURNAL_FILE)
    files = (entry for entry in temporary.rglob("*") if entry.name not in others and entry.is_file())
    return any(entry.stat().st_size > 0 for entry in files)


def _is_empty_folder(path: Path) -> bool:
    """Whether ``path`` is an empty folder (a symbolic link to one counts); UserError where it is something else."""
    try:
        with os.scandir(path) as entries:
            if next(entries, None) is not None:
                raise UserError(f"{path}: already exists and is not empty; name a new folder")
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise UserError(f"{path}: already exists and is not a folder; name a new one") from None
    except OSError as error:
        raise UserError(f"{path}: cannot use this folder: {error.strerror}; choose another one") from error
    return True


def _is_fault_of(error: OSError, folder: Path) -> bool:
    """Whether the disk or the folder is at fault; a full disk often names no file."""
    return error.errno in DISK_FAULTS or str(error.filename or "").startswith(str(folder))


def write_config(path: Path, verb: str, config: Mapping[str, Any], seed: int | None) -> None:
    """Write ``config`` and ``seed``, with what else a run depends on, to ``path``, whole or not at all."""
    record = {
        "verb": verb,
        "command": list(sys.argv),
        "begun": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": seed,
        "config": plain(config),
        "versions": installed_versions(),
        "git": git_state(),
        "machine": {"system": platform.platform(), "processors": os.cpu_count()},
    }
    write_whole(path, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def _move_into_place(temporary: Path, final: Path, inside: bool) -> None:
    # config.yaml goes last: a folder that holds it is whole.
    written = [entry for entry in temporary.iterdir() if entry.name != MARK]
    entries = sorted(written, key=lambda entry: entry.name == CONFIG_FILE) if inside else []
    for target in [final / entry.name for entry in entries] or [final]:
        if target.exists() or target.is_symlink():
            raise UserError(f"{target}: appeared during the run and is not overwritten; the results are in {temporary}")
    unmark(temporary)
    if not inside:
        temporary.rename(final)
    else:
        for entry in entries:
            entry.rename(final / entry.name)
        temporary.rmdir()
    # Not before: a run that is killed in between still knows what is done.
    (final / JOURNAL_FILE).unlink(missing_ok=True)
