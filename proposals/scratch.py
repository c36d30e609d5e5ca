"""Memory kept from one search to the next: the system takes longer to hand out fresh pages than we to fill them."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

# At most this many bytes are kept in all, which is enough for two threads' searches of 0.8 megapixels.
KEPT_BYTES = 2**26

_kept: list[NDArray[np.uint32]] = []
_lock = threading.Lock()


def borrow(words: int) -> NDArray[np.uint32]:
    """At least ``words`` words of 32 bits of any content, aligned to 16 bytes; the caller's until given back."""
    with _lock:
        for i, memory in enumerate(_kept):
            if len(memory) >= words:
                return _kept.pop(i)
    # From numpy, which asks the system for huge pages where the piece is large enough.
    return np.empty(words, np.uint32)


def give_back(memory: NDArray[np.uint32]) -> None:
    """Let later searches use what :func:`borrow` returned; nothing may refer to it any more. The newest are kept."""
    if memory.nbytes > KEPT_BYTES:
        return
    with _lock:
        _kept.insert(0, memory)
        while sum(kept.nbytes for kept in _kept) > KEPT_BYTES:
            _kept.pop()
