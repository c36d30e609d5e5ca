"""Shards of ``propose``: each fills a store of its own, and ``merge`` makes one store of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detector.commands.inputs import Source, digest_of
from detector.runs.folder import plain, refuse_occupied
from detector.runs.journal import refuse_other_job
from detector.runs.shards import JOURNAL_FILE, SHARD_FILE, Job, Part, Shard, copy_results, read_job
from detector.strict_yaml import write_whole
from proposals.errors import UserError
from proposals.store import settings_key


def begin_shard(store: Path, inputs: Sequence[Source], settings: Mapping[str, Any], shard: Shard) -> Job:
    """Mark ``store``, new or begun by the same shard, as not finished; what is in it stays.

    Args:
        inputs: the whole list. settings: of the proposals, as the store files them under.

    Raises:
        UserError: the folder holds anything else, or cannot be written.
    """
    job = Job("propose", len(inputs), digest_of(inputs), plain(settings), shard=shard)
    begun = read_job(store / JOURNAL_FILE)
    if (store / SHARD_FILE).is_file():
        begun = Part.read(store).job
    if begun is None:
        refuse_occupied(store)
    else:
        refuse_other_job(store, begun, job)
    with _writing(store):
        store.mkdir(parents=True, exist_ok=True)
        write_whole(store / JOURNAL_FILE, job.to_json() + "\n")
        (store / SHARD_FILE).unlink(missing_ok=True)
    return job


def end_shard(store: Path, job: Job, faults: Sequence[str], counts: Mapping[str, int]) -> None:
    """The shard is done: its record takes the place of the mark; UserError where it cannot be written."""
    with _writing(store):
        Part(store, job, faults, len(_files(store, job)), counts).write()
        (store / JOURNAL_FILE).unlink()


def merge_stores(parts: Sequence[Part], folder: Path) -> None:
    """Fill ``folder`` with the proposals of all parts; UserError where files of one are missing."""
    for part in parts:
        if len(_files(part.folder, part.job)) != part.size:
            raise UserError(f"{part.folder}: proposals are missing or too many; copy the shard again")
        own = part.folder / settings_key(part.job.settings)
        if own.is_dir():
            copy_results(own, folder / own.name, ".*")


@contextmanager
def _writing(store: Path) -> Iterator[None]:
    """A fault of the disk as a line for the user; what is in ``store`` stays."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{store}: cannot write here: {error.strerror}; free space, or name another --out") from error


def _files(store: Path, job: Job) -> list[Path]:
    return list((store / settings_key(job.settings)).glob("*/*.proposals"))
