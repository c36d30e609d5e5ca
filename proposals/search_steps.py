"""The steps of selective search for one image, spread over threads.

For each colour space the texture and the joins that its scales have in common are two tasks; then each scale is
segmented and described, a task each; then it is grouped with every similarity, a task each. Tasks that others have led
to go before further colour spaces, so that few colour spaces are held in memory at once.
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
from proposals.regions import Regions, describe, texture_bins
from proposals.superpixels import Components, join, join_common

Task = Callable[[], "list[Task]"]
_NONE = np.empty((0, 4), np.int32)

# At most this many bytes are kept from one search to the next, enough for two threads' searches of half a megapixel:
# the system takes longer to hand out fresh pages than we to fill them.
KEPT_BYTES = 2**26

_kept: list[NDArray[np.uint32]] = []
_lock = threading.Lock()


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
    height, width = rgb.shape[:2]
    area = height * width
    found: list[list[NDArray[np.int32]]] = [[_NONE] * (1 + len(similarities)) for _ in color_spaces for _ in scales]

    def start(number: int, space: str) -> list[Task]:
        planes = to_planes(rgb, space)
        channels = len(planes)
        shared = Shared((channels + 1) * area, users=len(scales))
        bins = shared.memory[: channels * area].view(np.uint8).reshape(channels, 4, height, width)
        labels = shared.memory[channels * area : (channels + 1) * area].view(np.int32).reshape(height, width)
        components: list[Components] = []
        # Whichever of the two tasks ends second goes on; `next` is one step of the interpreter, so no lock is needed.
        halves = iter((False, True))

        def texture() -> list[Task]:
            texture_bins(planes, bins)
            return at_scales() if next(halves) else []

        def joins() -> list[Task]:
            memory = borrow(words_needed(height, width))
            components.append(join_common(sort_edges(planes, sigma, connectivity, memory), scales, labels))
            give_back(memory)
            return at_scales() if next(halves) else []

        def at_scales() -> list[Task]:
            first = number * len(scales)
            return [partial(at_scale, found[first + i], *scale) for i, scale in enumerate(scales)]

        def at_scale(results: list[NDArray[np.int32]], k: float, min_size: int) -> list[Task]:
            memory = borrow(area)
            own = memory[:area].view(np.int32).reshape(height, width)
            regions = describe(planes, bins, join(components[0], k, min_size, own))
            give_back(memory)
            shared.done()
            results[0] = regions.boxes
            return [partial(grouped, results, i, regions) for i in range(len(similarities))]

        return [joins, texture]

    def grouped(results: list[NDArray[np.int32]], i: int, regions: Regions) -> list[Task]:
        results[1 + i] = group(regions, similarities[i], area)
        return []

    starts: list[Task] = [partial(start, number, space) for number, space in enumerate(color_spaces)]
    run_tasks(starts, min(threads, len(found) * len(similarities)))
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


# --- memory -----------------------------------------------------------------------------------------------------------


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
