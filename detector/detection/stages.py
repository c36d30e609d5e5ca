"""Where the time of detection goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Stages:
    """Seconds spent so far by stage, in ``seconds``, in the order of first use; of all threads together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to ``stage``."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun
