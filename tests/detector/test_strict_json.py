"""JSON that any text survives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.strict_json import json_text


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_survives_a_file(text: str) -> None:
    content = json_text({text: [text]}).encode("utf-8")
    assert json.loads(content) == {text: [text]}


def test_letters_stay_readable() -> None:
    assert json_text({"name": "Käse 猫"}) == '{"name": "Käse 猫"}'


@pytest.mark.parametrize("letter", ["\x1b", "\x7f", "\x9b", "\u202e", "\udce9"])
def test_what_a_terminal_would_obey_is_escaped(letter: str) -> None:
    assert json_text(letter) == f'"\\u{ord(letter):04x}"'


def test_no_number_is_written_that_json_lacks() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_text(float("nan"))
