"""Class names: one line, unique, and never taken for ids."""

from __future__ import annotations

import pytest

from detector.data.classes import Classes, class_name
from proposals.errors import UserError


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cat", "cat"),
        (" cat\n", "cat"),
        ("cat\r\n dog", "cat dog"),
        (7, "7"),
        ("", ""),
        (" \t", ""),
        (None, ""),
        (True, ""),
        (["cat"], ""),
        ("\ud800", "?"),
    ],
)
def test_class_name(given: object, name: str) -> None:
    assert class_name(given) == name


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        (["a", "a"], ("a (1)", "a (2)")),
        (["a", "a", "a (1)"], ("a (1) 2", "a (2)", "a (1)")),
        (["", None, "2"], ("1", "2 (2)", "2 (3)")),
        (["a\n", "a"], ("a (1)", "a (2)")),
    ],
)
def test_names_are_unique(names: list[object], unique: tuple[str, ...]) -> None:
    assert Classes.named(range(1, len(names) + 1), names).names == unique


def test_names_that_look_like_ids_are_names() -> None:
    table = Classes((1, 2, 3), ("0", "1", "2"))
    assert table.chosen(["0", "1", "2"], "x") == table
    assert table.chosen(["2", "3"], "x") == Classes((3, "3"), ("2", "3"))  # 3 is no name here, and no id either
    assert table.chosen(["3"], "x") == Classes((3,), ("2",))  # nothing is a name: ids


def test_a_wanted_class_that_has_the_id_of_another() -> None:
    table = Classes(("dog", "b"), ("cat", "bird"))
    assert table.chosen(["cat", "cow"], "x") == Classes(("dog", "cow"), ("cat", "cow"))
    with pytest.raises(UserError, match="names a class twice"):
        table.chosen(["cat", "dog"], "x")


def test_wanted_classes_set_the_label_order_by_name_or_key() -> None:
    table = Classes(("n1", "n2", 3), ("cat", "dog", "cow"))
    assert table.chosen(None, "x") is table
    assert table.chosen(["cow", "n1"], "x") == Classes((3, "n1"), ("cow", "cat"))
    assert table.chosen(["3", "unicorn"], "x") == Classes((3, "unicorn"), ("cow", "unicorn"))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [(["cat", "cat"], "more than once"), (["Cat"], "none of the wanted classes .* it has cat, dog"), ([], "none of")],
)
def test_wrong_wanted_classes(wanted: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Classes.of_names(["cat", "dog"]).chosen(wanted, "somewhere")
