"""Superpixels: the graph-based segmentation of Felzenszwalb and Huttenlocher (IJCV 2004).

Pixels are joined along the edges of the pixel grid, lightest edge first: an edge of weight ``w`` joins two components
when ``w <= threshold`` of both; a pixel starts at ``threshold = k``, and a join sets ``threshold = w + k / size``. Then
every edge, in the same order, joins its components while either is smaller than ``min_size``.

Shapes and words: ``planes`` ``(C, H, W)`` uint8, one colour space of the image; an edge's weight is the Euclidean
distance of the two pixels' smoothed colours, in grey levels, rounded down to 1/64 so that edges sort by counting; edges
of equal weight keep the order right, down, down-right, down-left, then raster order. ``labels`` ``(H, W)`` int32 number
the superpixels 0..n-1 by first appearance in raster order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Weights are whole multiples of 1 / WEIGHT_STEPS grey level.
WEIGHT_STEPS = 64
# Marks an edge that leaves the image; no weight reaches it: 255 * sqrt(3) * 64 = 28,266.
NO_EDGE = 65535


def gaussian_kernel(sigma: float) -> NDArray[np.float32]:
    """A normalised Gaussian ``(2 r + 1,)`` float32 with r = 4 sigma rounded; ``sigma`` 0 gives ``[1]``."""
    radius = round(4 * sigma)
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    kernel = np.exp(-0.5 * (x / sigma) ** 2) if radius else np.ones(1)
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def segment(
    planes: NDArray[np.uint8],
    scales: Sequence[tuple[float, int]],
    sigma: float = 0.8,
    connectivity: int = 8,
) -> list[NDArray[np.int32]]:
    """Segment one image at several scales, with one smoothing and one sorting of the edges.

    Args:
        planes: ``(C, H, W)`` uint8. One-channel images count as three equal channels, as in the authors' code.
        scales: pairs of ``k`` (grey levels times pixels) and ``min_size`` (pixels).
        sigma: Gaussian smoothing in pixels.
        connectivity: 8 or 4 neighbours of a pixel.

    Returns:
        Labels ``(H, W)`` int32 for each scale.
    """
    weights = edge_weights(smooth(planes, gaussian_kernel(sigma)), connectivity)
    order, starts = _sort_edges(weights)
    height, width = planes.shape[1:]
    return [_segment(order, starts, height, width, np.float32(k), min_size) for k, min_size in scales]


def edge_weights(smoothed: NDArray[np.float32], connectivity: int = 8) -> NDArray[np.uint16]:
    """Weights ``(4, H, W)`` uint16 in steps of 1/64 of the edges to the right, down, down-right and down-left.

    Edges that leave the image, and diagonals where ``connectivity`` is 4, hold :data:`NO_EDGE`.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, not {connectivity!r}")
    factor = math.sqrt(3.0) if len(smoothed) == 1 else 1.0
    return _edge_weights(smoothed, np.float32(factor * WEIGHT_STEPS), connectivity == 8)  # type: ignore[no-any-return]


@njit("int64(int64, int64)", cache=True, nogil=True, inline="always")
def _reflect(i, n):  # type: ignore[no-untyped-def]
    """Index ``i`` mirrored into 0..n-1 without repeating the border pixel."""
    if n == 1:
        return 0
    period = 2 * (n - 1)
    i = abs(i) % period
    return i if i < n else period - i


@njit("float32[:,:,::1](uint8[:,:,::1], float32[::1])", cache=True, nogil=True)
def smooth(planes, kernel):  # type: ignore[no-untyped-def]
    """Planes ``(C, H, W)`` convolved with a symmetric ``kernel`` in both directions, borders mirrored: float32."""
    channels, height, width = planes.shape
    radius = len(kernel) // 2
    out = np.zeros((channels, height, width), np.float32)
    row = np.empty(width + 2 * radius, np.float32)
    for c in range(channels):
        for y in range(height):
            row[:] = np.float32(0)
            for i in range(len(kernel)):
                source = planes[c, _reflect(y + i - radius, height)]
                tap = kernel[i]
                for x in range(width):
                    row[radius + x] += tap * np.float32(source[x])
            for x in range(radius):
                row[x] = row[radius + _reflect(x - radius, width)]
                row[radius + width + x] = row[radius + _reflect(width + x, width)]
            target = out[c, y]
            for i in range(len(kernel)):
                tap = kernel[i]
                for x in range(width):
                    target[x] += tap * row[x + i]
    return out


@njit("uint16[:,:,::1](float32[:,:,::1], float32, boolean)", cache=True, nogil=True)
def _edge_weights(smoothed, factor, diagonals):  # type: ignore[no-untyped-def]
    channels, height, width = smoothed.shape
    out = np.full((4, height, width), np.uint16(NO_EDGE), np.uint16)
    squares = np.empty(width, np.float32)
    for direction in range(4 if diagonals else 2):
        dy = 1 if direction > 0 else 0
        dx = 0 if direction == 1 else (-1 if direction == 3 else 1)
        first = 1 if dx < 0 else 0
        last = width - 1 if dx > 0 else width
        for y in range(height - dy):
            squares[:] = np.float32(0)
            for c in range(channels):
                a = smoothed[c, y]
                b = smoothed[c, y + dy]
                for x in range(first, last):
                    difference = a[x] - b[x + dx]
                    squares[x] += difference * difference
            target = out[direction, y]
            for x in range(first, last):
                target[x] = np.uint16(np.int32(np.sqrt(squares[x]) * factor))
    return out


@njit("Tuple((int32[::1], int64[::1]))(uint16[:,:,::1])", cache=True, nogil=True)
def _sort_edges(weights):  # type: ignore[no-untyped-def]
    """Edges ``4 * pixel + direction`` by weight, stable, and where each weight starts."""
    flat = weights.reshape(4, -1)
    counts = np.zeros(NO_EDGE + 2, np.int64)
    for direction in range(4):
        plane = flat[direction]
        for p in range(len(plane)):
            counts[np.int64(plane[p]) + 1] += 1
    counts[NO_EDGE + 1] = 0
    heaviest = 0
    for w in range(NO_EDGE):
        if counts[w + 1]:
            heaviest = w
        counts[w + 1] += counts[w]
    starts = counts[: heaviest + 2].copy()
    order = np.empty(counts[NO_EDGE], np.int32)
    for direction in range(4):
        plane = flat[direction]
        for p in range(len(plane)):
            w = plane[p]
            if w != NO_EDGE:
                order[counts[w]] = 4 * p + direction
                counts[w] += 1
    return order, starts


@njit("int32(int32[::1], int32)", cache=True, nogil=True, inline="always")
def _find(parent, p):  # type: ignore[no-untyped-def]
    """The root of ``p``; a root holds minus its component's size."""
    while parent[p] >= 0:
        up = parent[p]
        if parent[up] >= 0:
            parent[p] = parent[up]
        p = up
    return p


@njit("int32[:,::1](int32[::1], int64[::1], int64, int64, float32, int64)", cache=True, nogil=True)
def _segment(order, starts, height, width, k, min_size):  # type: ignore[no-untyped-def]
    count = height * width
    parent = np.full(count, np.int32(-1), np.int32)
    threshold = np.full(count, k, np.float32)
    offsets = np.array([1, width, width + 1, width - 1], np.int32)
    left_over = np.empty(len(order), np.int32)
    left = 0
    for w in range(len(starts) - 1):
        weight = np.float32(w) * np.float32(1.0 / WEIGHT_STEPS)
        for i in range(starts[w], starts[w + 1]):
            edge = order[i]
            p = edge >> 2
            a = _find(parent, p)
            b = _find(parent, np.int32(p + offsets[edge & 3]))
            if a == b:
                continue
            if weight <= threshold[a] and weight <= threshold[b]:
                if parent[a] > parent[b]:
                    a, b = b, a
                parent[a] += parent[b]
                parent[b] = a
                threshold[a] = weight + k / np.float32(-parent[a])
            else:
                left_over[left] = edge
                left += 1
    for i in range(left):
        edge = left_over[i]
        p = edge >> 2
        a = _find(parent, p)
        b = _find(parent, np.int32(p + offsets[edge & 3]))
        if a != b and (-parent[a] < min_size or -parent[b] < min_size):
            if parent[a] > parent[b]:
                a, b = b, a
            parent[a] += parent[b]
            parent[b] = a
    labels = np.empty((height, width), np.int32)
    flat = labels.reshape(-1)
    number = np.full(count, np.int32(-1), np.int32)
    found = np.int32(0)
    for p in range(count):
        root = _find(parent, np.int32(p))
        if number[root] < 0:
            number[root] = found
            found += 1
        flat[p] = number[root]
    return labels
