"""Boxes around segmentations, checked against pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as reference

from detector.data.coco_content import box_of_segmentation


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.2, 0.9]))
def test_masks_as_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    encoded = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
    columns = mask.ravel("F").astype(np.int8)
    changes = np.flatnonzero(np.diff(columns)) + 1
    runs = np.diff([0, *changes, len(columns)]).tolist()
    numbers = {"size": [height, width], "counts": [0, *runs] if columns[0] else runs}
    expected = tuple(reference.toBbox(encoded).tolist()) if mask.any() else None
    assert box_of_segmentation(text) == expected
    assert box_of_segmentation(numbers) == expected


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([[1, 1, 20, 1, 20, 20, 1, 20]], (1, 1, 19, 19)),
        ([[1, 2, 3, 4.5, 5, 6], [0, 3, 2, 3, 1, 9]], (0, 2, 5, 7)),
        ([1, 2, 3, 4, 5, 6], (1, 2, 4, 4)),  # one polygon without the list around it
    ],
)
def test_polygons(segmentation: Any, box: tuple[float, ...]) -> None:
    assert box_of_segmentation(segmentation) == box


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[]],
        "x",
        3,
        [[1, 2, 3]],
        [[1, 2, 3, None, 5, 6]],
        [[1, 2, 3, float("nan")]],
        [[1, 2, [3], 4]],
        [[1, 2, 10**400, 4]],
        {},
        {"size": [3, 3]},
        {"size": [3, 3], "counts": 5},
        {"size": [3, 3], "counts": [1, -1, 9]},
        {"size": [3, 3], "counts": [0, 10]},
        {"size": [3, 3], "counts": ["a"]},
        {"size": [3, 3], "counts": [10**30, 1]},
        {"size": [3], "counts": [0, 9]},
        {"size": ["3", 3], "counts": [0, 9]},
        {"size": [3, 3], "counts": "\u2603"},
        {"size": [3, 3], "counts": "o" * 40},
        {"size": [3, 3], "counts": "0P"},
        {"size": [3, 3], "counts": [9]},
    ],
)
def test_what_is_no_segmentation(segmentation: Any) -> None:
    assert box_of_segmentation(segmentation) is None
