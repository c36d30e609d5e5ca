"""Denormal numbers, below 1e-38 in float32, counted as 0.

A net that has learnt its data has gradients, activations and momenta of that size. The processor computes with them a
hundred times slower (benchmarks/training_speed.md), and nothing is lost without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """In this block denormal numbers count as 0, in this thread and in those that it begins.

    PyTorch's worker threads keep the mode of the thread that first used them: a program should enter the block before
    it computes anything.
    """
    before = is_flushing()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def is_flushing() -> bool:
    """Whether denormal numbers count as 0 in this thread."""
    return bool(torch.tensor(2.0**-126) * 0.5 == 0)
