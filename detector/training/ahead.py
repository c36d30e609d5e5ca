"""Calls made ahead, their results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from proposals.errors import UserError

Key = TypeVar("Key")
Item = TypeVar("Item")
PREFETCHED = 3  # things that wait to be taken, beside those being made
MOST_THREADS = 8
FEW_CORES = 4


def in_turn(calls: Iterable[Callable[[], Item]], executor: ThreadPoolExecutor, most: int) -> Iterator[Item]:
    """The results of ``calls`` in their order, ``most`` of them asked for beyond the one that is waited for.

    What a call raises is raised in its turn. The executor is shut down at the end, whichever it is.
    """
    running: deque[Future[Item]] = deque()
    try:
        for call in calls:
            running.append(executor.submit(call))
            if len(running) > most:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:  # when it ends early, what was not begun is not made
        executor.shutdown(cancel_futures=True)


def make_ahead(make: Callable[[Key], Item], keys: Iterator[Key], threads: int = 1) -> Iterator[Item]:
    """``make(key)`` for every key in turn, made ahead by threads of this process while the net computes.

    With no threads each is made when it is asked for.

    Raises:
        RuntimeError: ``make`` failed; it names the key, and its cause is the fault itself.
    """

    def made(key: Key) -> Item:
        try:
            return make(key)
        except UserError:
            raise
        except Exception as fault:
            raise RuntimeError(f"the loader could not make the batch of {key}: {fault!r}") from fault

    if threads == 0:
        return map(made, keys)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="loader")
    return in_turn((partial(made, key) for key in keys), executor, PREFETCHED + threads - 1)


def loader_threads(device: torch.device, in_memory: bool) -> int:
    """Threads that make batches: more for a GPU, or where images must be read first as they are not ``in_memory``.

    Beside a net that computes on all of a few cores there are none: for as long as such a thread runs, one of the
    net's own waits for a core, and the others for it.
    """
    if device.type == "cpu" and in_memory:
        return int((os.cpu_count() or 1) > FEW_CORES)
    return max(1, min(MOST_THREADS, os.cpu_count() or 1))
