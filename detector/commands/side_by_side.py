"""Calls made side by side on all cores, their results in order: how ``detect`` and ``evaluate`` go through images.

Each image has one thread of its own: reading and search of one run while the networks of another do, and no thread
waits for others at the end of every layer, as those do that share the work of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from detector.training.ahead import in_turn
from proposals.selective_search import available_cores

T = TypeVar("T")

MOST_AT_ONCE = 16  # each holds an image and its maps, and all take turns in the interpreter


def in_order(calls: Iterable[Callable[[], T]], *, alone: bool, workers: int = 0) -> Iterator[T]:
    """The results of ``calls`` in their order.

    Args:
        calls: asked for as they are needed, at most two more than there are threads; what one raises is raised here.
        alone: one at a time with all cores, as for a single image; otherwise on all cores at once, with one thread of
            PyTorch each, so that the results are the same on any number of cores.
        workers: so many at once in place of one on each core, if not 0.
    """
    workers = 1 if alone else workers or min(available_cores(), MOST_AT_ONCE)
    before = torch.get_num_threads()
    each = before if alone else 1
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,))
    try:
        yield from in_turn(calls, pool, workers + 1)
    finally:
        torch.set_num_threads(before)
