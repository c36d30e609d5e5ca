"""How long the data sets take to load and to read through.

    python benchmarks/data_loading.py data/bccd:train data/fruit:train data/coco128

Prints a Markdown table: the median of five loads, microseconds for one record, and pictures decoded per second on one
core.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from detector.data import load_dataset, read_record

LOADS, RECORDS, PICTURES = 5, 2000, 300
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def row(argument: str) -> str:
    path, _, split = argument.partition(":")
    loads = [timed(lambda: load_dataset(path, split or None)) for _ in range(LOADS)]
    seconds = [s for s, _ in loads]
    dataset = loads[-1][1]
    chosen = np.random.default_rng(0).permutation(len(dataset))
    some = chosen[:RECORDS].tolist()
    records, _ = timed(lambda: [dataset[i] for i in some])
    few = [dataset[i] for i in chosen[:PICTURES].tolist()]
    pictures, _ = timed(lambda: [read_record(record) for record in few])
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    cells = (
        f"{dataset.name} {dataset.split}", dataset.format, f"{len(dataset):,}", f"{len(dataset.boxes):,}",
        f"{statistics.median(seconds):.2f} ({spread})", f"{1e6 * records / len(some):.0f}",
        f"{len(few) / pictures:.0f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    heads = ("set", "format", "images", "boxes", "load, s", "record, us", "pictures/s")
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for argument in sys.argv[1:]:
        print(row(argument), flush=True)


if __name__ == "__main__":
    main()
