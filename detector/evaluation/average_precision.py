"""Precision, recall and the three readings of average precision, in numpy.

The 11-point and the area reading are those of the VOC devkits, the 101-point one is COCO's. All take the curve of one
class by descending score, without the ignored detections, and return a fraction; no detections give 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matches import ApStyle

FloatArray = NDArray[np.float64]

# The devkit writes 0:0.1:1, and MATLAB counts from both ends: 3 * 0.1 = 0.30000000000000004 but 1 - 4 * 0.1 = 0.6. So a
# recall of exactly 3/10 does not reach the fourth level there, and must not here; one of 6/10 reaches the seventh.
ELEVEN_LEVELS: FloatArray = np.array([i * 0.1 if i <= 5 else 1 - (10 - i) * 0.1 for i in range(11)])
# COCO's levels, as its reference makes them.
COCO_LEVELS: FloatArray = np.linspace(0.0, 1.0, 101)
RECALL_LEVELS: dict[ApStyle, FloatArray] = {"11 point": ELEVEN_LEVELS, "area": np.zeros(0), "101 point": COCO_LEVELS}
for _levels in RECALL_LEVELS.values():
    _levels.flags.writeable = False


def precision_recall(true_positive: NDArray[np.bool_], positives: int) -> tuple[FloatArray, FloatArray]:
    """Recall and precision ``(N,)`` after each of N detections by descending score.

    Args:
        true_positive: ``(N,)``; a detection that is not one is a false positive.
        positives: how many truths count; with 0 the recall is NaN.
    """
    true = np.cumsum(true_positive, dtype=np.float64)
    precision = true / np.arange(1, len(true) + 1)
    recall = true / positives if positives else np.full(len(true), np.nan)
    return recall, precision


def mean_ap(aps: FloatArray) -> float:
    """The mean of those that are defined, NaN if none is."""
    defined = aps[~np.isnan(aps)]
    return float(defined.mean()) if len(defined) else float("nan")


def envelope(precision: FloatArray) -> FloatArray:
    """The highest precision at this or any later point, ``(N,)``."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def ap_at_levels(recall: FloatArray, precision: FloatArray, levels: FloatArray) -> float:
    """Mean over ``levels`` of the highest precision at that recall or more; 0 where it is not reached."""
    index = np.searchsorted(recall, levels, side="left")
    padded = np.append(envelope(precision), 0.0)
    return float(padded[index].mean())


def ap_area(recall: FloatArray, precision: FloatArray) -> float:
    """VOC 2010 and later, ILSVRC: the area under the envelope of the curve."""
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope(precision)))


def average_precision(recall: FloatArray, precision: FloatArray, style: ApStyle) -> float:
    """AP by one of the three readings; NaN where recall is NaN (no truth)."""
    if len(recall) and np.isnan(recall[0]):
        return float("nan")
    if style == "area":
        return ap_area(recall, precision)
    return ap_at_levels(recall, precision, RECALL_LEVELS[style])
