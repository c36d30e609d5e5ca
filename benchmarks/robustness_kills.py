"""``kill -9`` at a random change of a command's files, and the same command again."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from robustness_runs import Command, Ended, Started, Watch, Workshop, went_on
from robustness_table import Outcomes, run_each

LONGEST_WAIT = 0.1
"""Seconds after a change within which the kill falls."""
AT_ANY_TIME = 0.2
"""Share of the kills that do not wait for a change."""


def kill_all(runs: Workshop, count: int, seed: int, workers: int, outcomes: Outcomes) -> None:
    """Kill ``count`` runs, the commands in turn."""

    def case(number: int) -> None:
        command = runs.commands[number % len(runs.commands)]
        folder = runs.root / "cases" / f"kill-{number}"
        folder.mkdir()
        when = moment(command, Watch(folder), random.Random(f"{seed} kill {number}"))
        ended = Started(command, folder, runs.limit).wait(when)
        early.append(ended.code == -signal.SIGKILL)
        outcome, detail = judged(command, folder, ended, runs.limit)
        outcomes.add(f"kill {command.name}", outcome, f"kill {number}: {detail}")
        shutil.rmtree(folder)

    early: list[bool] = []
    begun = time.monotonic()
    run_each(case, count, workers)
    struck = f"{sum(early)} of them before the command had ended"
    print(f"{count} kills in {time.monotonic() - begun:.0f} s, {struck}", file=sys.stderr)


def moment(command: Command, watch: Watch, rng: random.Random) -> Callable[[], bool]:
    """What says, while the command runs, that it is time to kill it."""
    if rng.random() < AT_ANY_TIME:
        end = time.monotonic() + rng.uniform(0, 1.1 * command.seconds)
        return lambda: time.monotonic() > end
    change, wait = rng.randint(1, max(1, command.changes)), rng.choice((0.0, rng.uniform(0, LONGEST_WAIT)))
    seen: list[float] = []

    def now() -> bool:
        if not seen and watch.look() >= change:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= wait

    return now


def judged(command: Command, folder: Path, ended: Ended, limit: float) -> tuple[str, str]:
    """What came of a run that was killed, or ended before; the command is run once more."""
    if ended.code is None:
        return "hang", f"longer than {limit:.0f} s"
    if ended.code > 0:
        return ("crash" if ended.unexpected else "loss"), ended.last
    if fault := command.damaged(folder, whole=False):
        return "loss", f"after the kill: {fault}"
    if not command.goes_on and not command.damaged(folder, whole=True):
        return "ok", ""  # finished before its kill; it may not be run into the same folder
    if ended.code == 0 and (fault := command.damaged(folder, whole=True)):
        return "loss", fault
    return went_on(command, folder, limit)
