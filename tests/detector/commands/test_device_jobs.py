"""Jobs on several devices: all done, one at a time on each, and what happens when one fails or a signal comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from detector.commands.device_jobs import THREAD_VARIABLES, run_on_devices, run_verbs, shared_environment
from proposals.errors import UserError

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
    assert run_on_devices([], ["a"], launch, POLL) == ([], False)


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


def test_a_device_named_twice_has_two_jobs_at_a_time(tmp_path: Path) -> None:
    """Each job waits for the other's file: alone, neither would end."""
    code = (
        "import os, sys, time\n"
        "open(sys.argv[1], 'w').close()\n"
        "for _ in range(4000):\n"
        "    if os.path.exists(sys.argv[2]): sys.exit(0)\n"
        "    time.sleep(0.005)\n"
        "sys.exit(1)\n"
    )
    files = [str(tmp_path / name) for name in ("a", "b")]

    def launch(job: int, device: str) -> subprocess.Popen[bytes]:
        assert device == "cpu"
        return subprocess.Popen([sys.executable, "-S", "-E", "-c", code, files[job], files[1 - job]])

    assert run_on_devices(range(2), ["cpu", "cpu"], launch, POLL) == ([], False)


def test_processes_side_by_side_share_the_cores_and_find_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.commands.device_jobs.available_cores", lambda: 8)
    shared = shared_environment(3, {"HOME": "/h", "OMP_NUM_THREADS": "8", "PYTHONPATH": "/other"})
    assert shared["HOME"] == "/h"
    assert {shared[name] for name in THREAD_VARIABLES} == {"2"}
    assert shared_environment(20, {})["OMP_NUM_THREADS"] == "1"
    paths = shared["PYTHONPATH"].split(os.pathsep)
    assert (Path(paths[0]) / "detector" / "cli.py").is_file()
    assert paths[1:] == ["/other"]


def test_verbs_run_side_by_side_and_a_failure_names_its_log(tmp_path: Path) -> None:
    logs = {job: tmp_path / f"{job}.txt" for job in (1, 2)}
    helped = {job: ["clean", str(tmp_path / f"none-{job}")] for job in logs}
    with pytest.raises(UserError, match="looking failed in 2 of 2 processes; the reasons are in") as caught:
        run_verbs(helped, ["cpu", "cpu"], logs, "looking")
    for log in logs.values():
        assert str(log) in str(caught.value)
        assert "--device" in log.read_text()  # a verb without that option says so
