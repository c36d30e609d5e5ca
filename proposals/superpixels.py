"""Superpixels: the graph-based segmentation of Felzenszwalb and Huttenlocher (IJCV 2004).

Pixels are joined along the edges of the pixel grid, lightest edge first: an edge of weight ``w`` joins two components
when ``w <= threshold`` of both; a pixel starts at ``threshold = k``, and a join sets ``threshold = w + k / size``. Then
every edge, in the same order, joins its components while either is smaller than ``min_size``.

Shapes and words: ``planes`` ``(C, H, W)`` uint8, one colour space of the image; an edge's weight is the Euclidean
distance of the two pixels' smoothed colours, in grey levels, as a float of 13 significant bits. Its *key* is its rank
among all such floats, so that edges sort by counting; of equal weights the order is right, down, down-right, down-left,
then raster order. (Steps of equal size would not do: a component of 10,000 pixels grows by steps of k / 10,000.)
``labels`` ``(H, W)`` int32 number the superpixels 0..n-1 by first appearance in raster order.

The kernels index with unsigned integers because numba then leaves out its test for negative indices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

# Weights below 1/64 grey level count as 0; of others the last 11 of the 23 bits behind the leading one are dropped.
LEAST_BITS = int(np.float32(1 / 64).view(np.int32))
DROPPED_BITS = 11
# Marks an edge that leaves the image; the heaviest, of 255 * sqrt(3), has the key 60,516.
NO_EDGE = 65535
# Edges looked up ahead of joining them; small enough that the buffers stay in the first-level cache.
BLOCK = 64
# Images of more pixels than this do not fit in the second-level cache, and their data are asked for in advance.
NEAR_PIXELS = 2**18


@dataclass(frozen=True, slots=True, eq=False)
class SortedEdges:
    """The edges of one image's pixel grid, lightest first.

    Attributes:
        order: ``(E,)`` uint32, ``4 * pixel + direction``. starts: ``(last key + 2,)`` int64, where in ``order`` each
            key starts. size: (height, width).
    """

    order: NDArray[np.uint32]
    starts: NDArray[np.int64]
    size: tuple[int, int]


def gaussian_kernel(sigma: float) -> NDArray[np.float32]:
    """A normalised Gaussian ``(2 r + 1,)`` float32 with r = 4 sigma rounded; ``sigma`` 0 gives ``[1]``."""
    radius = round(4 * sigma)
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    kernel = np.exp(-0.5 * (x / sigma) ** 2) if radius else np.ones(1)
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def segment(
    planes: NDArray[np.uint8], scales: Sequence[tuple[float, int]], sigma: float = 0.8, connectivity: int = 8
) -> list[NDArray[np.int32]]:
    """Labels ``(H, W)`` int32 of one image for each scale, a pair of ``k`` and ``min_size`` in pixels.

    Args and errors: see :func:`sort_edges`, whose result serves all scales.
    """
    edges = sort_edges(planes, sigma, connectivity)
    return [join(edges, k, min_size) for k, min_size in scales]


def sort_edges(planes: NDArray[np.uint8], sigma: float = 0.8, connectivity: int = 8) -> SortedEdges:
    """Smooth an image and sort the edges of its pixel grid.

    Args:
        planes: ``(C, H, W)`` uint8. One-channel images count as three equal channels, as in the authors' code.
        sigma: Gaussian smoothing in pixels.
        connectivity: 8 or 4 neighbours of a pixel; anything else raises ValueError.
    """
    order, starts = _sort(edge_keys(smooth(planes, gaussian_kernel(sigma)), connectivity))
    return SortedEdges(order, starts, (planes.shape[1], planes.shape[2]))


def join(edges: SortedEdges, k: float, min_size: int) -> NDArray[np.int32]:
    """Labels ``(H, W)`` int32 of the superpixels of scale ``k`` and at least ``min_size`` pixels."""
    height, width = edges.size
    far = height * width > NEAR_PIXELS
    return _join(edges.order, edges.starts, height, width, np.float32(k), min_size, far)  # type: ignore[no-any-return]


def edge_keys(smoothed: NDArray[np.float32], connectivity: int = 8) -> NDArray[np.uint16]:
    """Keys ``(4, H, W)`` uint16 of the weights of each pixel's edges to the right, down, down-right and down-left.

    Edges that leave the image, and diagonals where ``connectivity`` is 4, hold :data:`NO_EDGE`.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, not {connectivity!r}")
    factor = math.sqrt(3.0) if len(smoothed) == 1 else 1.0
    return _edge_keys(smoothed, np.float32(factor), connectivity == 8)  # type: ignore[no-any-return]


@njit("int64(int64, int64)", cache=True, nogil=True, inline="always")
def reflect(i, n):  # type: ignore[no-untyped-def]
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
    middle = row[radius : radius + width]
    for c in range(channels):
        for y in range(height):
            row[:] = np.float32(0)
            for i in range(len(kernel)):
                source = planes[c, reflect(y + i - radius, height)]
                tap = kernel[i]
                for x in range(width):
                    middle[x] += tap * np.float32(source[x])
            for x in range(radius):
                row[x] = middle[reflect(x - radius, width)]
                row[radius + width + x] = middle[reflect(width + x, width)]
            target = out[c, y]
            for i in range(len(kernel)):
                tap = kernel[i]
                shifted = row[i : i + width]
                for x in range(width):
                    target[x] += tap * shifted[x]
    return out


@njit("uint16[:,:,::1](float32[:,:,::1], float32, boolean)", cache=True, nogil=True)
def _edge_keys(smoothed, factor, diagonals):  # type: ignore[no-untyped-def]
    channels, height, width = smoothed.shape
    out = np.full((4, height, width), np.uint16(NO_EDGE), np.uint16)
    squares = np.empty(width, np.float32)
    bits = squares.view(np.int32)
    for direction in range(4 if diagonals else 2):
        dy = 1 if direction > 0 else 0
        dx = 0 if direction == 1 else (-1 if direction == 3 else 1)
        first = 1 if dx < 0 else 0
        last = width - 1 if dx > 0 else width
        for y in range(height - dy):
            squares[:] = np.float32(0)
            for c in range(channels):
                a = smoothed[c, y, first:last]
                b = smoothed[c, y + dy, first + dx : last + dx]
                for x in range(len(a)):
                    difference = a[x] - b[x]
                    squares[x] += difference * difference
            for x in range(width):
                squares[x] = np.sqrt(squares[x]) * factor
            target = out[direction, y, first:last]
            for x in range(len(target)):
                # Positive floats order as their bits do.
                target[x] = np.uint16(max(((bits[x] - LEAST_BITS) >> DROPPED_BITS) + 1, 0))
    return out


@njit("Tuple((uint32[::1], int64[::1]))(uint16[:,:,::1])", cache=True, nogil=True)
def _sort(keys):  # type: ignore[no-untyped-def]
    """Edges ``4 * pixel + direction`` by key, stable, and where each key starts."""
    flat = keys.reshape(4, -1)
    counts = np.zeros(NO_EDGE + 1, np.uint32)
    for direction in range(4):
        plane = flat[direction]
        for p in range(len(plane)):
            counts[plane[p]] += np.uint32(1)
    last = 0
    total = np.uint32(0)
    for key in range(NO_EDGE):
        found = counts[key]
        if found:
            last = key
        counts[key] = total
        total += found
    starts = np.empty(last + 2, np.int64)
    for key in range(last + 1):
        starts[key] = counts[key]
    starts[last + 1] = total
    # Edges that leave the image end up behind all others and are cut off.
    counts[NO_EDGE] = total
    order = np.empty(4 * flat.shape[1], np.uint32)
    for direction in range(4):
        plane = flat[direction]
        for p in range(len(plane)):
            key = plane[p]
            place = counts[key]
            counts[key] = place + np.uint32(1)
            order[place] = np.uint32(4 * p + direction)
    return order[:total], starts


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def _prefetch(_context, array, index):  # type: ignore[no-untyped-def]
    """Ask for ``array[index]`` without waiting for it; reads nothing and changes nothing."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        # To be written, to be kept, data rather than code.
        builder.call(function, [address, ir.Constant(number, 1), ir.Constant(number, 3), ir.Constant(number, 1)])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


@njit("uint32(uint32[::1], uint32)", cache=True, nogil=True, inline="always")
def _find(parent, p):  # type: ignore[no-untyped-def]
    """The root of ``p``, its own parent; the path to it is halved."""
    up = parent[p]
    while up != p:
        above = parent[up]
        parent[p] = above
        p = above
        up = parent[p]
    return p


@njit("int32[:,::1](uint32[::1], int64[::1], int64, int64, float32, int64, boolean)", cache=True, nogil=True)
def _join(order, starts, height, width, k, min_size, far):  # type: ignore[no-untyped-def]
    count = height * width
    parent = np.arange(count).astype(np.uint32)
    size = np.ones(count, np.int32)
    threshold = np.full(count, k, np.float32)
    offsets = np.array([1, width, width + 1, width - 1]).astype(np.uint32)
    left_over = np.empty(len(order) + 1, np.uint32)
    left = np.uint64(0)
    root_a = np.empty(BLOCK + 1, np.uint32)
    root_b = np.empty(BLOCK + 1, np.uint32)
    index = np.empty(BLOCK + 1, np.uint64)
    key = 0
    for block in range(0, len(order), BLOCK):
        # Most edges lie inside a component. They are sifted out here without a branch, so that the processor waits
        # for many random reads at once; a component found for a pixel here is only a step towards its present root.
        waiting = np.uint64(0)
        if far:
            for i in range(np.uint64(min(block + BLOCK, len(order))), np.uint64(min(block + 3 * BLOCK, len(order)))):
                edge = order[i]
                p = np.uint32(edge >> np.uint32(2))
                _prefetch(parent, np.uint64(p))
                _prefetch(parent, np.uint64(p + offsets[edge & np.uint32(3)]))
        for i in range(np.uint64(block), np.uint64(min(block + BLOCK, len(order)))):
            edge = order[i]
            p = np.uint32(edge >> np.uint32(2))
            q = np.uint32(p + offsets[edge & np.uint32(3)])
            a = parent[parent[p]]
            b = parent[parent[q]]
            parent[p] = a
            parent[q] = b
            root_a[waiting] = a
            root_b[waiting] = b
            index[waiting] = i
            waiting += np.uint64(a != b)
        if far:
            for j in range(waiting):
                _prefetch(size, np.uint64(root_a[j]))
                _prefetch(size, np.uint64(root_b[j]))
                _prefetch(threshold, np.uint64(root_a[j]))
                _prefetch(threshold, np.uint64(root_b[j]))
        for j in range(waiting):
            a = _find(parent, root_a[j])
            b = _find(parent, root_b[j])
            if a == b:
                continue
            i = index[j]
            while starts[key + 1] <= np.int64(i):
                key += 1
            weight = np.float32(0)
            if key > 0:
                weight = np.int32(((key - 1) << DROPPED_BITS) + LEAST_BITS).view(np.float32)
            both = size[a] + size[b]
            if weight <= min(threshold[a], threshold[b]):
                large = a if size[a] >= size[b] else b
                small = np.uint32(a ^ b ^ large)
                parent[small] = large
                size[large] = both
                threshold[large] = weight + k / np.float32(both)
            else:
                # Components only grow: where both are large enough, the second pass has nothing to do.
                left_over[left] = order[i]
                left += np.uint64((size[a] < min_size) | (size[b] < min_size))
    for i in range(left):
        edge = left_over[i]
        p = np.uint32(edge >> np.uint32(2))
        a = _find(parent, p)
        b = _find(parent, np.uint32(p + offsets[edge & np.uint32(3)]))
        if a != b and (size[a] < min_size or size[b] < min_size):
            large = a if size[a] >= size[b] else b
            small = np.uint32(a ^ b ^ large)
            size[large] += size[small]
            parent[small] = large
    labels = np.empty((height, width), np.int32)
    flat = labels.reshape(-1)
    number = np.full(count, np.int32(-1), np.int32)
    found = np.int32(0)
    for pixel in range(count):
        root = _find(parent, np.uint32(pixel))
        if number[root] < 0:
            number[root] = found
            found += 1
        flat[np.uint64(pixel)] = number[root]
    return labels
