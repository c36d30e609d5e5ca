"""Jobs on several devices: each device has one at a time, and the next when that is done."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from types import FrameType

POLL_SECONDS = 0.2


def run_on_devices(
    jobs: Sequence[int],
    devices: Sequence[str],
    launch: Callable[[int, str], subprocess.Popen[bytes]],
    poll_seconds: float = POLL_SECONDS,
) -> tuple[list[int], bool]:
    """Run every job in a process of its own that ``launch`` starts for a job and a device.

    After a job has failed no other is begun, but those that run are waited for. SIGTERM and Ctrl-C are passed on to
    the running processes, which are waited for, too: they save what they have.

    Returns:
        The jobs that failed, and whether a signal came.
    """
    waiting, running, failed = list(jobs), dict[str, tuple[int, "subprocess.Popen[bytes]"]](), list[int]()
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        for _, process in running.values():
            process.terminate()

    handlers = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        while running or (waiting and not failed and not stopped):
            for device in devices:
                if device not in running and waiting and not failed and not stopped:
                    job = waiting.pop(0)
                    running[device] = (job, launch(job, device))
            for device, (job, process) in list(running.items()):
                if process.poll() is not None:
                    del running[device]
                    if process.returncode:
                        failed.append(job)
            time.sleep(poll_seconds)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return failed, stopped
