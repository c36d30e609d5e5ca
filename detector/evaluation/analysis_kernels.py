"""The loops behind the error analysis and the confusion matrix, compiled once by numba."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.evaluation.kernels import corner_iou


@njit(cache=True, nogil=True)
def nearest_truths(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    truth_boxes: NDArray[np.float64],
    truth_labels: NDArray[np.int64],
    truth_iou: NDArray[np.float64],
    taken: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The truths of its image that matter to each detection.

    Args:
        boxes, labels: ``(N, 4)``, ``(N,)``. first, last: ``(N,)``, the range of truths of each detection's image.
        truth_boxes, truth_labels, truth_iou, taken: ``(M, ...)`` counted truths, sorted by image; the IoU that each
            asks for, and whether a true positive has it.

    Returns:
        ``(N, 4)`` truths, -1 for none, and ``(N, 4)`` IoUs: the nearest of the class; the nearest of another class that
        is covered; the nearest of the class that is covered and taken; the nearest of all.
    """
    truth = np.full((len(boxes), 4), -1, np.int64)
    iou = np.zeros((len(boxes), 4))
    for d in range(len(boxes)):
        for g in range(first[d], last[d]):
            value = corner_iou(boxes[d], truth_boxes[g])
            own = truth_labels[g] == labels[d]
            covered = value >= truth_iou[g]
            wanted = (own, not own and covered, own and covered and taken[g], True)
            for k in range(4):
                if wanted[k] and (truth[d, k] < 0 or value > iou[d, k]):
                    truth[d, k], iou[d, k] = g, value
    return truth, iou


@njit(cache=True, nogil=True)
def best_iou(
    boxes: NDArray[np.float64], first: NDArray[np.int64], last: NDArray[np.int64], proposals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The highest IoU ``(M,)`` of each box ``(M, 4)`` with its range of ``proposals`` ``(P, 4)``; 0 without any."""
    best = np.zeros(len(boxes))
    for g in range(len(boxes)):
        for p in range(first[g], last[g]):
            best[g] = max(best[g], corner_iou(boxes[g], proposals[p]))
    return best


@njit(cache=True, nogil=True)
def pair_by_iou(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    starts: NDArray[np.int64],
    truth_boxes: NDArray[np.float64],
    truth_labels: NDArray[np.int64],
    truth_starts: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Pairs of detections and truths within each image, one to one, the highest IoU first.

    Of equal IoUs a pair of one class goes first, then the earlier detection, then the earlier truth.

    Args:
        boxes, labels: ``(N, 4)``, ``(N,)`` sorted by image. starts: ``(I + 1,)`` where each image starts; truths alike.
        iou_threshold: least IoU of a pair.

    Returns:
        ``(N,)`` the truth of each detection, or -1.
    """
    partner = np.full(len(boxes), -1, np.int64)
    used = np.zeros(len(truth_boxes), np.bool_)
    for i in range(len(starts) - 1):
        d0, d1, g0, g1 = starts[i], starts[i + 1], truth_starts[i], truth_starts[i + 1]
        if d0 == d1 or g0 == g1:
            continue
        ious = np.empty((d1 - d0, g1 - g0))
        for d in range(d0, d1):
            for g in range(g0, g1):
                ious[d - d0, g - g0] = corner_iou(boxes[d], truth_boxes[g])
        for _ in range(min(d1 - d0, g1 - g0)):
            best_d, best_g, best, same = -1, -1, -1.0, False
            for d in range(d0, d1):
                if partner[d] >= 0:
                    continue
                for g in range(g0, g1):
                    value = ious[d - d0, g - g0]
                    if used[g] or value < iou_threshold or value < best:
                        continue
                    own = labels[d] == truth_labels[g]
                    if value > best or (own and not same):
                        best_d, best_g, best, same = d, g, value, own
            if best_d < 0:
                break
            partner[best_d] = best_g
            used[best_g] = True
    return partner
