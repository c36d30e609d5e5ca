"""The loop of greedy non-maximum suppression, compiled once by numba; :func:`proposals.boxes.nms` is for everybody."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def keep_greedily(boxes, areas, order, threshold, count):  # type: ignore[no-untyped-def]
    """The first ``count`` of ``order`` ``(N,)`` int64 whose IoU with none kept before is greater than ``threshold``.

    ``boxes`` ``(N, 4)``, ``areas`` ``(N,)`` and ``threshold`` are of one floating-point type, which the IoU is too.
    """
    kept = np.empty(min(count, len(order)), np.int64)
    found = 0
    nothing = threshold * 0
    for i in order:
        if found == len(kept):
            break
        near = False
        for k in range(found):
            j = kept[k]
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width > nothing and height > nothing:
                shared = width * height
                near = shared / (areas[j] + areas[i] - shared) > threshold
                if near:
                    break
        if not near:
            kept[found] = i
            found += 1
    return kept[:found]
