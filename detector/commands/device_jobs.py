"""Jobs side by side, on several devices or in several places on one: each has one at a time, and then the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from detector.training.loop import Interrupted
from proposals.errors import UserError
from proposals.selective_search import available_cores

POLL_SECONDS = 0.2
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def shared_environment(jobs: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``environment`` for one of so many ``python -m detector`` side by side: the cores are divided among them.

    They find the package where this process found it, wherever it was started.
    """
    threads = str(max(1, available_cores() // jobs))
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths), **dict.fromkeys(THREAD_VARIABLES, threads)}


def run_verbs(jobs: Mapping[int, Sequence[str]], devices: Sequence[str], logs: Mapping[int, Path], what: str) -> None:
    """Run a verb for each job in a process of its own, one on each of ``devices`` at a time; they share the cores.

    Args:
        jobs: each one's words of the command line, to which ``--device`` is added. logs: each one's output is added to
            this file. what: the work, in a word.

    Raises:
        UserError: one failed. Interrupted: a signal came, on which the processes saved what they had.
    """
    environment = shared_environment(len(devices))

    def launch(job: int, device: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "detector", *jobs[job], "--device", device]
        with logs[job].open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    failed, stopped = run_on_devices(list(jobs), devices, launch)
    if stopped:
        raise Interrupted(f"{what} stopped; what was done so far is saved")
    if failed:
        reasons = ", ".join(str(logs[job]) for job in failed)
        raise UserError(f"{what} failed in {len(failed)} of {len(jobs)} processes; the reasons are in {reasons}")


def run_on_devices(
    jobs: Sequence[int],
    devices: Sequence[str],
    launch: Callable[[int, str], subprocess.Popen[bytes]],
    poll_seconds: float = POLL_SECONDS,
) -> tuple[list[int], bool]:
    """Run every job in a process of its own that ``launch`` starts for a job and a device.

    A device that stands several times in ``devices`` has as many jobs at a time.

    After a job has failed no other is begun, but those that run are waited for. SIGTERM and Ctrl-C are passed on to
    the running processes, which are waited for, too: they save what they have.

    Returns:
        The jobs that failed, and whether a signal came.
    """
    waiting, running, failed = list(jobs), dict[int, tuple[int, "subprocess.Popen[bytes]"]](), list[int]()
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        for _, process in running.values():
            process.terminate()

    handlers = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        while running or (waiting and not failed and not stopped):
            for place, device in enumerate(devices):
                if place not in running and waiting and not failed and not stopped:
                    job = waiting.pop(0)
                    running[place] = (job, launch(job, device))
            for place, (job, process) in list(running.items()):
                if process.poll() is not None:
                    del running[place]
                    if process.returncode:
                        failed.append(job)
            time.sleep(poll_seconds)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return failed, stopped
