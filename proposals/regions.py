"""What grouping must know of each initial region: size, box, neighbours, colour and texture histograms.

Shapes and words: ``labels`` ``(H, W)`` int32 in 0..n-1; ``planes`` ``(C, H, W)`` uint8, the colour space's image;
``color`` ``(n, 25 C)`` float32, 25 bins per channel; ``texture`` ``(n, 80 C)`` float32, 10 bins for each of 8
directions of each channel. Each row of a histogram sums to 1 over its whole length, as the paper normalises it (L1).

Texture (the paper: Gaussian derivatives with sigma 1 in eight orientations) is the positive part of the derivative in
the directions 0, 45 ... 315 degrees. Opposite directions are one derivative with both signs, and the derivative in any
direction is a weighted sum of those in x and y, so four values per pixel and channel carry all eight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from proposals.pixel_edges import reflect

COLOR_BINS = 25
TEXTURE_BINS = 10
# Derivatives at or above this many grey levels per pixel fall in the last bin: the response to a step of 255.
TEXTURE_RANGE = 255.0 * 0.3989
TEXTURE_SIGMA = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """The initial regions of one segmentation.

    Attributes:
        sizes: ``(n,)`` int32, pixels. boxes: ``(n, 4)`` int32, ``x1 y1 x2 y2``, half-open.
        pairs: ``(E, 2)`` int32, each pair of touching regions (4-connected) once, the lower number first;
            by the lower number, then by first appearance in raster order.
        color: ``(n, 25 C)`` float32. texture: ``(n, 80 C)`` float32.
    """

    sizes: NDArray[np.int32]
    boxes: NDArray[np.int32]
    pairs: NDArray[np.int32]
    color: NDArray[np.float32]
    texture: NDArray[np.float32]


def derivative_kernels(sigma: float = TEXTURE_SIGMA) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A Gaussian and its derivative, ``(2 r + 1,)`` float32 with r = 3 sigma; a unit ramp has derivative 1."""
    radius = max(1, round(3 * sigma))
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    gaussian = np.exp(-0.5 * (x / sigma) ** 2)
    gaussian /= gaussian.sum()
    slope = x * gaussian
    slope /= (slope * x).sum()
    return gaussian.astype(np.float32), slope.astype(np.float32)


def describe(planes: NDArray[np.uint8], bins: NDArray[np.uint8], labels: NDArray[np.int32]) -> Regions:
    """Sizes, boxes, neighbours and histograms of the regions; ``bins`` is what :func:`texture_bins` returns."""
    count = int(labels.max()) + 1
    sizes, boxes, pairs = _geometry(labels, count)
    color, texture = _histograms(planes, bins, labels, sizes)
    return Regions(sizes, boxes, pairs, color, texture)


def texture_bins(planes: NDArray[np.uint8], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Signed bins ``(C, 4, H, W)`` uint8 of the derivatives along 0, 45, 90 and 135 degrees.

    9 is a derivative in the first bin; 9 + b is bin b of the positive direction and 9 - b bin b of the opposite one.
    ``out`` is filled with the bins if given.
    """
    gaussian, slope = derivative_kernels()
    if out is None:
        out = np.empty((len(planes), 4, *planes.shape[1:]), np.uint8)
    _texture_bins(planes, gaussian, slope, out)
    return out


@njit("void(uint8[:,:,::1], float32[::1], float32[::1], uint8[:,:,:,::1])", cache=True, nogil=True)
def _texture_bins(planes, gaussian, slope, out):  # type: ignore[no-untyped-def]
    """Fill ``out``; both kernels have 7 taps, whose sums are written out so that they stay in registers."""
    channels, height, width = planes.shape
    radius = 3
    smoothed = np.empty(width + 2 * radius, np.float32)
    sloped = np.empty(width + 2 * radius, np.float32)
    smoothed_middle = smoothed[radius : radius + width]
    sloped_middle = sloped[radius : radius + width]
    steps = np.float32(TEXTURE_BINS / TEXTURE_RANGE)
    half = np.float32(np.sqrt(0.5))
    top = np.float32(TEXTURE_BINS - 1)
    g0, g1, g2, g3 = gaussian[0], gaussian[1], gaussian[2], gaussian[3]
    g4, g5, g6 = gaussian[4], gaussian[5], gaussian[6]
    s0, s1, s2, s3 = slope[0] * steps, slope[1] * steps, slope[2] * steps, slope[3] * steps
    s4, s5, s6 = slope[4] * steps, slope[5] * steps, slope[6] * steps
    for c in range(channels):
        for y in range(height):
            r0, r1 = planes[c, reflect(y - 3, height)], planes[c, reflect(y - 2, height)]
            r2, r3, r4 = planes[c, reflect(y - 1, height)], planes[c, y], planes[c, reflect(y + 1, height)]
            r5, r6 = planes[c, reflect(y + 2, height)], planes[c, reflect(y + 3, height)]
            for x in range(width):
                v0, v1, v2, v3 = np.float32(r0[x]), np.float32(r1[x]), np.float32(r2[x]), np.float32(r3[x])
                v4, v5, v6 = np.float32(r4[x]), np.float32(r5[x]), np.float32(r6[x])
                smoothed_middle[x] = g0 * v0 + g1 * v1 + g2 * v2 + g3 * v3 + g4 * v4 + g5 * v5 + g6 * v6
                sloped_middle[x] = s0 * v0 + s1 * v1 + s2 * v2 + s3 * v3 + s4 * v4 + s5 * v5 + s6 * v6
            for x in range(radius):
                left, right = reflect(x - radius, width), reflect(width + x, width)
                smoothed[x], smoothed[radius + width + x] = smoothed_middle[left], smoothed_middle[right]
                sloped[x], sloped[radius + width + x] = sloped_middle[left], sloped_middle[right]
            along0, along45, along90, along135 = out[c, 0, y], out[c, 1, y], out[c, 2, y], out[c, 3, y]
            h0, h1, h2 = smoothed[0:width], smoothed[1 : width + 1], smoothed[2 : width + 2]
            h3, h4 = smoothed[3 : width + 3], smoothed[4 : width + 4]
            h5, h6 = smoothed[5 : width + 5], smoothed[6 : width + 6]
            d0, d1, d2, d3 = sloped[0:width], sloped[1 : width + 1], sloped[2 : width + 2], sloped[3 : width + 3]
            d4, d5, d6 = sloped[4 : width + 4], sloped[5 : width + 5], sloped[6 : width + 6]
            for x in range(width):
                a = s0 * h0[x] + s1 * h1[x] + s2 * h2[x] + s3 * h3[x] + s4 * h4[x] + s5 * h5[x] + s6 * h6[x]
                b = g0 * d0[x] + g1 * d1[x] + g2 * d2[x] + g3 * d3[x] + g4 * d4[x] + g5 * d5[x] + g6 * d6[x]
                # int32() cuts towards zero, so both signs share the middle bin.
                along0[x] = np.uint8(np.int32(min(max(a, -top), top)) + 9)
                along45[x] = np.uint8(np.int32(min(max((a + b) * half, -top), top)) + 9)
                along90[x] = np.uint8(np.int32(min(max(b, -top), top)) + 9)
                along135[x] = np.uint8(np.int32(min(max((b - a) * half, -top), top)) + 9)


@njit("int32[:,::1](int32[:,::1], int64)", cache=True, nogil=True)
def _distinct(places, count):  # type: ignore[no-untyped-def]
    """The distinct rows of ``places``, by first column, then by first appearance."""
    starts = np.zeros(count + 1, np.int64)
    for i in range(len(places)):
        starts[places[i, 0] + 1] += 1
    for region in range(count):
        starts[region + 1] += starts[region]
    highs = np.empty(len(places), np.int32)
    next_place = starts[:count].copy()
    for i in range(len(places)):
        highs[next_place[places[i, 0]]] = places[i, 1]
        next_place[places[i, 0]] += 1
    seen = np.full(count, -1, np.int64)
    pairs = np.empty((len(places), 2), np.int32)
    used = 0
    for low in range(count):
        for i in range(starts[low], starts[low + 1]):
            if seen[highs[i]] != low:
                seen[highs[i]] = low
                pairs[used, 0], pairs[used, 1] = low, highs[i]
                used += 1
    return pairs[:used].copy()


@njit(
    "Tuple((int32[::1], int32[:,::1], int32[:,::1]))(int32[:,::1], int64)",
    cache=True,
    nogil=True,
)
def _geometry(labels, count):  # type: ignore[no-untyped-def]
    """Sizes ``(n,)``, boxes ``(n, 4)`` and touching pairs ``(E, 2)``, each once, by the lower region's number."""
    height, width = labels.shape
    sizes = np.zeros(count, np.int32)
    boxes = np.empty((count, 4), np.int32)
    boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3] = width, height, 0, 0
    # Every place where two regions touch, with many repeats: the lower and the higher number.
    places = np.empty((1024, 2), np.int32)
    used = 0
    for y in range(height):
        if used + 2 * width > len(places):
            grown = np.empty((2 * (used + 2 * width), 2), np.int32)
            grown[:used] = places[:used]
            places = grown
        row = labels[y]
        below = labels[min(y + 1, height - 1)]
        first = 0
        last_below = np.int32(-1)
        for x in range(width):
            region = row[x]
            other = below[x]
            if other != region and other != last_below:
                last_below = other
                places[used, 0], places[used, 1] = min(region, other), max(region, other)
                used += 1
            if x + 1 < width and row[x + 1] == region:
                continue
            sizes[region] += x + 1 - first
            boxes[region, 0] = min(boxes[region, 0], first)
            boxes[region, 1] = min(boxes[region, 1], y)
            boxes[region, 2] = max(boxes[region, 2], x + 1)
            boxes[region, 3] = y + 1
            first = x + 1
            last_below = np.int32(-1)
            if first < width:
                places[used, 0], places[used, 1] = min(region, row[first]), max(region, row[first])
                used += 1
    return sizes, boxes, _distinct(places[:used], count)


@njit(
    "Tuple((float32[:,::1], float32[:,::1]))(uint8[:,:,::1], uint8[:,:,:,::1], int32[:,::1], int32[::1])",
    cache=True,
    nogil=True,
)
def _histograms(planes, bins, labels, sizes):  # type: ignore[no-untyped-def]
    channels, height, width = planes.shape
    count = len(sizes)
    signed = 2 * TEXTURE_BINS - 1
    # A region's row of counts: for each channel its colours, then the four signed derivatives.
    stride = COLOR_BINS + 4 * signed
    counts = np.zeros(count * channels * stride, np.uint32)
    row_of_counts = np.uint64(channels * stride)
    # Eight bytes of the middle bin.
    all_middle = np.uint64(0x0101010101010101 * (TEXTURE_BINS - 1))
    for c in range(channels):
        for y in range(height):
            row, plane = labels[y], planes[c, y]
            for x in range(width):
                at = np.uint64(row[x]) * row_of_counts + np.uint64(c * stride)
                counts[at + np.uint64((np.uint32(plane[x]) * np.uint32(COLOR_BINS)) >> np.uint32(8))] += np.uint32(1)
            for axis in range(4):
                along = bins[c, axis, y]
                eights = along[: width // 8 * 8].view(np.uint64)
                start = np.uint64(c * stride + COLOR_BINS + axis * signed)
                for i in range(np.uint64(len(eights))):
                    # Nearly all derivatives of a photograph lie in the middle bin, whose count nobody needs.
                    if eights[i] != all_middle:
                        for x in range(np.uint64(8) * i, np.uint64(8) * i + np.uint64(8)):
                            counts[np.uint64(row[x]) * row_of_counts + start + np.uint64(along[x])] += np.uint32(1)
                for x in range(np.uint64(8 * len(eights)), np.uint64(width)):
                    counts[np.uint64(row[x]) * row_of_counts + start + np.uint64(along[x])] += np.uint32(1)
    color = np.empty((count, channels * COLOR_BINS), np.float32)
    texture = np.empty((count, channels * 8 * TEXTURE_BINS), np.float32)
    for region in range(count):
        size = sizes[region]
        color_share = np.float32(1.0 / (size * channels))
        texture_share = np.float32(1.0 / (size * channels * 8))
        for c in range(channels):
            at = (region * channels + c) * stride
            for b in range(COLOR_BINS):
                color[region, c * COLOR_BINS + b] = np.float32(counts[at + b]) * color_share
            for axis in range(4):
                middle = at + COLOR_BINS + axis * signed + TEXTURE_BINS - 1
                for side in range(2):
                    step = 1 - 2 * side
                    target = (c * 8 + axis + 4 * side) * TEXTURE_BINS
                    # The derivative is positive in one direction at most; the others' pixels are in the first bin.
                    first = size
                    for b in range(1, TEXTURE_BINS):
                        found = counts[middle + step * b]
                        first -= np.int32(found)
                        texture[region, target + b] = np.float32(found) * texture_share
                    texture[region, target] = np.float32(first) * texture_share
    return color, texture
