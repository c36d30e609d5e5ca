"""What grouping must know of each initial region: size, box, neighbours, colour and texture histograms.

Shapes and words: ``labels`` ``(H, W)`` int32 in 0..n-1; ``planes`` ``(C, H, W)`` uint8, the colour space's image;
``color`` ``(n, 25 C)`` float32, 25 bins per channel; ``texture`` ``(n, 80 C)`` float32, 10 bins for each of 8 directions
of each channel. Each row of a histogram sums to 1 over its whole length, as the paper normalises it (L1).

Texture (the paper: Gaussian derivatives with sigma 1 in eight orientations) is the positive part of the derivative in
the directions 0, 45 ... 315 degrees. Opposite directions are one derivative with both signs, and the derivative in any
direction is a weighted sum of those in x and y, so four values per pixel and channel carry all eight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from proposals.superpixels import _reflect

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
        pairs: ``(E, 2)`` int32, each pair of touching regions (4-connected) once, the smaller number first, sorted.
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
    sizes, boxes = _sizes_and_boxes(labels, count)
    color, texture = _histograms(planes, bins, labels, sizes)
    keys = np.unique(_touching(labels, count))
    pairs = np.stack([keys // count, keys % count], axis=1).astype(np.int32)
    return Regions(sizes, boxes, pairs, color, texture)


def texture_bins(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Signed bins ``(C, 4, H, W)`` uint8 of the derivatives along 0, 45, 90 and 135 degrees.

    9 is a derivative in the first bin; 9 + b is bin b of the positive direction and 9 - b bin b of the opposite one.
    """
    gaussian, slope = derivative_kernels()
    return _texture_bins(planes, gaussian, slope)  # type: ignore[no-any-return]


@njit("uint8[:,:,:,::1](uint8[:,:,::1], float32[::1], float32[::1])", cache=True, nogil=True)
def _texture_bins(planes, gaussian, slope):  # type: ignore[no-untyped-def]
    channels, height, width = planes.shape
    taps = len(gaussian)
    radius = taps // 2
    out = np.empty((channels, 4, height, width), np.uint8)
    smoothed = np.empty(width + 2 * radius, np.float32)
    sloped = np.empty(width + 2 * radius, np.float32)
    dx = np.empty(width, np.float32)
    dy = np.empty(width, np.float32)
    steps = np.float32(TEXTURE_BINS / TEXTURE_RANGE)
    half = np.float32(np.sqrt(0.5))
    top = np.float32(TEXTURE_BINS - 1)
    for c in range(channels):
        for y in range(height):
            smoothed[:] = np.float32(0)
            sloped[:] = np.float32(0)
            for i in range(taps):
                source = planes[c, _reflect(y + i - radius, height)]
                g = gaussian[i]
                s = slope[i] * steps
                for x in range(width):
                    value = np.float32(source[x])
                    smoothed[radius + x] += g * value
                    sloped[radius + x] += s * value
            for x in range(radius):
                smoothed[x] = smoothed[radius + _reflect(x - radius, width)]
                smoothed[radius + width + x] = smoothed[radius + _reflect(width + x, width)]
                sloped[x] = sloped[radius + _reflect(x - radius, width)]
                sloped[radius + width + x] = sloped[radius + _reflect(width + x, width)]
            dx[:] = np.float32(0)
            dy[:] = np.float32(0)
            for i in range(taps):
                g = gaussian[i]
                s = slope[i] * steps
                for x in range(width):
                    dx[x] += s * smoothed[x + i]
                    dy[x] += g * sloped[x + i]
            for x in range(width):
                # int32() cuts towards zero, so both signs share the middle bin.
                a, b = dx[x], dy[x]
                d45 = (a + b) * half
                d135 = (b - a) * half
                out[c, 0, y, x] = np.uint8(np.int32(min(max(a, -top), top)) + 9)
                out[c, 1, y, x] = np.uint8(np.int32(min(max(d45, -top), top)) + 9)
                out[c, 2, y, x] = np.uint8(np.int32(min(max(b, -top), top)) + 9)
                out[c, 3, y, x] = np.uint8(np.int32(min(max(d135, -top), top)) + 9)
    return out


@njit("Tuple((int32[::1], int32[:,::1]))(int32[:,::1], int64)", cache=True, nogil=True)
def _sizes_and_boxes(labels, count):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    sizes = np.zeros(count, np.int32)
    boxes = np.empty((count, 4), np.int32)
    boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3] = width, height, 0, 0
    for y in range(height):
        x = 0
        while x < width:
            region = labels[y, x]
            first = x
            while x < width and labels[y, x] == region:
                x += 1
            sizes[region] += x - first
            box = boxes[region]
            box[0] = min(box[0], first)
            box[1] = min(box[1], y)
            box[2] = max(box[2], x)
            box[3] = y + 1
    return sizes, boxes


@njit("int64[::1](int32[:,::1], int64)", cache=True, nogil=True)
def _touching(labels, count):  # type: ignore[no-untyped-def]
    """Keys ``low * count + high`` of touching regions, with repeats."""
    height, width = labels.shape
    keys = np.empty(64, np.int64)
    used = 0
    for y in range(height):
        last = np.int64(-1)
        for x in range(width):
            here = labels[y, x]
            for step in range(2):
                if step == 0:
                    if x + 1 == width:
                        continue
                    other = labels[y, x + 1]
                else:
                    if y + 1 == height:
                        continue
                    other = labels[y + 1, x]
                if other == here:
                    continue
                key = np.int64(min(here, other)) * count + max(here, other)
                if key == last:
                    continue
                last = key
                if used == len(keys):
                    grown = np.empty(2 * used, np.int64)
                    grown[:used] = keys
                    keys = grown
                keys[used] = key
                used += 1
    return keys[:used].copy()


@njit(
    "Tuple((float32[:,::1], float32[:,::1]))(uint8[:,:,::1], uint8[:,:,:,::1], int32[:,::1], int32[::1])",
    cache=True,
    nogil=True,
)
def _histograms(planes, bins, labels, sizes):  # type: ignore[no-untyped-def]
    channels, height, width = planes.shape
    count = len(sizes)
    color_bin = np.empty(256, np.int64)
    for value in range(256):
        color_bin[value] = value * COLOR_BINS // 256
    signed = 2 * TEXTURE_BINS - 1
    colors = np.zeros((count, channels * COLOR_BINS), np.int32)
    textures = np.zeros((count, channels * 4 * signed), np.int32)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                region = labels[y, x]
                colors[region, c * COLOR_BINS + color_bin[planes[c, y, x]]] += 1
                for axis in range(4):
                    textures[region, (c * 4 + axis) * signed + bins[c, axis, y, x]] += 1
    color = np.empty((count, channels * COLOR_BINS), np.float32)
    texture = np.empty((count, channels * 8 * TEXTURE_BINS), np.float32)
    for region in range(count):
        size = sizes[region]
        scale = np.float32(1.0 / (size * channels))
        for i in range(channels * COLOR_BINS):
            color[region, i] = np.float32(colors[region, i]) * scale
        scale = np.float32(1.0 / (size * channels * 8))
        for c in range(channels):
            for axis in range(4):
                middle = (c * 4 + axis) * signed + TEXTURE_BINS - 1
                for side in range(2):
                    target = (c * 8 + axis + 4 * side) * TEXTURE_BINS
                    first = size
                    for b in range(1, TEXTURE_BINS):
                        found = textures[region, middle + b] if side == 0 else textures[region, middle - b]
                        first -= found
                        texture[region, target + b] = np.float32(found) * scale
                    texture[region, target] = np.float32(first) * scale
    return color, texture
