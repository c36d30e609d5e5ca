"""What ``evaluate`` does with a model: detections of every image of the data set, or of one shard of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.commands.console import Faults, progress
from detector.commands.detection_files import JSONL_FILE
from detector.commands.detection_run import detect_each
from detector.commands.inputs import Frame
from detector.data import Dataset
from detector.detection.pipeline import Detector
from detector.runs.journal import open_journal
from detector.runs.shards import Job
from proposals.types import Proposals


@dataclass(frozen=True, slots=True)
class RecordInput:
    """An image of a data set, by its position."""

    dataset: Dataset
    index: int

    def identity(self) -> list[Any]:
        """What tells it from others; this opens no image."""
        data, i = self.dataset, self.index
        return [data.image_ids[i], str(data.path(i)), data.sizes[i].tolist()]

    def frames(self, *, reduced: bool = False) -> Iterator[Frame]:
        """The image, never smaller; UserError where it cannot be read or is not of its annotation's size."""
        path, image = str(self.dataset.path(self.index)), self.dataset.read(self.index)
        yield Frame(self.dataset.image_ids[self.index], path, path, image, image.shape[:2])


@dataclass(frozen=True, slots=True)
class EvaluateRun:
    """A detector run over a data set, or a shard of it.

    Attributes:
        detector: the model. job: which run it is. own: the images of this shard, or all. alone: images one at a time.
    """

    detector: Detector
    job: Job
    own: Sequence[RecordInput]
    alone: bool

    def detect(self, folder: Path, faults: Faults) -> dict[str, Proposals]:
        """Write the detections to the folder as they come; the proposals by image, of a shard none."""
        proposals: dict[str, Proposals] = {}
        with (
            open_journal(folder, self.job, JSONL_FILE) as journal,
            progress("evaluate", len(self.own) - journal.inputs, "image") as advance,
        ):
            faults.told += journal.faults
            for found in detect_each(self.own, self.detector, journal, faults, alone=self.alone):
                if self.job.shard is None:
                    proposals[found.frame.image_id] = found.proposals
                advance()
            journal.finish(faults.told)
        return proposals
