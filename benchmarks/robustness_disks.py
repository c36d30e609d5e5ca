"""Commands on a file system with too little room, and the same command once there is room."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from robustness_runs import Command, Started, Workshop, went_on
from robustness_table import Outcomes, run_each

ROOM = "64m"
PAGE = 4096


def fill_all(runs: Workshop, count: int, seed: int, workers: int, outcomes: Outcomes) -> None:
    """Run ``count`` commands, in turn, with a random share of the room that they need."""
    why = cannot_mount(runs.root / "cases")
    if why:
        outcomes.not_run["full disk"] = why
        return

    def case(number: int) -> None:
        command = runs.commands[number % len(runs.commands)]
        rng = random.Random(f"{seed} disk {number}")
        size = PAGE * max(1, round(rng.uniform(0, 1.05) * command.peak / PAGE))
        folder = runs.root / "cases" / f"disk-{number}"
        with mounted(folder, size):
            outcome, detail = starved(command, folder, runs.limit)
        outcomes.add(f"full disk {command.name}", outcome, f"disk {number}, {size:,} bytes: {detail}")

    begun = time.monotonic()
    run_each(case, count, workers)
    print(f"{count} full disks in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def starved(command: Command, folder: Path, limit: float) -> tuple[str, str]:
    """One run on the small disk, and one more after it has grown; "ok" if there was room enough."""
    ended = Started(command, folder, limit).wait()
    if ended.code is None:
        return "hang", f"longer than {limit:.0f} s"
    if ended.code == 0:
        fault = command.damaged(folder, whole=True)
        return ("loss", fault) if fault else ("ok", "")
    if ended.unexpected or ended.code != 1 or len(ended.errors) != 1:
        return "crash", ended.last
    if fault := command.damaged(folder, whole=False):
        return "loss", f"on the full disk: {fault}"
    mount("-o", f"remount,size={ROOM}", str(folder))
    outcome, detail = went_on(command, folder, limit)
    return ("error", "") if outcome == "ok" else (outcome, f"{detail} (before: {ended.last})")


def mount(*words: str) -> None:
    """The system's ``mount``; an error of it is an exception."""
    subprocess.run(["mount", *words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """``folder`` as a file system of its own while the block lasts."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def cannot_mount(folder: Path) -> str:
    """Why a small file system cannot be mounted here; nothing if it can."""
    if shutil.which("mount") is None:
        return "no mount here"
    try:
        with mounted(folder / "probe", PAGE):
            return ""
    except (OSError, subprocess.CalledProcessError):
        with contextlib.suppress(OSError):
            (folder / "probe").rmdir()
        return "a tmpfs cannot be mounted (it takes root)"
