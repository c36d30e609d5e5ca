"""Names from data become one part of a path inside the folder that they are meant for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.path_part import path_part, path_parts


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
