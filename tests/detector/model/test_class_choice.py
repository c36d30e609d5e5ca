"""What people may call a model's classes."""

from __future__ import annotations

import pytest

from detector.model.config import chosen_labels
from proposals.errors import UserError

NAMES = ("Egyptian cat", "Persian cat", "crane", "Crane", "catamaran", "school bus")
KEYS = ("n1", "n2", "n3", "n4", "n5", "crane")


@pytest.mark.parametrize(
    ("wanted", "labels"),
    [
        (["school bus"], (5,)),
        (["School Bus ", "egyptian cat"], (0, 5)),
        (["n2", "Persian cat", "persian CAT"], (1,)),
        (["crane"], (2,)),  # a name goes before an id, and one in these very letters before another's
        (["Crane"], (3,)),
    ],
)
def test_names_ids_and_other_capitals(wanted: list[str], labels: tuple[int, ...]) -> None:
    assert chosen_labels(wanted, NAMES, KEYS) == labels


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("cat", r"did you mean 'Egyptian cat', 'Persian cat', 'catamaran'\?"),
        ("CRANE", r"did you mean 'crane', 'Crane'\?"),
        ("shcool bus", r"did you mean 'school bus'\?"),
        ("zebra", "its 6 names stand in model.yaml"),
        ("", "its 6 names stand in model.yaml"),
    ],
)
def test_an_unknown_name_is_told_what_comes_near(wanted: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"^the model has no class '{wanted}'; {hint}$"):
        chosen_labels([wanted], NAMES, KEYS)


def test_one_name_needs_no_list() -> None:
    assert chosen_labels("Persian cat", NAMES, KEYS) == (1,)


def test_no_class_is_no_choice() -> None:
    with pytest.raises(UserError, match="name at least one"):
        chosen_labels([], NAMES, KEYS)
