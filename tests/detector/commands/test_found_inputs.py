"""Lists on disk are what lists in memory would be."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.commands.found_inputs import AT_ONCE, FoundInputs, Names, sorted_on_disk
from proposals.errors import UserError


def found(count: int) -> FoundInputs[int]:
    items: FoundInputs[int] = FoundInputs()
    for number in range(count):
        items.append(number)
    return items


@given(st.sampled_from([0, 1, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE + 3]), st.integers(-700, 700), st.integers(-700, 700))
def test_items_and_slices_are_those_of_a_list(count: int, first: int, last: int) -> None:
    items, wanted = found(count), list(range(count))
    view = items[first:last]
    assert list(items) == wanted
    assert list(view) == wanted[first:last]
    assert list(view[1:]) == wanted[first:last][1:]
    assert len(view) == len(wanted[first:last])
    if count:
        assert (items[0], items[-1]) == (0, count - 1)
    with pytest.raises(IndexError):
        items[count]
    with pytest.raises(ValueError, match="neighbours"):
        items[::2]


def test_other_threads_read_it() -> None:
    items = found(3 * AT_ONCE)
    with ThreadPoolExecutor(2) as pool:
        assert [list(part) for part in pool.map(list, [items, items[5:]])] == [
            list(range(3 * AT_ONCE)),
            list(range(5, 3 * AT_ONCE)),
        ]


@given(st.lists(st.sampled_from(["a", "a-2", "a-2-2", "b", os.fsdecode(b"\xff")])))
def test_unique_names_differ_and_say_what_they_are_of(wanted: list[str]) -> None:
    names = Names()
    unique_names = [names.unique(name) for name in wanted]
    assert len(set(unique_names)) == len(unique_names)
    for name, unique in zip(wanted, unique_names, strict=True):
        assert re.fullmatch(re.escape(name) + r"(-\d+)?", unique)
    assert not any(names.add(name) for name in unique_names)


def test_a_name_that_comes_again_is_numbered() -> None:
    names = Names()
    assert [names.unique("a") for _ in range(4)] == ["a", "a-2", "a-3", "a-4"]
    assert names.unique("a-2") == "a-2-2"


@given(st.lists(st.tuples(st.binary(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))))
def test_pairs_are_sorted(pairs: list[tuple[bytes, str]]) -> None:
    wanted = [name for _, name in sorted((key, name.encode()) for key, name in pairs)]
    assert [name.encode() for name in sorted_on_disk(pairs)] == wanted


def test_a_full_disk_is_one_line() -> None:
    items: FoundInputs[bytes] = FoundInputs()
    items._database.do("PRAGMA max_page_count = 3")
    with pytest.raises(UserError, match=r"temporary file: database or disk is full; TMPDIR may name another folder"):
        for _ in range(100 * AT_ONCE):
            items.append(bytes(1000))
