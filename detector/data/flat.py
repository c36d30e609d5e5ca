"""Ragged rows in one flat array: row ``i`` is ``offsets[i]:offsets[i + 1]``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(N + 1,)`` offsets of rows of ``counts`` ``(N,)`` entries."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def take_rows(offsets: NDArray[np.int64], index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets ``(n + 1,)`` and flat positions of the entries of the rows ``index`` ``(n,)``, in that order."""
    counts = np.diff(offsets)[index]
    taken = offsets_of(counts)
    # An entry's position: the start of its row plus its place within the row.
    positions = np.arange(taken[-1]) + np.repeat(offsets[:-1][index] - taken[:-1], counts)
    return taken, positions
