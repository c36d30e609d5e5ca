"""Names are shown on a terminal, not obeyed by it."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from detector.commands.console import tolerant_streams
from detector.commands.train_common import show_progress
from detector.shown import one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Käse 猫 [bold]", "Käse 猫 [bold]"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f", "\\x7f"),
        ("abc\u202egpj", "abc\\u202egpj"),
        ("lat\udce9in", "lat\\udce9in"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_one_line_that_utf_8_can_hold(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode("utf-8")
    assert one_line(shown) == shown


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_streams_take_any_text(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # cannot be reconfigured, and need not be
    tolerant_streams()
    print("猫 \udce9", file=stream, flush=True)
    assert stream.buffer.getvalue().decode(encoding) in ("\\u732b \\udce9\n", "猫 \\udce9\n")  # type: ignore[attr-defined]


class Entry(BaseModel):
    """Of a training log."""

    step: int = 3
    epoch: float = 0.5


@pytest.mark.parametrize("terminal", [False, True])
def test_the_progress_of_training(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with show_progress(10, lambda entry: ("class [/bold] :smile: \x1b]0;x\x07", True)) as report:
        report(Entry())
    said = capsys.readouterr().err
    assert "class [/bold] :smile: \\x1b]0;x\\x07" in said
    assert "\x1b]0;" not in said
