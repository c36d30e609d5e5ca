"""The box around one of COCO's segmentations, for annotations that have nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.data.numbers import number

_MAX_PIXELS = 2**31


def box_of_segmentation(segmentation: Any) -> tuple[float, float, float, float] | None:
    """``x y width height`` around a segmentation, in pixels; None if it is none.

    Args:
        segmentation: as JSON has it: polygons, each a list ``x y x y ...``, or a mask in run-length encoding with
            ``size`` (height, width) and ``counts``, numbers or COCO's text.
    """
    if isinstance(segmentation, dict):
        return _box_of_mask(segmentation)
    if not isinstance(segmentation, list):
        return None
    polygons = segmentation if all(isinstance(part, list) for part in segmentation) else [segmentation]
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        values = [number(value) for value in polygon]
        if len(values) < 4 or len(values) % 2 or any(math.isnan(value) for value in values):
            return None
        xs += values[::2]
        ys += values[1::2]
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if xs else None


def _box_of_mask(mask: dict[str, Any]) -> tuple[float, float, float, float] | None:
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        return None
    height, width = (number(side) for side in size)
    if not (1 <= height < _MAX_PIXELS and 1 <= width < _MAX_PIXELS):
        return None
    runs = _runs(counts)
    if runs is None or len(runs) < 2 or runs.min() < 0 or runs.max() >= _MAX_PIXELS:
        return None
    # Runs go down the columns, and every second one is of the object.
    ends = np.cumsum(runs)
    starts, stops = ends[:-1:2], ends[1::2]
    starts = starts[: len(stops)]
    some = stops > starts
    if not some.any() or ends[-1] > height * width:
        return None
    starts, last = starts[some], stops[some] - 1
    rows = int(height)
    left, right = int(starts.min() // rows), int(last.max() // rows) + 1
    if np.any(starts // rows != last // rows):  # a run into the next column holds a last and a first row
        top, bottom = 0, rows
    else:
        top, bottom = int((starts % rows).min()), int((last % rows).max()) + 1
    return float(left), float(top), float(right - left), float(bottom - top)


def _runs(counts: Any) -> NDArray[np.int64] | None:
    """``(R,)`` lengths of runs, the first of background."""
    if isinstance(counts, list):
        values = [number(value) for value in counts]
        if not all(0 <= value < _MAX_PIXELS for value in values):
            return None
        return np.array(values, np.int64)
    if not isinstance(counts, str):
        return None
    # Five bits a letter, the lowest first, the sixth says that more follow; from the fourth on, differences.
    runs: list[int] = []
    value, shift = 0, 0
    for letter in counts:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
            if not 0 <= runs[-1] < _MAX_PIXELS:
                return None
    return np.array(runs, np.int64) if shift == 0 else None
