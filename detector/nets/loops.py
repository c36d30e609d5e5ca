"""Loops over maps, compiled once by numba and cached on disk; :mod:`detector.nets.kernels` is for everybody.

A map is a table of bits ``(positions, C)``: of float32 in uint32, or of bfloat16, float32's upper half, in uint16.
``shift``: how far a value's bits are from float32's.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def normalize(rows, out, shift, factor):  # type: ignore[no-untyped-def]
    channels = rows.shape[1]
    values = np.empty(channels, np.float32)
    bits = values.view(np.uint32)
    squares = np.zeros(channels + 4, np.float32)  # two channels more on either side
    up, half, one = np.uint32(shift), np.uint32((1 << shift) >> 1), np.float32(1)
    for row in range(len(rows)):
        for c in range(channels):
            bits[c] = np.uint32(rows[row, c]) << up
        for c in range(channels):
            squares[c + 2] = values[c] * values[c]
        for c in range(channels):
            near = squares[c] + squares[c + 1] + squares[c + 2] + squares[c + 3] + squares[c + 4]
            total = one + factor * near
            values[c] = values[c] / np.sqrt(total * np.sqrt(total))
        for c in range(channels):
            out[row, c] = (bits[c] + half) >> up


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def quantize(rows, out, shift, inverse):  # type: ignore[no-untyped-def]
    channels = rows.shape[1]
    values = np.empty(channels, np.float32)
    bits = values.view(np.uint32)
    up, most, half = np.uint32(shift), np.float32(255), np.float32(0.5)
    for row in range(len(rows)):
        for c in range(channels):
            bits[c] = np.uint32(rows[row, c]) << up
        for c in range(channels):
            values[c] = min(values[c] * inverse[c] + half, most)
        for c in range(channels):
            out[row, c] = np.uint8(np.int32(values[c]))


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def gather(rows, places, weights, out, shift):  # type: ignore[no-untyped-def]
    channels = rows.shape[1]
    total = np.empty(channels, np.float32)
    bits = total.view(np.uint32)
    up, half = np.uint32(shift), np.uint32((1 << shift) >> 1)
    for bag in range(len(places)):
        total[:] = 0
        for tap in range(0, places.shape[1], 4):  # each sum is read and written once for four rows
            w = weights[bag, tap : tap + 4]
            a, b = rows[places[bag, tap]], rows[places[bag, tap + 1]]
            c, d = rows[places[bag, tap + 2]], rows[places[bag, tap + 3]]
            for i in range(channels):
                total[i] += w[0] * a[i] + w[1] * b[i] + w[2] * c[i] + w[3] * d[i]
        for i in range(channels):
            out[bag, i] = (bits[i] + half) >> up
