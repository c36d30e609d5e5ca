"""The command line as such: verbs, faults, exit codes."""

from __future__ import annotations

import datetime
import errno
import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from detector import cli
from detector.cli import COMMANDS
from detector.commands import console
from proposals.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def in_a_process(*arguments: str, code: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """``python -m detector``, or Python's ``code``, from this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **options.pop("environment", {})}
    words = ["-c", code] if code else ["-m", "detector", *arguments]
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, check=False, **options
    )


def test_help_lists_every_verb() -> None:
    done = in_a_process("--help")
    assert done.returncode == 0
    for verb, summary in COMMANDS.items():
        assert any(verb in line and summary in line for line in done.stdout.splitlines())


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_verb_explains_itself_with_an_example(run_cli: Any, verb: str) -> None:
    assert (cli.function_of(verb).__doc__ or "").splitlines()[0] == COMMANDS[verb]
    done = run_cli(verb, "--help")
    assert done.code == 0
    assert f"detector {verb}" in done.out.partition("Example")[2]


@pytest.mark.parametrize(("verb", "rare"), [("detect", "--shard"), ("evaluate", "--crops"), ("train", "--jobs")])
def test_help_fits_a_screen_and_help_all_has_the_rest(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch, verb: str, rare: str
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    short, whole = run_cli(verb, "--help").out, run_cli(verb, "--help-all").out
    assert len(short.splitlines()) <= 42
    assert f"more options: detector {verb} --help-all" in short
    assert rare not in short.replace("--help-all", "")
    options = [name for param in cli.load_command(verb).params for name in param.opts if name.startswith("--")]
    assert all(f"{name} " in whole for name in options)
    assert "Long runs" in whole


def test_colours_only_on_terminals(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert run_cli("detect", "nowhere.jpg").err == "error: nowhere.jpg: no such file or folder; check the path\n"
    assert "\x1b" not in run_cli("--help").out + run_cli("detect", "--help").out + run_cli("detect", "--nope").err
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    assert run_cli("detect", "nowhere.jpg").err.startswith("\x1b[31m\x1b[1merror:\x1b[0m nowhere.jpg: ")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run_cli("detect", "nowhere.jpg").err


@pytest.mark.parametrize(
    ("words", "completed"),
    [("detector eval", {"evaluate", "evaluate-proposals"}), ("detector detect --score", {"--score-threshold"})],
)
def test_a_shell_completes_verbs_and_options(words: str, completed: set[str]) -> None:
    variables = {"_DETECTOR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = in_a_process(environment=variables)
    assert (done.returncode, set(done.stdout.split())) == (0, completed)


def test_version(run_cli: Any) -> None:
    done = run_cli("--version")
    assert (done.code, len(done.out.split())) == (0, done.out.count(" ") + 1)
    assert done.out.startswith("detector ")


def test_an_unknown_verb_is_a_wrong_command_line(run_cli: Any) -> None:
    done = run_cli("detekt")
    assert done.code == 2
    assert "'detekt'" in done.err
    assert "'detect'" in done.err, "the nearest verb is suggested"


def test_a_verb_that_cannot_be_imported_spoils_only_itself(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "broken", "Never works.")
    assert run_cli("--help").code == 0
    assert run_cli("detect", "--help").code == 0


def run_guarded(function: Callable[[], None]) -> int:
    """The exit code of a verb that does ``function``."""
    try:
        cli.reporting_faults(function)()
    except typer.Exit as end:
        return end.exit_code
    return 0


def test_a_users_fault_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def verb() -> None:
        raise UserError("a.jpg: broken\nin two lines")

    assert run_guarded(verb) == 1
    assert capsys.readouterr() == ("", "error: a.jpg: broken in two lines\n")


@pytest.mark.parametrize("error", [ZeroDivisionError(), ModuleNotFoundError("no_such_module")])
def test_a_fault_of_the_program_is_not_hidden(error: Exception) -> None:
    def verb() -> None:
        raise error

    with pytest.raises(type(error)):
        run_guarded(verb)


@pytest.mark.parametrize("where", [("runs/log.csv",), ()])
def test_a_full_disk_is_one_line(where: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    def verb() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *where)

    assert run_guarded(verb) == 1
    name = "".join(f"{path}: " for path in where)
    assert capsys.readouterr().err.startswith(f"error: {name}cannot write: No space left on device; free some space")


@pytest.mark.parametrize("place", ["", "missing"])
def test_an_unexpected_error_is_one_line_and_a_file_if_one_can_be_written(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    def check_nothing() -> Any:
        raise KeyError("a\nb\x1b[31m")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / place))
    monkeypatch.setattr("detector.commands.doctor.doctor", check_nothing)
    done = run_cli("doctor")
    assert (done.code, done.out) == (1, "")
    line = done.error_lines[-1]
    assert line.startswith("error: unexpected KeyError: ")
    assert "please report it" in line
    if place:
        assert "Traceback" in done.err
    else:
        (file,) = tmp_path.glob("detector-error-*.txt")
        assert str(file) in done.fault
        text = file.read_text(encoding="utf-8")
        assert "in check_nothing" in text
        assert "python: 3." in text


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_streams_take_any_text(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # cannot be reconfigured, and need not be
    console.tolerant_streams()
    print("猫 \udce9", file=stream, flush=True)
    assert stream.buffer.getvalue().decode(encoding) in ("\\u732b \\udce9\n", "猫 \\udce9\n")  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_messages_reach_a_stream_of_any_encoding(encoding: str, tmp_path: Path) -> None:
    done = in_a_process(
        "detect", "\u732b\udce9\x1b(B.jpg", cwd=tmp_path, environment={"PYTHONIOENCODING": encoding}, encoding="utf-8"
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    cat = "\u732b" if encoding == "utf-8" else "\\u732b"
    assert line == f"error: {cat}\\udce9\\x1b(B.jpg: no such file or folder; check the path"


def test_a_missing_library_of_opencv_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "cv2"
    package.mkdir()
    (package / "__init__.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)

    def verb() -> None:
        import cv2  # noqa: F401

    assert run_guarded(verb) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "libGL.so.1" in line
    assert "pip install opencv-python-headless" in line


def test_control_c_ends_without_a_traceback(tmp_path: Path) -> None:
    """The real signal, while a verb is at work."""
    code = (
        "import time\n"
        "from detector import cli\n"
        "from detector.commands import doctor\n"
        "def check_time():\n"
        "    print('at work', flush=True)\n"
        "    time.sleep(60)\n"
        "    yield\n"
        "doctor.CHECKS = (check_time,)\n"
        "cli.main(['doctor'])\n"
    )
    # A shell's background job, and so perhaps this test run, ignores the signal, and children inherit that.
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    """``detector ... | head -1``."""
    code = (
        "import os, sys\n"
        "from detector import cli\n"
        "from detector.commands import doctor\n"
        "doctor.CHECKS = ()\n"
        "read, write = os.pipe()\n"
        "os.dup2(write, 1); os.close(write); os.close(read)\n"
        "cli.main(['doctor'])\n"
    )
    done = in_a_process(code=code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_demo_shows_photographs_that_are_there() -> None:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    files = demo.photographs()
    assert [path for path in files if not path.is_file()] == []
    assert {"chelsea.png", "astronaut.png", "camera.png", "grace_hopper.jpg"} <= {path.name for path in files}


@pytest.mark.parametrize(
    ("done", "total", "seconds", "expected"),
    [
        (0, 10, 1.0, ""),
        (10, 100, 5.0, "2.0 images/s, ends 12:00"),
        (1, 4, 1200.0, "1200.0 s/image, ends 13:00"),
        (10, 24 * 3600, 10.0, "1.0 images/s, ends 2026-01-02 11:59"),
        (10, 10, 5.0, "2.0 images/s"),
        (10, None, 5.0, "2.0 images/s"),
    ],
)
def test_rate_and_end(done: int, total: int | None, seconds: float, expected: str) -> None:
    noon = datetime.datetime(2026, 1, 1, 12, 0)
    assert console.rate_and_end(done, total, seconds, "image", noon) == expected


def test_progress_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("detecting", 2, "image") as advance:
        advance()
        advance()
    assert capsys.readouterr() == ("", "")


# --- threads that wait for one another ----------


@pytest.mark.parametrize("variable", [*cli.WAITING, ""])
def test_threads_wait_briefly_unless_people_have_said_how(variable: str) -> None:
    environment = {variable: "as they like"} if variable else {"HOME": "/h"}
    before = environment.copy()
    cli.wait_briefly(environment)
    assert environment == (before if variable else {**before, cli.SPIN: cli.FEW_TURNS})


# Runs a verb that needs nothing, then loads PyTorch as any other verb would.
COMMAND_THEN_TORCH = """
from detector.cli import main
try:
    main(["--version"])
except SystemExit:
    import torch
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is what PyTorch computes with on Linux")
@pytest.mark.parametrize("given", [None, "77"])
def test_the_command_says_how_to_wait_before_pytorch_reads_it(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in cli.WAITING:
        monkeypatch.delenv(name, raising=False)
    own = {} if given is None else {cli.SPIN: given}
    done = in_a_process(code=COMMAND_THEN_TORCH, environment={**own, "OMP_DISPLAY_ENV": "verbose"})
    # Each OpenMP that is loaded tells its settings; PyTorch's own may not be the only one.
    assert set(re.findall(rf"{cli.SPIN} = '(\d+)'", done.stderr)) == {given or cli.FEW_TURNS}
