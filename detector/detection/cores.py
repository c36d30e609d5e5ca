"""Parts of one image's work at the same time.

Threads that share a layer wait for each other at its end, layer after layer. Here each thread has parts of its own: a
level's maps, a batch of regions, the search.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")
WORKERS = 2  # more would leave a large part, the first level, to too few of many cores


class Start(Protocol):
    """Begins a call, now or later; what it returns gives the call's result, any number of times.

    ``urgent``: a short one that everything waits for, which does not wait for its turn.
    """

    def __call__(self, call: Callable[[], T], urgent: bool = False) -> Callable[[], T]: ...


def when_asked(call: Callable[[], T], urgent: bool = False) -> Callable[[], T]:
    """A :class:`Start` that makes the call when its result is asked for, in the thread that asks."""
    return cache(call)


def at_once(call: Callable[[], T], urgent: bool = False) -> Callable[[], T]:
    """A :class:`Start` that makes calls in their order, two at a time, each with half of PyTorch's threads.

    With one thread they are made when they are asked for. A call may ask for the results of those begun before it.
    """
    if lanes(at_once) == 1:
        return when_asked(call)
    workers = _workers(1 if urgent else WORKERS, torch.get_num_threads() // WORKERS)
    return workers.submit(_without_gradients, call).result


def lanes(start: Start) -> int:
    """How many calls are made at the same time."""
    return WORKERS if start == at_once and torch.get_num_threads() >= WORKERS else 1


@cache
def _workers(count: int, threads: int) -> ThreadPoolExecutor:
    """So many workers that compute with ``threads`` of PyTorch's each, all of them begun."""
    mine, begun = torch.get_num_threads(), Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes the default at its first question, whatever it had set before
        torch.set_num_threads(threads)
        begun.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="part")
    for _ in range(count):
        pool.submit(begin)
    begun.wait()
    torch.set_num_threads(mine)  # what a thread sets is also the default of threads to come
    return pool


@torch.inference_mode()
def _without_gradients(call: Callable[[], T]) -> T:
    return call()
