"""What a processor does with every value of a map in one pass; compiled once by numba and cached on disk.

A map is a table of bits ``(positions, C)``: of float32 in uint32, or of bfloat16, float32's upper half, in uint16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

_BITS = {torch.float32: (torch.uint32, 0), torch.bfloat16: (torch.uint16, 16)}
"""The type of a value's bits, and how far they are from float32's."""


def is_plain(x: Tensor) -> bool:
    """Whether ``x`` is numbers in memory and no more: on a processor, without a gradient, not traced."""
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]
    return x.device.type == "cpu" and not x.requires_grad and not traced


def has_bits(x: Tensor) -> bool:
    """Whether the functions below take ``x``: plain, and of a type that they know."""
    return is_plain(x) and x.dtype in _BITS


def normalize_responses(x: Tensor, scale: float) -> Tensor:
    """Local response normalisation over five channels: ``x / (1 + sum of (scale * x)^2)^0.75``.

    ``(N, C, H, W)`` -> the same, channels last; of a type that :func:`has_bits` knows.
    """
    rows, shift = _rows(x)
    out = np.empty_like(rows)
    _normalize(rows, out, shift, np.float32(scale * scale))
    return _map(torch.from_numpy(out).view(x.dtype), x)


def quantize(x: Tensor, inverse: Tensor) -> Tensor:
    """Bytes of ``x * inverse``, rounded, at most 255: ``(N, C, H, W)``, not negative -> the same, channels last.

    ``inverse``: ``(C,)`` float32.
    """
    rows, shift = _rows(x)
    out = np.empty(rows.shape, np.uint8)
    _quantize(rows, out, shift, inverse.numpy())
    return _map(torch.from_numpy(out), x)


def can_gather(rows: Tensor, dtype: torch.dtype) -> bool:
    """Whether :func:`weighted_rows` takes ``rows`` and gives ``dtype``."""
    return is_plain(rows) and rows.dtype == torch.float32 and dtype in _BITS


def weighted_rows(rows: Tensor, places: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums of rows: ``(bags, C)`` of ``dtype``, float32 or bfloat16, from ``rows`` ``(n, C)`` float32.

    Args:
        places: ``(bags, taps)`` int64, the rows of each sum, a multiple of four. weights: ``(bags, taps)`` float32.
    """
    bits, shift = _BITS[dtype]
    out = torch.empty((len(places), rows.shape[1]), dtype=bits)
    _gather(rows.numpy(), places.numpy(), weights.numpy(), out.numpy(), shift)
    return out.view(dtype)


def _rows(x: Tensor) -> tuple[NDArray[Any], int]:
    bits, shift = _BITS[x.dtype]
    rows = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return rows.view(bits).numpy(), shift


def _map(rows: Tensor, like: Tensor) -> Tensor:
    count, channels, height, width = like.shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _normalize(rows, out, shift, factor):  # type: ignore[no-untyped-def]
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
def _quantize(rows, out, shift, inverse):  # type: ignore[no-untyped-def]
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
def _gather(rows, places, weights, out, shift):  # type: ignore[no-untyped-def]
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
