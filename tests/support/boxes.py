"""Detections and objects of an image from plain lists; one label, or flag, may stand for all."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.types import Detections, GroundTruth


def found_of(boxes: Any, scores: Any = None, labels: Any = 0, size: tuple[int, int] = (400, 400)) -> Detections:
    """Detections in any order; without ``scores`` each is surer than the next one."""
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    given = np.linspace(0.9, 0.1, len(rows)) if scores is None else scores
    return Detections.sorted(rows, _each(given, len(rows), np.float32), _each(labels, len(rows), np.int64), size)


def truth_of(boxes: Any, labels: Any = 0, ignore: Any = False, crowd: Any = False) -> GroundTruth:
    """Objects, the area of each that of its box."""
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    area = (rows[:, 2:].astype(np.float64) - rows[:, :2]).prod(axis=1)
    flags = (_each(flag, len(rows), np.bool_) for flag in (ignore, crowd))
    return GroundTruth(rows, _each(labels, len(rows), np.int64), *flags, area)


def _each(values: Any, count: int, dtype: type) -> Any:
    return np.array(np.broadcast_to(np.array(values, dtype), count))
