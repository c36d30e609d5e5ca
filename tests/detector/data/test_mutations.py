"""Whatever stands in an annotation file, the outcome is a sound data set with its faults counted, or one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import PIECES, mutated_words
from set_outcomes import outcomes
from small_sets import FILES, make_small_set

ROUNDS = 8
"""Mutations of each file."""
NAMES = [name for name, files in FILES.items() if files]
DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.0, 1.5, 1e20, 1e300, float("nan"), float("inf"), 10**30, 10**400, "", " ", "x", "1",
    "\ud800", "\0", "a\nb", "../a.png", "/etc/passwd", "a.PNG", "x" * 5000, [], {}, [1], [[1]], {"id": 1}, DEEP,
]  # fmt: skip


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
    found = set()
    for file in make_small_set(tmp_path, name):
        good = file.read_bytes()
        for seed in range(ROUNDS):
            file.write_bytes(mutated_words(good, seed))
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
