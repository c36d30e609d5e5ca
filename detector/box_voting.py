"""Bounding-box voting (Gidaris and Komodakis, Object detection via a multi-region and semantic segmentation-aware CNN
model, ICCV 2015, section 4): boxes that suppression removed still say where the object lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proposals.boxes import FloatArray, iou


def vote(
    kept: FloatArray, labels: NDArray[np.int64], boxes: FloatArray, scores: FloatArray, threshold: float
) -> NDArray[np.float32]:
    """Each kept box's place taken by the mean of the boxes of its class that overlap it, weighted by their scores.

    Args:
        kept: ``(D, 4)`` boxes that suppression left. labels: ``(D,)``, each one's class.
        boxes: ``(N, 1 or K, 4)``, every region's box, for all classes or for each. scores: ``(N, K)`` of the classes; 0
            or less takes no part.
        threshold: least IoU with the kept box (MR-CNN: 0.5).

    Returns:
        ``(D, 4)``; a box that nothing overlaps stays where it is.
    """
    moved = kept.astype(np.float64)
    for label in np.unique(labels).tolist():
        own = labels == label
        voters = boxes[:, label if boxes.shape[1] > 1 else 0].astype(np.float64)
        near = iou(kept[own], voters) >= threshold
        weights = np.where(near, np.maximum(scores[:, label], 0), 0.0).astype(np.float64)
        total = weights.sum(axis=1, keepdims=True)
        mean = weights @ voters / np.where(total > 0, total, 1.0)
        moved[own] = np.where(total > 0, mean, moved[own])
    return moved.astype(np.float32)
