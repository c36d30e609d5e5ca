"""Which boxes repeat or nearly repeat a better one, in linear time.

Near repeats are those of non-maximum suppression. Boxes are looked up in a hash table by classes of width and height, a
factor of 1 / ``iou_threshold`` apart, and by their centre on a grid as coarse as the class is wide and high. Boxes of
greater IoU than the threshold are at most one class apart and their centres a fraction of a cell, so few cells need to
be searched.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def near_a_better_one(boxes: NDArray[np.int32], iou_threshold: float) -> NDArray[np.bool_]:
    """Mask ``(N,)`` of the boxes with an IoU of at least the threshold with an earlier box outside the mask.

    Args:
        boxes: ``(N, 4)`` int32, ``x1 y1 x2 y2``, each at least one pixel wide and high, best first.
        iou_threshold: above 0, below 1.
    """
    return _near(np.ascontiguousarray(boxes), float(iou_threshold))  # type: ignore[no-any-return]


def repeats(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask ``(N,)`` of the keys that an earlier one equals."""
    return _repeats(keys)  # type: ignore[no-any-return]


@njit("boolean[::1](int64[::1])", cache=True, nogil=True)
def _repeats(keys):  # type: ignore[no-untyped-def]
    repeated = np.zeros(len(keys), np.bool_)
    slots = 1
    while slots < 2 * len(keys):
        slots *= 2
    mask = np.uint64(slots - 1)
    table = np.full(slots, np.int32(-1), np.int32)
    for i in range(len(keys)):
        slot = (np.uint64(keys[i]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(24) & mask
        while table[slot] >= 0 and keys[table[slot]] != keys[i]:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] >= 0:
            repeated[i] = True
        else:
            table[slot] = i
    return repeated


@njit("uint64(int64, int64, int64, int64, uint64)", cache=True, nogil=True, inline="always")
def _cell(width_class, height_class, column, row, mask):  # type: ignore[no-untyped-def]
    key = np.uint64(width_class * 64 + height_class) * np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ np.uint64(column)) * np.uint64(0xC2B2AE3D27D4EB4F)
    key = (key ^ np.uint64(row)) * np.uint64(0x9E3779B97F4A7C15)
    return (key >> np.uint64(24)) & mask


@njit("boolean[::1](int32[:,::1], float64)", cache=True, nogil=True)
def _near(boxes, threshold):  # type: ignore[no-untyped-def]
    count = len(boxes)
    near = np.zeros(count, np.bool_)
    slots = 1
    while slots < 2 * count:
        slots *= 2
    mask = np.uint64(slots - 1)
    head = np.full(slots, np.int32(-1), np.int32)
    after = np.empty(count, np.int32)
    # A hair more than 1 / threshold, so that rounding never puts two such boxes two classes or cells apart.
    step = 1.000001 / threshold
    per_class = 1.0 / np.log(step)
    # Two boxes of IoU t: each side of the box around both is at most 1 / t of either's, and their two edges' distances
    # add up to at most (1 - t) of it; so their centres are at most half of (1 - t) / t of a side apart.
    reach = 0.5 * (1.0 - threshold) * step
    # The side of a cell of each class; there are more than these only where the threshold is nearly 1.
    sides = np.empty(256, np.float64)
    for wc in range(256):
        sides[wc] = step ** (wc + 1)
    for i in range(count):
        x1, y1, x2, y2 = boxes[i]
        width, height = np.float64(x2) - x1, np.float64(y2) - y1
        center_x, center_y = x1 + 0.5 * width, y1 + 0.5 * height
        width_class = int(np.floor(np.log(width) * per_class))
        height_class = int(np.floor(np.log(height) * per_class))
        area = width * height
        for wc in range(max(width_class - 1, 0), width_class + 2):
            cell_width = sides[wc] if wc < 256 else step ** (wc + 1)
            first_column = int(np.floor((center_x - reach * width) / cell_width))
            last_column = int(np.floor((center_x + reach * width) / cell_width))
            for hc in range(max(height_class - 1, 0), height_class + 2):
                cell_height = sides[hc] if hc < 256 else step ** (hc + 1)
                first_row = int(np.floor((center_y - reach * height) / cell_height))
                last_row = int(np.floor((center_y + reach * height) / cell_height))
                for column in range(first_column, last_column + 1):
                    for row in range(first_row, last_row + 1):
                        j = head[_cell(wc, hc, column, row, mask)]
                        while j >= 0 and not near[i]:
                            shared_x = np.float64(min(x2, boxes[j, 2])) - max(x1, boxes[j, 0])
                            shared_y = np.float64(min(y2, boxes[j, 3])) - max(y1, boxes[j, 1])
                            if shared_x > 0 and shared_y > 0:
                                shared = shared_x * shared_y
                                other = (np.float64(boxes[j, 2]) - boxes[j, 0]) * (
                                    np.float64(boxes[j, 3]) - boxes[j, 1]
                                )
                                if shared >= threshold * (area + other - shared):
                                    near[i] = True
                            j = after[j]
        if not near[i]:
            cell_width = sides[width_class] if width_class < 256 else step ** (width_class + 1)
            cell_height = sides[height_class] if height_class < 256 else step ** (height_class + 1)
            column = int(np.floor(center_x / cell_width))
            row = int(np.floor(center_y / cell_height))
            cell = _cell(width_class, height_class, column, row, mask)
            after[i] = head[cell]
            head[cell] = i
    return near
