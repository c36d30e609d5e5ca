"""What a run of detection has done, input by input, so that it goes on after a kill where it stopped.

``journal.jsonl`` in the unfinished folder: the job on the first line, then a line after every image and every input::

    {"inputs": whole inputs done, "frames": images done of the next one, "end": bytes of the results, "fault": ...}

A line of the results is written before the journal's. Whatever was lost of either file, the last journal line whose
``end`` the results reach is the state that a run goes on from; all behind it is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from detector.runs.shards import JOURNAL_FILE, Job, Part, read_job
from detector.shown import JSON_FAULTS, json_text
from proposals.errors import UserError


class Journal:
    """The results of a run and the record of what is done; see :func:`open_journal`.

    Attributes:
        job: the run's. inputs: whole inputs that are done. frames: images that are done of the next one.
        end: bytes of the results. faults: of the inputs that were skipped, in their order.
    """

    def __init__(self, folder: Path, job: Job, results: BinaryIO, lines: BinaryIO) -> None:
        self.folder = folder
        self.job = job
        self.inputs = self.frames = self.end = 0
        self.faults: list[str] = []
        self._results, self._lines = results, lines

    def add(self, line: str) -> None:
        """Write one image's ``line`` (without its end) to the results: it is done."""
        data = line.encode() + b"\n"
        self._results.write(data)
        self._results.flush()
        self.frames += 1
        self.end += len(data)
        self._write()

    def input_done(self, fault: str | None = None) -> None:
        """The input is done, or skipped for its ``fault``."""
        self.inputs += 1
        self.frames = 0
        if fault is not None:
            self.faults.append(fault)
        self._write(fault)

    def _write(self, fault: str | None = None) -> None:
        state = {"inputs": self.inputs, "frames": self.frames, "end": self.end, "fault": fault}
        self._lines.write(json_text(state).encode() + b"\n")
        self._lines.flush()

    def go_on(self) -> None:
        """Take up what the files hold, and cut off what is not whole."""
        size = os.fstat(self._results.fileno()).st_size
        self._lines.seek(0)
        kept = len(self._lines.readline())
        for line in self._lines:
            state = _state(line)
            if state is None or state[2] > size:
                break
            self.inputs, self.frames, self.end, fault = state
            self.faults += [] if fault is None else [fault]
            kept += len(line)
        self._lines.truncate(kept)
        self._lines.seek(kept)
        self._results.truncate(self.end)
        self._results.seek(self.end)

    def finish(self, faults: list[str]) -> None:
        """All is done: a shard's record, with all ``faults``, is written. The journal goes with the unfinished name."""
        if self.job.shard is not None:
            Part(self.folder, self.job, faults, self.end).write()


def _state(line: bytes) -> tuple[int, int, int, str | None] | None:
    """A line of the journal; None where it is not whole."""
    try:
        state = json.loads(line) if line.endswith(b"\n") else {}
        numbers = (state["inputs"], state["frames"], state["end"])
        whole = all(type(x) is int for x in numbers) and isinstance(state["fault"], str | None)
        return (*numbers, state["fault"]) if whole else None
    except (*JSON_FAULTS, LookupError, TypeError):
        return None


@contextmanager
def open_journal(folder: Path, job: Job, results: str) -> Iterator[Journal]:
    """The journal of ``job`` in ``folder``, begun or taken up, with the file ``results`` that it counts the bytes of.

    Raises:
        UserError: the folder holds another job.
    """
    path = folder / JOURNAL_FILE
    begun = read_job(path)
    if begun is not None:
        refuse_other_job(folder, begun, job)
    else:
        path.write_bytes(job.to_json().encode() + b"\n")
        (folder / results).write_bytes(b"")
    (folder / results).touch()
    with (folder / results).open("r+b") as found, path.open("r+b") as lines:
        journal = Journal(folder, job, found, lines)
        journal.go_on()
        yield journal


def refuse_other_job(folder: Path, begun: Job, job: Job) -> None:
    """UserError where what was ``begun`` in ``folder`` is not ``job``."""
    what = job.difference(begun)
    if what is None and begun.shard != job.shard:
        what = f"another shard ({begun.shard}, not {job.shard})"
    if what is not None:
        raise UserError(f"{folder}: holds a run with {what}; name another --out")
