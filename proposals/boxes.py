"""Box geometry on ``(N, 4)`` arrays.

Boxes are ``x1 y1 x2 y2`` in pixels of the original image, continuous and half-open: a box of one pixel at the origin is
``0 0 1 1`` and its width is ``x2 - x1``. No box is a valid input: every function takes ``(0, 4)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

# exp() of a larger log-scale makes boxes of absurd size; the bound is that of torchvision's BoxCoder (1000 / 16).
MAX_LOG_SCALE = float(np.log(1000.0 / 16.0))


def area(boxes: FloatArray) -> FloatArray:
    """Areas ``(N,)`` in square pixels; an inverted box has area 0."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def intersection(a: FloatArray, b: FloatArray) -> FloatArray:
    """Areas ``(N, M)`` that each box of ``a`` ``(N, 4)`` shares with each box of ``b`` ``(M, 4)``."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union ``(N, M)`` in [0, 1] of ``a`` ``(N, 4)`` with ``b`` ``(M, 4)``.

    Two boxes without area have IoU 0.
    """
    shared = intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(union > 0, shared / union, 0).astype(shared.dtype, copy=False)


def paired_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union ``(N,)`` of each box of ``a`` with the one at its place in ``b``, both ``(N, 4)``."""
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    shared = sides.prod(axis=1)
    return np.asarray(shared / np.maximum(area(a) + area(b) - shared, 1e-9), shared.dtype)


def clip(boxes: FloatArray, image_size: tuple[int, int]) -> FloatArray:
    """The part of each box ``(N, 4)`` inside an image of ``image_size`` (height, width)."""
    height, width = image_size
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def scale(boxes: FloatArray, factor_y: float, factor_x: float) -> FloatArray:
    """Boxes ``(N, 4)`` of an image resized by ``factor_y`` in height and ``factor_x`` in width."""
    return boxes * np.array([factor_x, factor_y, factor_x, factor_y], boxes.dtype)


def flip_horizontal(boxes: FloatArray, image_width: int) -> FloatArray:
    """Boxes ``(N, 4)`` of the image mirrored left to right."""
    return np.stack([image_width - boxes[:, 2], boxes[:, 1], image_width - boxes[:, 0], boxes[:, 3]], axis=1)


def is_valid(boxes: FloatArray) -> NDArray[np.bool_]:
    """Mask ``(N,)`` of the boxes that are finite and have a positive width and height."""
    return np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def encode(boxes: FloatArray, targets: FloatArray) -> FloatArray:
    """Regression targets ``(N, 4)``: ``tx ty tw th`` that move ``boxes`` onto ``targets``, both ``(N, 4)``.

    Offsets of the centres relative to the box's size, and logarithms of the size ratios (R-CNN, appendix C).
    """
    size = boxes[:, 2:] - boxes[:, :2]
    target_size = targets[:, 2:] - targets[:, :2]
    offset = (targets[:, :2] + target_size / 2 - boxes[:, :2] - size / 2) / size
    return np.concatenate([offset, np.log(target_size / size)], axis=1)


def decode(boxes: FloatArray, deltas: FloatArray) -> FloatArray:
    """Boxes ``(N, 4)`` moved by ``deltas`` ``(N, 4)``: the inverse of :func:`encode`."""
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + size / 2 + deltas[:, :2] * size
    size = size * np.exp(np.minimum(deltas[:, 2:], MAX_LOG_SCALE))
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def nms(
    boxes: FloatArray, scores: FloatArray, iou_threshold: float | np.floating, count: int | None = None
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression; ties keep the input's order.

    Args:
        boxes: ``(N, 4)``. scores: ``(N,)``. iou_threshold: a box is dropped when its IoU with a kept one is greater.
        count: the best so many are enough; ``None`` for all.

    Returns:
        Indices of the kept boxes, int64, by descending score.
    """
    from proposals.greedy import keep_greedily  # numba takes its time to load

    order = np.argsort(-scores, kind="stable")
    most = len(boxes) if count is None else count
    found = keep_greedily(np.ascontiguousarray(boxes), area(boxes), order, boxes.dtype.type(iou_threshold), most)
    return np.asarray(found, np.int64)
