"""Jobs on several devices: all done, one at a time on each, and what happens when one fails or a signal comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from detector.commands.device_jobs import run_on_devices

POLL = 0.01


def python(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-E", "-c", code])


def test_every_job_is_done_and_a_device_has_one_at_a_time(tmp_path: Path) -> None:
    launched: dict[str, list[subprocess.Popen[bytes]]] = {"a": [], "b": []}

    def launch(job: int, device: str) -> subprocess.Popen[bytes]:
        assert all(process.poll() is not None for process in launched[device])
        launched[device].append(python(f"open({str(tmp_path / str(job))!r}, 'w').write({device!r})"))
        return launched[device][-1]

    assert run_on_devices(range(5), ["a", "b"], launch, POLL) == ([], False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3", "4"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"a", "b"}


def test_after_a_failure_nothing_is_begun() -> None:
    begun: list[int] = []

    def launch(job: int, device: str) -> subprocess.Popen[bytes]:
        begun.append(job)
        return python("raise SystemExit(3)")

    assert run_on_devices(range(4), ["a"], launch, POLL) == ([0], False)
    assert begun == [0]


def test_a_signal_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    begun: list[int] = []
    saved = tmp_path / "saved"
    code = (
        "import os, signal, sys\n"
        f"def save(number, frame):\n    open({str(saved)!r}, 'w').close()\n    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "while True: signal.pause()\n"
    )

    def launch(job: int, device: str) -> subprocess.Popen[bytes]:
        begun.append(job)
        return python(code)

    before = signal.getsignal(signal.SIGTERM)
    assert run_on_devices(range(3), ["a"], launch, POLL) == ([0], True)
    assert saved.exists()
    assert begun == [0]
    assert signal.getsignal(signal.SIGTERM) is before
    assert os.getpid() > 0


def test_no_jobs() -> None:
    assert run_on_devices([], ["a"], lambda job, device: python(""), POLL) == ([], False)
