"""How well proposals cover the annotated objects: recall, average recall, ABO and MABO by number of proposals.

Words: a truth is one annotated box; its *best overlap* at a budget ``b`` is the greatest IoU that any of the first
``b`` proposals of its image has with it, 0 where there are none. Everything else follows from the table of best
overlaps, ``(T, B)`` float64 for T truths of all images pooled and B budgets.

Protocols differ in the truths that count, so every figure must say which ones did: Uijlings et al. (IJCV 2013) leave
out VOC's "difficult" objects and average over classes; Hosang et al. (PAMI 2015) pool all truths. Leave truths out
before calling :func:`best_overlaps`; :func:`recall` pools, :func:`mean_over_classes` averages over classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from proposals.boxes import iou

FloatTable = NDArray[np.float64]


def best_overlaps(
    proposals: Sequence[NDArray[np.floating]], truths: Sequence[NDArray[np.floating]], budgets: Sequence[int]
) -> FloatTable:
    """The best overlap ``(T, B)`` of every truth at every budget.

    Args:
        proposals: boxes ``(N, 4)`` of each image, best first. truths: annotated boxes ``(M, 4)`` of each image, in the
            same order; T is the sum of all M. budgets: numbers of proposals, each at least 1.

    Raises:
        ValueError: not as many images in both, or a budget below 1.
    """
    if len(proposals) != len(truths):
        raise ValueError(f"proposals of {len(proposals)} images, truths of {len(truths)}")
    if any(budget < 1 for budget in budgets):
        raise ValueError(f"budgets must be at least 1, not {list(budgets)}")
    tables = [np.zeros((0, len(budgets)))]
    for boxes, truth in zip(proposals, truths, strict=True):
        table = np.zeros((len(truth), len(budgets)))
        if len(boxes) and len(truth):
            overlap = iou(truth.astype(np.float64), boxes.astype(np.float64))
            reached = np.maximum.accumulate(overlap, axis=1)
            table = reached[:, [min(budget, len(boxes)) - 1 for budget in budgets]]
        tables.append(table)
    return np.concatenate(tables)


def recall(overlaps: FloatTable, iou_threshold: float) -> FloatTable:
    """Share ``(B,)`` of the truths with a best overlap of at least ``iou_threshold``; NaN where there are no truths."""
    return _mean((overlaps >= iou_threshold).astype(np.float64))


def average_recall(overlaps: FloatTable) -> FloatTable:
    """AR ``(B,)``: twice the integral of recall over IoU 0.5 to 1 (Hosang et al.); NaN where there are no truths.

    A truth of best overlap v counts as recalled up to the threshold v, so the integral is the mean of v - 0.5 above 0.
    """
    return _mean(2 * np.maximum(overlaps - 0.5, 0))


def average_best_overlap(overlaps: FloatTable) -> FloatTable:
    """ABO ``(B,)``: mean best overlap of these truths; NaN where there are none."""
    return _mean(overlaps)


def mean_over_classes(per_truth: FloatTable, labels: NDArray[np.int64]) -> FloatTable:
    """The mean ``(B,)`` over the classes that occur of each class's mean; with best overlaps this is MABO.

    Args:
        per_truth: ``(T, B)``, the best overlaps or, for a class-averaged recall, ``overlaps >= threshold``.
        labels: class ``(T,)`` of each truth.
    """
    if len(labels) != len(per_truth):
        raise ValueError(f"{len(labels)} labels for {len(per_truth)} truths")
    classes = np.unique(labels)
    if not len(classes):
        return np.full(per_truth.shape[1], np.nan)
    means: FloatTable = np.stack([per_truth[labels == label].mean(axis=0) for label in classes]).mean(axis=0)
    return means


def mean_average_best_overlap(overlaps: FloatTable, labels: NDArray[np.int64]) -> FloatTable:
    """MABO ``(B,)``: ABO of each class, averaged over the classes that occur; ``labels`` ``(T,)``."""
    return mean_over_classes(overlaps, labels)


def mean_number(proposals: Sequence[NDArray[np.floating]], budgets: Sequence[int]) -> FloatTable:
    """Mean number ``(B,)`` of proposals per image that each budget leaves; NaN where there are no images."""
    used = np.array([[min(len(boxes), budget) for budget in budgets] for boxes in proposals], np.float64)
    return _mean(used.reshape(-1, len(budgets)))


def _mean(values: FloatTable) -> FloatTable:
    if not len(values):
        return np.full(values.shape[1], np.nan)
    means: FloatTable = values.mean(axis=0)
    return means
