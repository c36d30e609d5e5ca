"""Memory kept from one search to the next: the system takes longer to hand out fresh pages than we to fill them."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

# At most this many bytes are kept in all, which is enough for two threads' searches of half a megapixel.
KEPT_BYTES = 2**26

_kept: list[NDArray[np.uint32]] = []
_lock = threading.Lock()


def borrow(words: int) -> NDArray[np.uint32]:
    """At least ``words`` words of 32 bits of any content, aligned to 16 bytes; the caller's until given back."""
    with _lock:
        # The least that suffices, so that the large pieces are there for those who need them.
        fitting = [(len(memory), i) for i, memory in enumerate(_kept) if len(memory) >= words]
        if fitting:
            return _kept.pop(min(fitting)[1])
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


class Shared:
    """A piece of memory that several tasks use; given back when the last of them is done."""

    def __init__(self, words: int, users: int) -> None:
        self.memory = borrow(words)
        self._users = users

    def done(self) -> None:
        """To be called once by each user."""
        with _lock:
            self._users -= 1
            last = not self._users
        if last:
            give_back(self.memory)
