"""What a processor does with every value of a map in one pass, by the compiled loops of :mod:`detector.nets.loops`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
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
    from detector.nets.loops import normalize  # numba takes its time to load

    rows, shift = _rows(x)
    out = np.empty_like(rows)
    normalize(rows, out, shift, np.float32(scale * scale))
    return _map(torch.from_numpy(out).view(x.dtype), x)


def to_bytes(x: Tensor, inverse: Tensor) -> Tensor:
    """Bytes of ``x * inverse``, rounded, at most 255: ``(N, C, H, W)``, not negative -> the same, channels last.

    ``inverse``: ``(C,)`` float32.
    """
    from detector.nets.loops import quantize

    rows, shift = _rows(x)
    out = np.empty(rows.shape, np.uint8)
    quantize(rows, out, shift, inverse.numpy())
    return _map(torch.from_numpy(out), x)


def can_gather(rows: Tensor, dtype: torch.dtype) -> bool:
    """Whether :func:`weighted_rows` takes ``rows`` and gives ``dtype``."""
    return is_plain(rows) and rows.dtype == torch.float32 and dtype in _BITS


def weighted_rows(rows: Tensor, places: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums of rows: ``(bags, C)`` of ``dtype``, float32 or bfloat16, from ``rows`` ``(n, C)`` float32.

    Args:
        places: ``(bags, taps)`` int64, the rows of each sum, a multiple of four. weights: ``(bags, taps)`` float32.
    """
    from detector.nets.loops import gather

    bits, shift = _BITS[dtype]
    out = torch.empty((len(places), rows.shape[1]), dtype=bits)
    gather(rows.numpy(), places.numpy(), weights.numpy(), out.numpy(), shift)
    return out.view(dtype)


def _rows(x: Tensor) -> tuple[NDArray[Any], int]:
    bits, shift = _BITS[x.dtype]
    rows = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return rows.view(bits).numpy(), shift


def _map(rows: Tensor, like: Tensor) -> Tensor:
    count, channels, height, width = like.shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)
