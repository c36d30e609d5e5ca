"""Words of strangers: on a terminal, in JSON, and as the name of a file in the folder that it is meant for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.shown import JSON_FAULTS, brief, json_fault, json_text, one_line, path_part, path_parts, shown


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


@pytest.mark.parametrize("name", ["000001", "a b", "Käse", "猫", "x.y", "a-2", "100%", "img [1]", "x" * 200])
def test_the_name_of_a_file_stays(name: str) -> None:
    assert path_part(name) == name


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("../../etc/passwd", "_._.._etc_passwd-"),
        ("/etc/passwd", "_etc_passwd-"),
        ("a/b", "a_b-"),
        ("a\\b", "a_b-"),
        ("..", "_.-"),
        (".", "_-"),
        ("", "_-"),
        ("   ", "_-"),
        (" a ", "a-"),
        (".ssh", "_ssh-"),
        ("a\0b", "a_b-"),
        ("a\nb", "a_b-"),
        ("a\u2028b", "a_b-"),
        ("\x1b[31mred", "_[31mred-"),
        ("lat\udce9in", "lat_in-"),
        ("x" * 5000, "x" * 200 + "-"),
        ("猫" * 100, "猫" * 66 + "-"),
    ],
)
def test_other_names_become_one(name: str, begin: str) -> None:
    found = path_part(name)
    assert found[: len(begin)] == begin
    assert len(found) == len(begin) + 12, "a digest follows"


def test_different_names_stay_different() -> None:
    names = ["a/b", "a\\b", "a_b", "a\nb", "a\0b", "x" * 300, "x" * 301, "", " ", "_"]
    assert len({path_part(name) for name in names}) == len(names)


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text_is_one_part_below_the_folder(name: str) -> None:
    part = path_part(name)
    path = Path("folder") / part
    assert path.parent == Path("folder")
    assert path.name == part not in ("", ".", "..")
    assert len(f"{part}.jpg".encode()) <= 255
    assert path_part(part) == part


def test_folders_of_an_id_are_parts_of_their_own() -> None:
    assert path_parts("2007/clip/000001") == "2007/clip/000001"
    assert ".." not in path_parts("../a/../../b").split("/")
