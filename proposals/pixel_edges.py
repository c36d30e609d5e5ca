"""The edges of an image's pixel grid, sorted by the difference of the two pixels' colours.

Shapes and words: ``planes`` ``(C, H, W)`` uint8, one colour space of the image. An edge is ``4 * place + direction``
(uint32), with the pixel's place of :mod:`proposals.pixel_layout` and the directions right, down, down-right, down-left
(0-3). Its weight is the Euclidean distance of the two pixels' smoothed colours, in grey levels, as a float of 13
significant bits. Its *key* (uint16) is the weight's rank among all such floats, so that edges sort by counting; of
equal keys the order is by direction, then the pixels' raster order. (Steps of equal size would not do: a component of
10,000 pixels grows by steps of k / 10,000.)

The kernels index with unsigned integers because numba then leaves out its test for negative indices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from proposals.pixel_layout import Layout, layout_of

# Weights below 1/64 grey level count as 0; of others the last 11 of the 23 bits behind the leading one are dropped.
LEAST_BITS = int(np.float32(1 / 64).view(np.int32))
DROPPED_BITS = 11
# Marks an edge that leaves the image; the heaviest, of 255 * sqrt(3), has the key 60,516.
NO_EDGE = 65535
# Keys in use lie below; 255 groups of those that share the upper byte.
KEYS = 255 * 256


@dataclass(frozen=True, slots=True, eq=False)
class SortedEdges:
    """The edges of one image's pixel grid, lightest first.

    Attributes:
        order: ``(E,)`` uint32, the edges. starts: ``(KEYS + 1,)`` uint32, where in ``order`` each key starts.
        room: five words of uint32 for each place, of no meaning: memory that the sorting needed and the next step may
            use. Aligned to 8 bytes.
        size: (height, width). layout: where the pixels lie.
    """

    order: NDArray[np.uint32]
    starts: NDArray[np.uint32]
    room: NDArray[np.uint32]
    size: tuple[int, int]
    layout: Layout


def gaussian_kernel(sigma: float) -> NDArray[np.float32]:
    """A normalised Gaussian ``(2 r + 1,)`` float32 with r = 4 sigma rounded; ``sigma`` 0 gives ``[1]``."""
    radius = round(4 * sigma)
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    kernel = np.exp(-0.5 * (x / sigma) ** 2) if radius else np.ones(1)
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def sort_edges(
    planes: NDArray[np.uint8], sigma: float = 0.8, connectivity: int = 8, memory: NDArray[np.uint32] | None = None
) -> SortedEdges:
    """Smooth an image and sort the edges of its pixel grid.

    Args:
        planes: ``(C, H, W)`` uint8. One-channel images count as three equal channels, as in the authors' code.
        sigma: Gaussian smoothing in pixels.
        connectivity: 8 or 4 neighbours of a pixel; anything else raises ValueError.
        memory: at least ``words_needed(H, W)`` long, for all that is needed; its content is lost.
    """
    height, width = planes.shape[1:]
    count = height * width
    layout = layout_of(height, width)
    unit = layout.places + layout.places % 2
    if memory is None:
        memory = np.empty(words_needed(height, width), np.uint32)
    # The smoothed image and the keys lie where the order will be, which is written last.
    smoothed = memory[: len(planes) * count].view(np.float32).reshape(planes.shape)
    keys = memory[3 * unit : 3 * unit + 2 * count].view(np.uint16).reshape(4, height, width)
    order, room = memory[: 4 * unit], memory[5 * unit : 10 * unit]
    _smooth(planes, gaussian_kernel(sigma), smoothed)
    edge_keys(smoothed, connectivity, keys)
    starts = _sort(keys, layout.rows, layout.columns, order, room[: 4 * unit], room[4 * unit :].view(np.uint8))
    return SortedEdges(order[: starts[-1]], starts, room, (height, width), layout)


def words_needed(height: int, width: int) -> int:
    """How many words of 32 bits :func:`sort_edges` needs for an image: order, keys, and room for the steps between."""
    places = layout_of(height, width).places
    return 10 * (places + places % 2)


def edge_keys(
    smoothed: NDArray[np.float32], connectivity: int = 8, out: NDArray[np.uint16] | None = None
) -> NDArray[np.uint16]:
    """Keys ``(4, H, W)`` uint16 of the weights of each pixel's edges to the right, down, down-right and down-left.

    Edges that leave the image, and diagonals where ``connectivity`` is 4, hold :data:`NO_EDGE`. ``out`` is filled with
    the keys if given.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, not {connectivity!r}")
    factor = math.sqrt(3.0) if len(smoothed) == 1 else 1.0
    if out is None:
        out = np.empty((4, *smoothed.shape[1:]), np.uint16)
    _edge_keys(smoothed, np.float32(factor), connectivity == 8, out)
    return out


@njit("int64(int64, int64)", cache=True, nogil=True, inline="always")
def reflect(i, n):  # type: ignore[no-untyped-def]
    """Index ``i`` mirrored into 0..n-1 without repeating the border pixel."""
    if n == 1:
        return 0
    period = 2 * (n - 1)
    i = abs(i) % period
    return i if i < n else period - i


@njit("void(uint8[:,:,::1], float32[::1], float32[:,:,::1])", cache=True, nogil=True)
def _smooth(planes, kernel, out):  # type: ignore[no-untyped-def]
    """``out``: planes ``(C, H, W)`` convolved with a symmetric ``kernel`` in both directions, borders mirrored."""
    channels, height, width = planes.shape
    radius = len(kernel) // 2
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
            target[:] = np.float32(0)
            for i in range(len(kernel)):
                tap = kernel[i]
                shifted = row[i : i + width]
                for x in range(width):
                    target[x] += tap * shifted[x]


@njit("void(float32[:,:,::1], float32, boolean, uint16[:,:,::1])", cache=True, nogil=True)
def _edge_keys(smoothed, factor, diagonals, out):  # type: ignore[no-untyped-def]
    channels, height, width = smoothed.shape
    out[:] = np.uint16(NO_EDGE)
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


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def prefetch(_context, array, index):  # type: ignore[no-untyped-def]
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


@njit(
    "uint32[::1](uint16[:,:,::1], uint32[::1], uint32[::1], uint32[::1], uint32[::1], uint8[::1])",
    cache=True,
    nogil=True,
)
def _sort(keys, rows, columns, order, edges, low_bytes):  # type: ignore[no-untyped-def]
    """Fill ``order`` with the edges by key, stable; returns where each key starts, the number of edges last.

    First by the upper byte into ``edges`` and ``low_bytes``, then each of those groups by the lower byte: the lines of
    256 places written to stay in the cache, those of 60,000 do not.
    """
    flat = keys.reshape(4, -1)
    right, down, down_right, down_left = flat[0], flat[1], flat[2], flat[3]
    # A row of counters for each direction, as equal bytes in succession would wait for one another.
    counts = np.zeros((4, 256), np.uint32)
    for p in range(flat.shape[1]):
        counts[0, right[p] >> np.uint16(8)] += np.uint32(1)
        counts[1, down[p] >> np.uint16(8)] += np.uint32(1)
        counts[2, down_right[p] >> np.uint16(8)] += np.uint32(1)
        counts[3, down_left[p] >> np.uint16(8)] += np.uint32(1)
    groups = np.empty(256, np.uint32)
    total = np.uint32(0)
    for high in range(256):
        groups[high] = total
        for direction in range(4):
            total += counts[direction, high]
    next_to = groups.copy()
    for direction in range(4):
        for y in range(keys.shape[1]):
            line = keys[direction, y]
            first_edge = np.uint32(4) * rows[y] + np.uint32(direction)
            for x in range(len(line)):
                key = line[x]
                upper = np.uint64(key >> np.uint16(8))
                to = np.uint64(next_to[upper])
                next_to[upper] = np.uint32(to + np.uint64(1))
                edges[to] = np.uint32(first_edge + np.uint32(4) * columns[x])
                low_bytes[to] = np.uint8(key)
                # Writes wait for one another in order, so the next lines of each group are asked for in advance.
                prefetch(edges, to + np.uint64(32))
                prefetch(low_bytes, to + np.uint64(64))
    starts = np.empty(KEYS + 1, np.uint32)
    places = np.empty(256, np.uint32)
    # The last group, of edges that leave the image, is cut off.
    for high in range(255):
        first, last = np.uint64(groups[high]), np.uint64(groups[high + 1])
        places[:] = np.uint32(0)
        for i in range(first, last):
            places[low_bytes[i]] += np.uint32(1)
        total = np.uint32(first)
        for low in range(256):
            found = places[low]
            places[low] = total
            starts[256 * high + low] = total
            total += found
        for i in range(first, last):
            lower = np.uint64(low_bytes[i])
            place = np.uint64(places[lower])
            places[lower] = np.uint32(place + np.uint64(1))
            order[place] = edges[i]
    starts[KEYS] = groups[255]
    return starts
