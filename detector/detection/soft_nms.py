"""Soft non-maximum suppression (Bodla et al., Soft-NMS, ICCV 2017): neighbours lose score instead of being dropped.

Where objects touch or overlap, plain suppression has to choose: a low threshold loses the object behind, a high one
leaves duplicates with full score. Here what overlaps a better box by an IoU of o keeps exp(-o^2 / sigma) of its score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proposals.boxes import FloatArray, iou


def soft_nms(
    boxes: FloatArray, scores: FloatArray, labels: NDArray[np.int64], sigma: float, lowest: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The boxes that are left and their new scores, class by class, best first.

    Args:
        boxes: ``(N, 4)`` in pixels. scores: ``(N,)``. labels: ``(N,)``; boxes of two classes do not touch each other.
        sigma: of the paper's Gaussian. lowest: a box whose score falls below is dropped. count: so many are left.

    Returns:
        Indices ``(n,)`` by falling new score, of equal ones the first; the new scores ``(n,)`` float32.
    """
    left: list[NDArray[np.int64]] = []
    new: list[NDArray[np.float64]] = []
    for label in np.unique(labels):
        index = np.flatnonzero(labels == label)
        own = boxes[index].astype(np.float64), scores[index].astype(np.float64)
        order, score = _one_class(*own, sigma, lowest, count)
        left.append(index[order])
        new.append(score)
    if not left:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    index, score = np.concatenate(left), np.concatenate(new)
    best = np.lexsort((index, -score))[:count]
    return index[best], score[best].astype(np.float32)


def _one_class(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], sigma: float, lowest: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same for boxes of one class; ``scores`` are changed."""
    alive = np.arange(len(boxes))
    chosen: list[int] = []
    while len(chosen) < count:
        alive = alive[scores[alive] >= lowest]
        if not len(alive):
            break
        at = int(np.argmax(scores[alive]))
        best = int(alive[at])
        chosen.append(best)
        alive = np.delete(alive, at)
        scores[alive] *= np.exp(-(iou(boxes[best][None], boxes[alive])[0] ** 2) / sigma)
    order = np.array(chosen, np.int64)
    return order, scores[order]
