"""The steps of selective search for one image, spread over threads.

A colour space is prepared once (planes, texture, sorted edges); each of its scales is then segmented, described and
grouped with every similarity. Scales already prepared go before further colour spaces, so that no more colour spaces
are held in memory than there are threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from proposals.colors import to_planes
from proposals.grouping import group
from proposals.pixel_edges import sort_edges, words_needed
from proposals.regions import describe, texture_bins
from proposals.scratch import borrow, give_back
from proposals.superpixels import join, join_common

Task = Callable[[], "list[Task]"]


def search(
    rgb: NDArray[np.uint8],
    color_spaces: Sequence[str],
    similarities: Sequence[str],
    scales: Sequence[tuple[float, int]],
    sigma: float,
    connectivity: int,
    threads: int,
) -> list[list[NDArray[np.int32]]]:
    """For each colour space and scale: the initial regions' boxes ``(n, 4)``, then each similarity's merged boxes.

    Args:
        rgb: ``(H, W, 3)`` uint8, contiguous. scales: pairs of k and min_size. threads: how many to use; the result does
            not depend on it. The others: see :class:`proposals.selective_search.SelectiveSearchConfig`.
    """
    area = rgb.shape[0] * rgb.shape[1]
    found: list[list[NDArray[np.int32]]] = [[] for _ in range(len(color_spaces) * len(scales))]

    def prepare(number: int, space: str) -> list[Task]:
        planes = to_planes(rgb, space)
        bins = texture_bins(planes)
        memory = borrow(words_needed(area))
        components = join_common(sort_edges(planes, sigma, connectivity, memory), scales)
        give_back(memory)

        def at_scale(index: int, k: float, min_size: int) -> list[Task]:
            regions = describe(planes, bins, join(components, k, min_size))
            found[index] = [regions.boxes, *(group(regions, letters, area) for letters in similarities)]
            return []

        first = number * len(scales)
        return [partial(at_scale, first + i, k, min_size) for i, (k, min_size) in enumerate(scales)]

    run_tasks([partial(prepare, number, space) for number, space in enumerate(color_spaces)], min(threads, len(found)))
    return found


def run_tasks(tasks: list[Task], threads: int) -> None:
    """Run tasks and the tasks that they return, newest first; the first exception is raised again here."""
    pending = tasks[::-1]
    running = 0
    failures: list[BaseException] = []
    changed = threading.Condition()

    def work() -> None:
        nonlocal running
        while True:
            with changed:
                while not pending and running and not failures:
                    changed.wait()
                if not pending or failures:
                    return
                task = pending.pop()
                running += 1
            more: list[Task] = []
            try:
                more = task()
            except BaseException as error:
                failures.append(error)
            with changed:
                running -= 1
                pending.extend(more[::-1])
                changed.notify_all()

    helpers = [threading.Thread(target=work, daemon=True) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]
