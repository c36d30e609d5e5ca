"""Hierarchical grouping: the most similar pair of neighbouring regions is merged until one region is left.

Similarity is a sum of any of four measures in [0, 1] (Uijlings et al., IJCV 2013, section 3.2), with sizes and boxes in
pixels of the image ``im`` and BB the box around both regions:

- ``C`` colour: sum of the smaller of the two histograms' values, bin by bin
- ``T`` texture: the same on the texture histograms
- ``S`` size: 1 - (size_a + size_b) / size(im), so that small regions merge first
- ``F`` fill: 1 - (size(BB) - size_a - size_b) / size(im), so that regions that fit into each other merge first

A merged region's histograms are the size-weighted mean of its two parts', so they never need the image again.
Of equally similar pairs the one that became neighbours first is merged first.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from proposals.regions import Regions


def group(regions: Regions, measures: str, image_area: int) -> NDArray[np.int32]:
    """Boxes ``(n - 1, 4)`` int32 of the merged regions in the order of merging, the whole image last.

    Args:
        regions: the n initial regions. measures: some of the letters C, T, S and F. image_area: pixels of the image.
    """
    used = np.array([letter in measures for letter in "CTSF"])
    color = regions.color if used[0] else regions.color[:, :0]
    texture = regions.texture if used[1] else regions.texture[:, :0]
    # Rows of whole vectors: the padding adds nothing and spares the processor each row's odd end.
    padding = np.zeros((len(color), -(color.shape[1] + texture.shape[1]) % 16), np.float32)
    histograms = np.concatenate([color, texture, padding], axis=1)
    return _group(  # type: ignore[no-any-return]
        regions.sizes,
        regions.boxes,
        regions.pairs,
        histograms.reshape(-1),
        histograms.shape[1],
        used[2],
        used[3],
        float(image_area),
    )


@njit("float32(float32[::1], uint64, uint64, uint64)", cache=True, nogil=True, fastmath=True)
def _shared(histograms, a, b, bins):  # type: ignore[no-untyped-def]
    """Sum of the smaller values of rows ``a`` and ``b``."""
    total = np.float32(0)
    at_a, at_b = a * bins, b * bins
    for i in range(bins):
        x, y = histograms[at_a + i], histograms[at_b + i]
        total += x if x < y else y
    return total


@njit("void(float32[::1], uint64, uint64, uint64, float32)", cache=True, nogil=True)
def _blend(histograms, a, b, bins, share):  # type: ignore[no-untyped-def]
    """Row ``a`` becomes ``share`` of itself and the rest of row ``b``."""
    at_a, at_b = a * bins, b * bins
    rest = np.float32(1) - share
    for i in range(bins):
        histograms[at_a + i] = share * histograms[at_a + i] + rest * histograms[at_b + i]


@njit("void(int64[::1], int64, int64)", cache=True, nogil=True)
def _push(heap, used, key):  # type: ignore[no-untyped-def]
    """Add ``key`` to a binary max-heap of ``used`` keys."""
    i = used
    while i > 0:
        up = (i - 1) >> 1
        if heap[up] >= key:
            break
        heap[i] = heap[up]
        i = up
    heap[i] = key


@njit("int64(int64[::1], int64)", cache=True, nogil=True)
def _pop(heap, used):  # type: ignore[no-untyped-def]
    """Remove and return the greatest of ``used`` keys."""
    top = heap[0]
    key = heap[used - 1]
    last = used - 1
    i = 0
    while True:
        child = 2 * i + 1
        if child >= last:
            break
        if child + 1 < last and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = key
    return top


@njit("float64(int64, int64, int32[::1], int32[:,::1], boolean, boolean, float64)", cache=True, nogil=True)
def _size_and_fill(a, b, sizes, boxes, use_size, use_fill, area):  # type: ignore[no-untyped-def]
    both = np.float64(sizes[a]) + sizes[b]
    total = 0.0
    if use_size:
        total += 1.0 - both / area
    if use_fill:
        width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
        height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
        total += 1.0 - (np.float64(width) * height - both) / area
    return total


@njit(
    "int32[:,::1](int32[::1], int32[:,::1], int32[:,::1], float32[::1], int64, boolean, boolean, float64)",
    cache=True,
    nogil=True,
)
def _group(first_sizes, first_boxes, pairs, histograms, bins, use_size, use_fill, area):  # type: ignore[no-untyped-def]
    n = len(first_sizes)
    total = 2 * n - 1
    sizes = np.empty(total, np.int32)
    boxes = np.empty((total, 4), np.int32)
    sizes[:n] = first_sizes
    boxes[:n] = first_boxes
    alive = np.ones(total, np.bool_)
    alive[n:] = False
    # A merged region takes over its first part's row of the histograms.
    row = np.arange(total).astype(np.int32)
    seen = np.full(total, np.int32(-1), np.int32)

    # Link i says that regions ends[i, 0] and ends[i, 1] touch; a region's links are a list, chained through `after`.
    links = len(pairs)
    room = max(16, 4 * links)
    ends = np.empty((room, 2), np.int32)
    after = np.empty((room, 2), np.int32)
    head = np.full(total, np.int32(-1), np.int32)
    heap = np.empty(room, np.int64)
    waiting = 0
    newest = 0
    for i in range(links):
        a, b = pairs[i, 0], pairs[i, 1]
        ends[i, 0], ends[i, 1] = a, b
        after[i, 0], after[i, 1] = head[a], head[b]
        head[a], head[b] = 2 * i, 2 * i + 1
        s = _size_and_fill(a, b, sizes, boxes, use_size, use_fill, area)
        s += _shared(histograms, np.uint64(a), np.uint64(b), np.uint64(bins))
        # Positive floats order as their bits do; among equals the older link, with the greater complement, wins.
        _push(heap, waiting, (np.int64(np.float32(s).view(np.int32)) << 32) | (0x7FFFFFFF - i))
        waiting += 1
    newest = links

    for t in range(n, total):
        while True:
            link = 0x7FFFFFFF - (_pop(heap, waiting) & 0x7FFFFFFF)
            waiting -= 1
            a, b = ends[link, 0], ends[link, 1]
            if alive[a] and alive[b]:
                break
        alive[a] = False
        alive[b] = False
        alive[t] = True
        sizes[t] = sizes[a] + sizes[b]
        boxes[t, 0] = min(boxes[a, 0], boxes[b, 0])
        boxes[t, 1] = min(boxes[a, 1], boxes[b, 1])
        boxes[t, 2] = max(boxes[a, 2], boxes[b, 2])
        boxes[t, 3] = max(boxes[a, 3], boxes[b, 3])
        mine = np.uint64(row[a])
        row[t] = row[a]
        _blend(histograms, mine, np.uint64(row[b]), np.uint64(bins), np.float32(sizes[a] / sizes[t]))
        for part in (a, b):
            node = head[part]
            while node >= 0:
                old, side = node >> 1, node & 1
                other_end = ends[old, 1 - side]
                node = after[old, side]
                if not alive[other_end] or seen[other_end] == t:
                    continue
                seen[other_end] = t
                if newest == len(ends):
                    grown = np.empty((2 * newest, 2), np.int32)
                    grown[:newest] = ends
                    ends = grown
                    grown = np.empty((2 * newest, 2), np.int32)
                    grown[:newest] = after
                    after = grown
                if waiting == len(heap):
                    grown_heap = np.empty(2 * waiting, np.int64)
                    grown_heap[:waiting] = heap
                    heap = grown_heap
                ends[newest, 0], ends[newest, 1] = other_end, t
                after[newest, 0], after[newest, 1] = head[other_end], head[t]
                head[other_end], head[t] = 2 * newest, 2 * newest + 1
                s = _size_and_fill(other_end, t, sizes, boxes, use_size, use_fill, area)
                s += _shared(histograms, mine, np.uint64(row[other_end]), np.uint64(bins))
                _push(heap, waiting, (np.int64(np.float32(s).view(np.int32)) << 32) | (0x7FFFFFFF - newest))
                waiting += 1
                newest += 1
    return boxes[n:].copy()
