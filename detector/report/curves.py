"""The precision-recall curves that a report draws: the ones that AP is the area of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import envelope
from detector.evaluation.result import ClassResult

DRAWN_POINTS = 120


class Curve(NamedTuple):
    """Precision against recall, by ascending recall, and the score from which each point is reached; float64 ``(P,)``.

    The scores of a mean of curves are NaN.
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]


def interpolated(row: ClassResult) -> Curve:
    """At each recall that is reached, the best precision from there on; at most ``DRAWN_POINTS`` points."""
    steps = _steps(row)
    count = len(steps.recall)
    keep = np.unique(np.linspace(0, max(count - 1, 0), DRAWN_POINTS).round().astype(np.int64))[:count]
    return Curve(*(values[keep] for values in steps))


def mean_curve(rows: Iterable[ClassResult]) -> Curve:
    """The mean of the interpolated curves at recall 0, 0.01, ... 1; beyond its last recall, a class counts 0."""
    levels = np.linspace(0, 1, 101)
    curves = []
    for row in rows:
        if row.truths:
            recall, precision, _ = _steps(row)
            curves.append(np.append(precision, 0.0)[np.searchsorted(recall, levels - 1e-9, side="left")])
    if not curves:
        return Curve(*(np.zeros(0),) * 3)
    return Curve(levels, np.mean(curves, axis=0), np.full(len(levels), np.nan))


def _steps(row: ClassResult) -> Curve:
    """The whole curve: the points where the recall rises."""
    if not row.truths or not len(row.recall):
        return Curve(*(np.zeros(0),) * 3)
    rises = np.diff(row.recall, prepend=0.0) > 0
    return Curve(row.recall[rises], envelope(row.precision)[rises], row.scores[rises])
