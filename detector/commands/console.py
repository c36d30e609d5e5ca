"""What the verbs show while they work: progress on standard error, and only where that is a terminal."""

from __future__ import annotations

import contextlib
import datetime
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from detector.shown import one_line
from proposals.errors import UserError

FAILED, SKIPPED, INTERRUPTED = 1, 3, 130
"""Exit codes, beside 0 for all done and 2 for a wrong command line."""


COLOURS = {"error": "red", "skipped": "yellow"}


def log(line: str) -> None:
    """One line on standard error; on a terminal its first word is coloured where it tells of a fault."""
    text = one_line(" ".join(line.splitlines()))
    word, colon, rest = text.partition(":")
    if word in COLOURS and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        text = f"{typer.style(word + colon, fg=COLOURS[word], bold=True)}{rest}"
    print(text, file=sys.stderr, flush=True)


def log_once(line: str) -> None:
    """As :func:`log`, but of several processes that torchrun has started only in the first."""
    if os.environ.get("RANK", "0") == "0":
        log(line)


def print_line(line: str) -> None:
    """One line on standard output."""
    print(one_line(line), flush=True)


def tolerant_streams() -> None:
    """Let standard output and error write any text: what their encoding lacks as ``\\xe9`` or ``\\u732b``."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a stand-in for a stream may have none
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or its file was exchanged for another kind
                reconfigure(errors="backslashreplace")


def quiet_pillow() -> None:
    """Ignore Pillow's warnings of what is odd in an image: what matters is in our own line about that image."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


@contextlib.contextmanager
def nothing_is_garbage() -> Iterator[None]:
    """Spare Python looking for garbage while modules are imported and a model is loaded.

    All that they make stays, and Python would look through it again and again as it grows.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class RateAndEnd(ProgressColumn):
    """``2.4 images/s, ends 14:32``; slow work counts the seconds of each."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(rate_and_end(task.completed, task.total, task.elapsed, self.unit, datetime.datetime.now()))


def rate_and_end(done: float, total: float | None, seconds: float | None, unit: str, now: datetime.datetime) -> str:
    """The rate so far, and when the rest will be done at that rate; nothing before the first is done."""
    if not done or not seconds:
        return ""
    rate = done / seconds
    text = f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"
    return text if total is None or done >= total else text + ending((total - done) / rate, now)


def ending(seconds: float, now: datetime.datetime) -> str:
    """``, ends 14:32``: when what takes so many ``seconds`` more will be done, with the date if not today."""
    end = now + datetime.timedelta(seconds=seconds)
    day = "" if end.date() == now.date() else f"{end:%Y-%m-%d} "
    return f", ends {day}{end:%H:%M}"


@contextlib.contextmanager
def progress(verb: str, total: float | None, unit: str) -> Iterator[Callable[[], None]]:
    """A progress bar; the block calls what it is given after each unit. Silent where there is no terminal."""
    console = Console(stderr=True)
    words = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), words, BarColumn(), MofNCompleteColumn(), RateAndEnd(unit))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(verb, total=total)
        yield lambda: bar.advance(task)


class Faults:
    """What becomes of a fault in one input: the end of the run, or a line on standard error, kept in ``told``."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.told: list[str] = []

    def __call__(self, fault: UserError) -> None:
        """Raise ``fault``, or tell of it and count it."""
        if not self.skip:
            raise fault
        self.told.append(str(fault))
        log(f"skipped: {fault}")

    @property
    def count(self) -> int:
        """How many there were."""
        return len(self.told)
