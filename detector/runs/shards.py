"""Shards: one job in N parts, made by any number of machines that share nothing but the list of inputs.

A part is a run folder with ``shard.json``, which says what the job is and that its part of it is done.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from pydantic import InstanceOf, StrictInt
from pydantic.dataclasses import dataclass

from detector.runs.leftovers import UNFINISHED
from detector.shown import JSON_FAULTS, brief, json_text, shown
from detector.strict_yaml import write_whole
from proposals.errors import UserError

SHARD_FILE = "shard.json"
JOURNAL_FILE = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Shard:
    """The ``index``-th, from 1, of ``count`` shards."""

    index: StrictInt
    count: StrictInt

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f"there is no shard {self}")

    @classmethod
    def parse(cls, text: str, option: str = "--shard") -> Shard:
        """``2/7``; UserError where it is no such thing, in the words of the ``option`` that has it."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"{option} {text}: write i/N, as 1/4, 2/4, 3/4 and 4/4")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def block(self, total: int) -> range:
        """The positions of this shard's inputs among ``total``.

        A block, not every N-th input: the results of one process are then those of the shards one after another, and
        what is done of a shard is one number. Blocks differ by one input at most; with more shards than inputs some are
        empty.
        """
        return range((self.index - 1) * total // self.count, self.index * total // self.count)


@dataclass(frozen=True, slots=True)
class Job:
    """All that decides the results of a run; ``Job(**json.loads(line))`` is that of :meth:`to_json`.

    Attributes:
        verb: the command. inputs: how many there are in the whole list. digest: of the list.
        settings: of plain types; all that must be equal between shards, and between a run and its resumption.
        config: of plain types; for ``config.yaml``. seed: of the run's random numbers.
        shard: the part of the list that is worked on; None for all of it.
    """

    verb: InstanceOf[str]
    inputs: StrictInt
    digest: InstanceOf[str]
    settings: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: StrictInt = 0
    shard: Shard | None = None

    @property
    def positions(self) -> range:
        """Where in the list the inputs of this run are."""
        return range(self.inputs) if self.shard is None else self.shard.block(self.inputs)

    def to_json(self) -> str:
        """One line."""
        return json_text(asdict(self))

    def difference(self, other: Job) -> str | None:
        """What of ``other`` is not as it is here, in words; None where both belong to one job."""
        if other.verb != self.verb:
            return f"another command (detector {shown(other.verb)}, not detector {self.verb})"
        if _count(other) != _count(self):
            return f"another number of shards ({_count(other)}, not {_count(self)})"
        for name in sorted({*self.settings, *other.settings}):
            mine, theirs = (_leaves(job.settings.get(name), name) for job in (self, other))
            for key in [*mine, *theirs]:
                if mine.get(key) != theirs.get(key):
                    values = f" ({brief(theirs.get(key))}, not {brief(mine.get(key))})"
                    return f"another {shown(key)}{'' if key.endswith('digest') else values}".removesuffix(" digest")
        return None if (other.inputs, other.digest) == (self.inputs, self.digest) else "another list of inputs"


def _count(job: Job) -> int:
    return 1 if job.shard is None else job.shard.count


def _leaves(value: Any, name: str) -> dict[str, Any]:
    """``{"config.postprocess.score_threshold": 0.5, ...}``: what is in nested mappings."""
    if not isinstance(value, Mapping) or not value:
        return {name: value}
    return {leaf: x for key, inner in value.items() for leaf, x in _leaves(inner, f"{name}.{key}").items()}


@dataclass(frozen=True, slots=True)
class Part:
    """A finished shard.

    Attributes:
        folder: where it is. job: with its shard. faults: what was told of each input that was skipped, in list order.
        size: of the results, to notice one that was not copied whole. counts: sums for the last line, by name.
    """

    folder: Path
    job: Job
    faults: Sequence[InstanceOf[str]]
    size: StrictInt
    counts: Mapping[str, StrictInt] = field(default_factory=dict)

    @property
    def shard(self) -> Shard:
        """Which part of the job this is."""
        assert self.job.shard is not None
        return self.job.shard

    def write(self) -> None:
        """Write ``shard.json``, whole or not at all, which makes the folder a finished shard."""
        record = {"job": asdict(self.job), "faults": self.faults, "size": self.size, "counts": self.counts}
        write_whole(self.folder / SHARD_FILE, json_text(record) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Part:
        """The finished shard in ``folder``; UserError where there is none."""
        path = folder / SHARD_FILE
        if not path.is_file():
            raise UserError(_why_none(folder))
        try:
            part = cls(folder, **json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"{path}: cannot read: {error.strerror}") from None
        except (*JSON_FAULTS, TypeError):
            raise UserError(f"{path}: damaged, or not the record of a shard") from None
        if part.job.shard is None:
            raise UserError(f"{path}: not the record of a shard")
        return part


def _why_none(folder: Path) -> str:
    """In words why ``folder`` is no finished shard."""
    begun = [folder, folder / UNFINISHED, folder.with_name(folder.name + UNFINISHED)]
    for place in begun:
        if (place / JOURNAL_FILE).is_file():
            job = read_job(place / JOURNAL_FILE)
            resume = "" if job is not None and job.verb == "propose" else " with --resume"
            which = f"shard {job.shard}" if job is not None and job.shard is not None else "this run"
            return f"{folder}: {which} is not finished; give its command again{resume}"
    if not folder.is_dir():
        return f"{folder}: no such folder"
    return f"{folder}: not a shard: it has no {SHARD_FILE}"


def read_job(journal: Path) -> Job | None:
    """The job in the first line of a journal; None where that line is not whole."""
    try:
        with journal.open("rb") as file:
            line = file.readline()
        return Job(**json.loads(line)) if line.endswith(b"\n") else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{journal}: cannot read: {error.strerror}") from None
    except (*JSON_FAULTS, TypeError):
        return None


def copy_results(source: Path, target: Path, *left_out: str) -> None:
    """Copy a part's folder ``source`` into ``target``, which may have others' files.

    Args:
        left_out: patterns of names that are not copied.

    Raises:
        UserError: a file cannot be read or written.
    """
    try:
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*left_out))
    except OSError as error:
        # copytree tells of all files at once, of each as (source, target, reason).
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise UserError(f"{source}: cannot be copied: {reason}; check the space and the permissions") from error


def read_parts(folders: Sequence[Path]) -> list[Part]:
    """All the shards of one job, in the order of the list.

    Raises:
        UserError: a folder is no finished shard, or one of another job; a shard is there twice, or missing.
    """
    found: dict[int, Part] = {}
    first: Part | None = None
    for folder in folders:
        part = Part.read(folder)
        first = first or part
        what = first.job.difference(part.job)
        if what is not None:
            raise UserError(f"{folder}: a shard with {what}; {first.folder} is of another job")
        other = found.setdefault(part.shard.index, part)
        if other is not part:
            raise UserError(f"{folder}: shard {part.shard}, which {other.folder} is, too; leave one of them out")
    if first is None:
        raise UserError("no shards to merge")
    count = first.shard.count
    missing = [str(index) for index in range(1, count + 1) if index not in found]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"of {count} shards {', '.join(missing[:5])}{more} {'is' if len(missing) == 1 else 'are'} missing"
        )
    return [found[index] for index in range(1, count + 1)]
