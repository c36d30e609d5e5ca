"""Whatever stands in an annotation file, the outcome is a sound data set with its faults counted, or one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_sets import FILES, make_small_set

from detector.data import Dataset, dataset_splits, load_dataset
from proposals.errors import UserError

ROUNDS = 8
"""Mutations of each file."""
NAMES = [name for name, files in FILES.items() if files]
PIECES = [
    b"", b"\0", b"nan", b"-1", b"1e999", b"1e300", b"<", b">", b'"', b"'", b"[", b"{}", b"null", b"../", b"\xff", b"\n",
    b"9" * 400, b"9" * 5000, b" ", b"\t1", b" -1", b"\xed\xa0\x80", b"\xc3\xa4", b"a\xcc\x88", b"true", b"~", b"yes",
    b"2020-13-45", b"&a", b"*a", b"<<: ", b"? [a]\n: ", b"!!binary ", b"!!python/name:os.system ", b"#", b": ", b"=",
    b"/dev/zero", b"/", b"C:\\", b"https://h/", b"%00", b"[" * 3000, b"x" * 5000, b"A.PNG", b"<!DOCTYPE a>", b"&#1;",
    b'<?xml version="1.0" encoding="x"?>', b"\xef\xbb\xbf", b"0.5", b"1.0", b"-0", b"\xc2\xb2", b"\xd9\xa3",
]  # fmt: skip
DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.0, 1.5, 1e20, 1e300, float("nan"), float("inf"), 10**30, 10**400, "", " ", "x", "1",
    "\ud800", "\0", "a\nb", "../a.png", "/etc/passwd", "a.PNG", "x" * 5000, [], {}, [1], [[1]], {"id": 1}, DEEP,
]  # fmt: skip


def outcomes(root: Path) -> Iterator[str]:
    """What reading each split came to; fails where it is neither a data set nor one line."""
    try:
        splits: tuple[str | None, ...] = (*dataset_splits(root), None)
    except UserError as error:
        assert_one_line(str(error))
        yield "error"
        return
    for split in splits:
        for classes in (None, ["cat", "0"]):
            try:
                dataset = load_dataset(root, split, classes)
            except UserError as error:
                assert_one_line(str(error))
                yield "error"
            else:
                assert_sound(dataset)
                yield "faults" if dataset.faults else "no faults"


def assert_one_line(message: str) -> None:
    assert message.isprintable()
    assert message


def assert_sound(dataset: Dataset) -> None:
    sides = dataset.boxes[:, 2:] - dataset.boxes[:, :2]
    assert np.isfinite(dataset.boxes).all()
    assert (sides > 0).all()
    assert np.isfinite(dataset.area).all()
    assert all(name and " ".join(name.split()) == name for name in dataset.class_names)
    assert len(set(dataset.class_keys)) == len(dataset.class_keys)
    assert len(set(dataset.image_ids)) == len(dataset)
    for record in dataset:
        assert record.path.resolve().is_relative_to(dataset.root.resolve())
        assert min(record.image_size) > 0
    for fault in dataset.faults:
        assert_one_line(str(fault))


@pytest.mark.parametrize("name", NAMES)
def test_bytes(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    found = set()
    for file in make_small_set(tmp_path, name):
        good = file.read_bytes()
        for _ in range(ROUNDS):
            start = int(rng.integers(len(good) + 1))
            stop = start + int(rng.integers(0, 12))
            file.write_bytes(good[:start] + PIECES[rng.integers(len(PIECES))] + good[stop:])
            found.update(outcomes(tmp_path))
        file.write_bytes(good)
    assert found & {"faults", "error"}


@pytest.mark.parametrize("name", NAMES)
def test_words(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(1)
    found = set()
    for file in make_small_set(tmp_path, name):
        good = file.read_bytes()
        words = list(re.finditer(rb"[\w.]+", good))
        for _ in range(ROUNDS):
            word = words[rng.integers(len(words))]
            file.write_bytes(good[: word.start()] + PIECES[rng.integers(len(PIECES))] + good[word.end() :])
            found.update(outcomes(tmp_path))
        file.write_bytes(good)
    assert found & {"faults", "error"}


@pytest.mark.slow
def test_every_value_of_cocos_json(tmp_path: Path) -> None:
    """Each field in turn is every sixth of the values, or is missing."""
    (file,) = make_small_set(tmp_path, "coco")
    good = json.loads(FILES["coco"]["labels.json"])
    found = set()
    for start, path in enumerate(list(paths_in(good))):
        for value in (*VALUES[start % 6 :: 6], ...):
            content = json.loads(json.dumps(good))
            holder = content
            for key in path[:-1]:
                holder = holder[key]
            if value is ...:
                del holder[path[-1]]
            else:
                holder[path[-1]] = value
            file.write_text(json.dumps(content))
            found.update(outcomes(tmp_path))
    assert found == {"no faults", "faults", "error"}


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value within ``value``."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from paths_in(child, (*path, key))
