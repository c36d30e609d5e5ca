"""Words of strangers cannot steer a terminal, and faults of JSON are told in a few words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.shown import brief, one_line, shown
from detector.strict_json import JSON_FAULTS, json_fault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "cat"),
        ("Kaffee, schwarz 猫 é", "Kaffee, schwarz 猫 é"),
        ("[/] [red]x[/red]", "[/] [red]x[/red]"),
        ("\x1b[31mcat\x1b]0;title\x07", r"\x1b[31mcat\x1b]0;title\x07"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\u202eb\u2028c", r"a\u202eb\u2028c"),
        ("\ud800\udce9", r"\ud800\udce9"),
        ("a\u3000b", "a\u3000b"),
        ("", ""),
    ],
)
def test_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_one_line_that_utf_8_can_hold(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line
    line.encode("utf-8")
    assert one_line(line) == line


def test_long_values_are_cut() -> None:
    assert shown("x" * 1000, 10) == "xxxxxxx..."
    assert len(brief(list(range(1000)))) < 100
    assert len(brief({"x" * 1000: ["y" * 1000] * 9})) < 1000
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert len(brief(deep)) < 100
    while deep:  # so that freeing it needs no deep recursion
        deep = deep.pop()
    assert brief("\x1b[31m") == r"'\x1b[31m'"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes"),
        ("7" * 5000, "a number of too many digits"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_faults_of_json_in_words(text: str, reason: str) -> None:
    with pytest.raises(JSON_FAULTS) as caught:
        json.loads(text)
    assert json_fault(caught.value) == reason
