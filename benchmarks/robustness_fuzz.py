"""Damaged files for every reader, in processes that may hang or die without stopping the campaign."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from robustness_table import Outcomes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

MEMORY = 8 * 2**30
"""Address space of a reading process, bytes: a file that asks for more is a MemoryError in it."""
START_LIMIT = 300.0
GROUPS = {
    "image": "images",
    "data": "data sets",
    "detections": "detections",
    "truth": "detections",
    "list": "detections",
    "model": "models",
    "recipe": "recipes",
}
OTHERS = "runs and stores"


def group(name: str) -> str:
    """The row of the table that a reader's files are counted in."""
    return "read " + GROUPS.get(name.split()[0], OTHERS)


def serve(connection: Connection, folder: Path) -> None:
    """Be a reading process: answer each (reader, seed) with its outcome and, of a fault, what it was."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    from reader_cases import READERS

    attempts = {}
    for name, begin in READERS.items():
        place = folder / str(len(attempts))
        place.mkdir()
        attempts[name] = begin(place)
    connection.send(list(attempts))
    while (task := connection.recv()) is not None:
        name, seed = task
        try:
            connection.send(("error" if isinstance(attempts[name](seed), str) else "ok", ""))
        except Exception as error:
            connection.send(("crash", f"{type(error).__name__}: {error}"[:300]))


class Reader:
    """A reading process, started again after a hang or a death."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._start()

    def _start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="robustness-", ignore_cleanup_errors=True)
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, Path(self.folder.name)), daemon=True)
        self.process.start()
        other.close()
        if not self.connection.poll(START_LIMIT):
            raise TimeoutError("a reading process did not start")
        self.names: list[str] = self.connection.recv()

    def read(self, name: str, seed: int) -> tuple[str, str]:
        """The outcome of one damaged file, and what to say of it."""
        self.connection.send((name, seed))
        try:
            if self.connection.poll(self.limit):
                answer: tuple[str, str] = self.connection.recv()
                return answer
            outcome = ("hang", f"longer than {self.limit:.0f} s")
        except (EOFError, ConnectionError):
            self.process.join()
            outcome = ("crash", f"the process died with {self.process.exitcode}")
        self.close()
        self._start()
        return outcome

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.folder.cleanup()


def shares(names: list[str], files: int) -> Iterator[tuple[str, int]]:
    """Reader and seed of each of ``files`` damaged files, as evenly as they go."""
    for number in range(files):
        yield names[number % len(names)], number // len(names)


def fuzz(files: int, limit: float, workers: int, outcomes: Outcomes) -> None:
    """Read ``files`` damaged files, each for ``limit`` seconds at most."""

    def part(reader: Reader, index: int) -> None:
        for name, seed in list(shares(reader.names, files))[index::workers]:
            outcome, detail = reader.read(name, seed)
            outcomes.add(group(name), outcome, f"{name}, seed {seed}: {detail}" if detail else "")

    begun = time.monotonic()
    readers = [Reader(limit) for _ in range(workers)]
    try:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(part, readers, range(workers)))
    finally:
        for reader in readers:
            reader.close()
    print(f"{files:,} damaged files in {time.monotonic() - begun:.0f} s", file=sys.stderr)
