"""What ``detect`` and ``evaluate`` share: a detector run over many inputs, in shards and resumable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import detector
from detector.commands.console import Faults
from detector.commands.detection_files import SavedDetections
from detector.commands.inputs import Frame, Source, digest_of
from detector.detection.pipeline import Detector
from detector.detection.precision import detection_dtype
from detector.model.config import BUNDLED_MODEL, MODEL_FILE
from detector.model.load import choose_device
from detector.nets.multibox import MULTIBOX_FILE
from detector.nets.weights import sha256
from detector.runs.folder import plain
from detector.runs.journal import Journal
from detector.runs.shards import Job, Shard
from proposals.errors import UserError
from proposals.types import Proposals

# Digests decide whether lists and models are the same, the resolved device and precision what is computed. A run that a
# faulty image has ended may go on with --on-error skip.
_NOT_COMPARED = ("inputs", "model", "device", "precision", "on_error")


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found in one image: its ``detections`` in pixels of ``frame.image``, and ``saved`` in the file's."""

    frame: Frame
    detections: Any
    proposals: Proposals
    saved: SavedDetections


def job_of(
    verb: str,
    inputs: Sequence[Source],
    config: Mapping[str, Any],
    model: Path | None,
    network: Detector,
    *,
    multibox: Path | None,
    device: str,
    precision: str,
    seed: int,
    shard: Shard | None,
) -> Job:
    """What the run is, from its settings as they were resolved; ``network`` is the ``model`` as it was loaded."""
    chosen = choose_device(device)
    record = plain(config)
    settings = {
        "version": detector.__version__,
        "model digest": sha256((model or BUNDLED_MODEL) / MODEL_FILE),
        "multibox digest": None if multibox is None else sha256(multibox / MULTIBOX_FILE),
        "device": chosen.type,
        "precision": str(detection_dtype(precision, chosen)).removeprefix("torch."),
        "seed": seed,
        "class_names": network.class_names,
        "class_keys": network.class_keys,
        "config": {name: value for name, value in record.items() if name not in _NOT_COMPARED},
    }
    return Job(verb, len(inputs), digest_of(inputs), plain(settings), record, seed, shard)


def detect_each(inputs: Sequence[Source], network: Detector, journal: Journal, faults: Faults) -> Iterator[Found]:
    """Detect in every image of ``inputs`` that the journal has not as done, and record it once the caller is done.

    Args:
        inputs: of this run or shard, in their order.
        faults: told of each input that cannot be read; it may raise.
    """
    for source in inputs[journal.inputs :]:
        told: str | None = None
        try:
            for frame in islice(source.frames(reduced=True), journal.frames, None):
                detections, proposals = network.detect(frame.image)
                in_file = detections.resized(frame.image_size)
                saved = SavedDetections.of(frame.image_id, frame.path, in_file, network.class_names)
                yield Found(frame, detections, proposals, saved)
                journal.add(saved.to_json())
        except UserError as fault:
            faults(fault)
            told = str(fault)
        journal.input_done(told)
