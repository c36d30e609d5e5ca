"""What ``detect`` and ``evaluate`` share: a detector run over many inputs, in shards and resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import detector
from detector.commands.console import Faults
from detector.commands.detection_files import SavedDetections
from detector.commands.inputs import ArchiveInput, Frame, Source, VideoInput, digest_of
from detector.commands.side_by_side import in_order
from detector.detection.pipeline import Detector
from detector.detection.precision import detection_dtype
from detector.model.config import BUNDLED_MODEL, MODEL_FILE
from detector.model.load import choose_device
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
        "device": chosen.type,
        "precision": str(detection_dtype(precision, chosen)).removeprefix("torch."),
        "seed": seed,
        "class_names": network.class_names,
        "class_keys": network.class_keys,
        "config": {name: value for name, value in record.items() if name not in _NOT_COMPARED},
    }
    return Job(verb, len(inputs), digest_of(inputs), plain(settings), record, seed, shard)


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """What was found in one image, or why it could not be read; ``ends`` with the last of an input."""

    found: Found | None
    fault: UserError | None
    ends: bool


def one_at_a_time(several: bool, device: str) -> bool:
    """Whether images are looked at one after another, each with all cores: on a GPU, and where there is only one.

    ``several``: of all the inputs of a run and not of a shard, so that shards find what the whole run would.
    """
    return not several or choose_device(device).type != "cpu"


def detect_each(
    inputs: Sequence[Source],
    network: Detector,
    journal: Journal,
    faults: Faults,
    *,
    alone: bool = False,
    workers: int = 0,
) -> Iterator[Found]:
    """Detect in every image of ``inputs`` that the journal has not as done, and record it once the caller is done.

    Args:
        inputs: of this run or shard, in their order.
        faults: told of each input that cannot be read; it may raise.
        alone: images one at a time, see :func:`one_at_a_time`; otherwise as many at once as there are cores, or
            ``workers``.
    """
    told: str | None = None
    steps = _steps(inputs[journal.inputs :], journal.frames, network)
    for step in in_order(steps, alone=alone, workers=workers):
        if step.fault is not None and told is None:  # a fault ends its input
            faults(step.fault)
            told = str(step.fault)
        if step.found is not None and told is None:
            yield step.found
            journal.add(step.found.saved.to_json())
        if step.ends:
            journal.input_done(told)
            told = None


def _steps(inputs: Sequence[Source], done: int, network: Detector) -> Iterator[Callable[[], _Step]]:
    """Calls that read an image and detect in it; the first ``done`` images of the first input are left out."""
    for source in inputs:
        frames = islice(source.frames(reduced=True), done, None)
        done = 0
        if isinstance(source, VideoInput | ArchiveInput):
            yield from _steps_of_many(frames, network)
        else:
            yield partial(_step, network, partial(_read, network, frames), True)


def _steps_of_many(frames: Iterator[Frame], network: Detector) -> Iterator[Callable[[], _Step]]:
    """The same for a video or archive, whose ``frames`` are read one after another by whoever asks for the calls."""
    end = _Step(None, None, True)
    try:
        while (frame := _read(network, frames)) is not None:
            yield partial(_step, network, iter((frame,)).__next__, False)
    except UserError as fault:
        end = _Step(None, fault, True)
    yield lambda: end


def _read(network: Detector, frames: Iterator[Frame]) -> Frame | None:
    with network.stages.time("read"):
        return next(frames, None)


def _step(network: Detector, read: Callable[[], Frame | None], ends: bool) -> _Step:
    try:
        frame = read()
        if frame is None:
            return _Step(None, None, ends)
        detections, proposals = network.detect(frame.image)
    except UserError as fault:
        return _Step(None, fault, ends)
    in_file = detections.resized(frame.image_size)
    saved = SavedDetections.of(frame.image_id, frame.path, in_file, network.class_names)
    return _Step(Found(frame, detections, proposals, saved), None, ends)
