"""A detector run over many inputs, in shards and resumable: for ``detect``, ``evaluate`` and ``suggest``.

Of several images each has one thread of its own: reading and search of one run while the networks of another do, and
no thread waits for others at the end of every layer, as those do that share the work of one image. On a GPU the threads
read and search, and the networks look at several images together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import typer

import detector
from detector.commands.console import Faults, log, print_line, progress
from detector.commands.detection_files import JSONL_FILE, PICTURES, PROPOSAL_PICTURES, SavedDetections
from detector.commands.inputs import ArchiveInput, Frame, Input, Source, VideoInput, digest_of
from detector.commands.tally import Tally
from detector.data import Dataset
from detector.detection.cores import when_asked
from detector.detection.pipeline import Begun, Detector
from detector.images.pixels import write_picture
from detector.model.config import BUNDLED_MODEL, MODEL_FILE
from detector.model.load import choose_device
from detector.nets.weights import sha256
from detector.report.drawing import draw_detections, draw_proposals
from detector.runs.folder import plain
from detector.runs.journal import Journal, open_journal
from detector.runs.shards import Job, Shard
from detector.shown import path_parts
from detector.training.ahead import in_turn
from detector.types import Detections
from proposals.errors import UserError
from proposals.selective_search import available_cores
from proposals.types import Proposals

T = TypeVar("T")
MOST_AT_ONCE = 16  # each image holds its maps, and all take turns in the interpreter
TOGETHER = 16  # images that the networks look at together: a layer then has enough for a GPU to do
JPEG_QUALITY, JPEG_LONGEST_SIDE = 92, 65_500
# Digests decide whether lists and models are the same, the resolved device and precision what is computed. A run that a
# faulty image has ended may go on with --on-error skip.
_NOT_COMPARED = ("inputs", "model", "device", "precision", "on_error")


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


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found in one image: its ``detections`` in pixels of ``frame.image``, and ``saved`` in the file's."""

    frame: Frame
    detections: Detections
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
    seed: int,
    shard: Shard | None,
) -> Job:
    """What the run is, from its settings as they were resolved; ``network`` is the ``model`` as it was loaded."""
    record = plain(config)
    settings = {
        "version": detector.__version__,
        "model digest": sha256((model or BUNDLED_MODEL) / MODEL_FILE),
        "device": choose_device(device).type,
        "precision": getattr(network.classifier, "precision", ""),
        "seed": seed,
        "class_names": network.class_names,
        "class_keys": network.class_keys,
        "config": {name: value for name, value in record.items() if name not in _NOT_COMPARED},
    }
    return Job(verb, len(inputs), digest_of(inputs), plain(settings), record, seed, shard)


# How a run goes through its images: one after another, each with all cores; on each core one; or on each core one is
# read and searched, and the networks look at several together.
Pace = Literal["alone", "side by side", "together"]


def pace_of(several: bool, device: str) -> Pace:
    """How a run with one image, or with ``several``, goes through them on ``device``.

    ``several``: of all the inputs of a run and not of a shard, so that shards find what the whole run would.
    """
    if not several:
        return "alone"
    return "side by side" if choose_device(device).type == "cpu" else "together"


def in_order(calls: Iterable[Callable[[], T]], pace: Pace, workers: int = 0) -> Iterator[T]:
    """The results of ``calls`` in their order.

    Args:
        calls: asked for as they are needed, one more than there are threads beyond the one that is waited for, or
            enough for the networks; what one raises is raised here.
        pace: "alone" makes one at a time with all cores; the others on all cores at once, with one thread of PyTorch
            each, so that the results are the same on any number of cores.
        workers: so many at once in place of one on each core, if not 0.
    """
    alone = pace == "alone"
    workers = 1 if alone else workers or min(available_cores(), MOST_AT_ONCE)
    before = torch.get_num_threads()
    each = before if alone else 1
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,))
    try:
        yield from in_turn(calls, pool, max(workers + 1, TOGETHER if pace == "together" else 0))
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """An image that was read and searched, for the networks to look at."""

    frame: Frame
    begun: Begun


# What a call of :func:`_steps` gives, in turn: an image that was begun, or what was found in one, why an input could
# not be read, its end.
_Step = Found | _Begun | UserError | None


def detect_each(
    inputs: Sequence[Source],
    network: Detector,
    journal: Journal,
    faults: Faults,
    *,
    pace: Pace,
    workers: int = 0,
) -> Iterator[Found]:
    """Detect in every image of ``inputs`` that the journal has not as done, and record it once the caller is done.

    Args:
        inputs: of this run or shard, in their order.
        faults: told of each input that cannot be read; it may raise.
        pace: see :func:`pace_of`. workers: see :func:`in_order`.
    """
    fault: str | None = None
    process = _begin if pace == "together" else _detect
    calls = _steps(inputs[journal.inputs :], journal.frames, network, process)
    for step in _finished(in_order(calls, pace, workers), network):
        if step is None:
            journal.input_done(fault)
            fault = None
        elif fault is not None:  # it ends its input
            continue
        elif isinstance(step, UserError):
            faults(step)
            fault = str(step)
        else:
            yield step
            journal.add(step.saved.to_json())


def _finished(results: Iterable[list[_Step]], network: Detector) -> Iterator[Found | UserError | None]:
    """The steps of ``results`` in their order, with what was found in images that were begun."""
    waiting: list[_Step] = []
    begun: list[_Begun] = []
    for steps in results:
        waiting += steps
        begun += [step for step in steps if isinstance(step, _Begun)]
        if begun and len(begun) < TOGETHER:
            continue
        yield from _detected(waiting, begun, network)
        waiting, begun = [], []
    yield from _detected(waiting, begun, network)


def _detected(steps: Sequence[_Step], begun: Sequence[_Begun], network: Detector) -> Iterator[Found | UserError | None]:
    found = iter(network.finish([each.begun for each in begun]) if begun else ())
    for step in steps:
        yield _found(step.frame, *next(found), network) if isinstance(step, _Begun) else step


_Process = Callable[[Detector, Frame], list[_Step]]


def _steps(
    inputs: Sequence[Source], done: int, network: Detector, process: _Process
) -> Iterator[Callable[[], list[_Step]]]:
    """Calls that read and ``process`` an image; the first ``done`` images of the first input are left out.

    The frames of a video or archive are read one after another by whoever asks for the calls.
    """
    for source in inputs:
        frames = islice(source.frames(reduced=True), done, None)
        done = 0
        if not isinstance(source, VideoInput | ArchiveInput):
            yield partial(_read_and_process, network, frames, process)
            continue
        end: list[_Step] = [None]
        try:
            while (frame := _read(network, frames)) is not None:
                yield partial(process, network, frame)
        except UserError as fault:
            end = [fault, None]
        yield partial(list, end)


def _read(network: Detector, frames: Iterator[Frame]) -> Frame | None:
    with network.stages.time("read"):
        return next(frames, None)


def _read_and_process(network: Detector, frames: Iterator[Frame], process: _Process) -> list[_Step]:
    try:
        frame = _read(network, frames)
    except UserError as fault:
        return [fault, None]
    return [None] if frame is None else [*process(network, frame), None]


def _detect(network: Detector, frame: Frame) -> list[_Step]:
    try:
        return [_found(frame, *network.detect(frame.image), network)]
    except UserError as fault:
        return [fault]


def _begin(network: Detector, frame: Frame) -> list[_Step]:
    try:
        begun = network.begin(frame.image, when_asked)
        if begun.searched is not None:
            begun.searched()  # by this thread, beside the networks
    except UserError as fault:
        return [fault]
    return [_Begun(frame, begun)]


def _found(frame: Frame, detections: Detections, proposals: Proposals, network: Detector) -> Found:
    in_file = detections.resized(frame.image_size)
    saved = SavedDetections.of(frame.image_id, frame.path, in_file, network.class_names)
    return Found(frame, detections, proposals, saved)


@contextmanager
def journaled(folder: Path, job: Job, faults: Faults) -> Iterator[Journal]:
    """The journal of ``job`` in ``folder``; its faults are added to ``faults``, which it records at the end."""
    with open_journal(folder, job, JSONL_FILE) as journal:
        faults.told += journal.faults
        yield journal
        journal.finish(faults.told)


def detect_in_images(
    folder: Path, job: Job, inputs: Sequence[Source], network: Detector, faults: Faults, *, pace: Pace, what: str
) -> Iterator[Found]:
    """As :func:`detect_each` for ``inputs`` of one image each, with a journal in ``folder`` and a progress bar."""
    with (
        journaled(folder, job, faults) as journal,
        progress(what, len(inputs) - journal.inputs, "image") as advance,
    ):
        for found in detect_each(inputs, network, journal, faults, pace=pace):
            yield found
            advance()


# --- detect ----------


def settings_of(detector: Detector) -> dict[str, Any]:
    """Where a detector looks: the settings of its search, of those that this wraps, and of MultiBox."""
    settings: dict[str, Any] = {"max_proposals": detector.max_proposals}
    if detector.learned is not None:
        settings["multibox"] = {"proposals": detector.learned.config, "merge": detector.merging}
    source: Any = detector.proposals
    while source is not None:
        if hasattr(source, "side"):
            settings["search_side"] = source.side
        if hasattr(source, "config"):
            settings["selective_search"] = source.config
        source = getattr(source, "source", None)
    return settings


def introduce(model: Path | None, network: Detector, device: str) -> None:
    """Where standard output is a terminal: what the run uses."""
    if not sys.stdout.isatty():
        return
    networks, classes = getattr(network.classifier, "num_members", 1), len(network.class_names)
    looked_for = "" if network.labels is None else f" ({len(network.labels)} looked for)"
    print_line(f"model: {model or 'bundled'}; networks: {networks}; classes: {classes}{looked_for}; device: {device}")
    settings, most = settings_of(network), network.max_proposals
    names = {"selective_search": "selective search", "multibox": "MultiBox"}
    parts = ["proposals: " + " and ".join(word for name, word in names.items() if name in settings)]
    parts += [f"longer side {settings['search_side']} pixels"] if settings.get("search_side") else []
    parts += [] if most is None else [f"at most {most}"]
    print_line(", ".join(parts))


def show_images(folder: Path) -> None:
    """Open the one image with its detections that a run has written, or the folder of several."""
    files = [path for path in (folder / PICTURES).rglob("*") if path.is_file()]
    place = files[0] if len(files) == 1 else folder / PICTURES
    if typer.launch(str(place)):
        log(f"no program was found to open {place}")


def detect_all(
    inputs: Sequence[Input],
    network: Detector,
    journal: Journal,
    faults: Faults,
    *,
    pictures: bool,
    proposal_pictures: bool,
    pace: Pace,
    workers: int,
) -> Tally:
    """Detect in every image of ``inputs`` that is not done yet and leave what was found in the journal's folder.

    ``pace``, ``workers``: see :func:`detect_each`.
    """
    folder = journal.folder
    tally = Tally.of_earlier(folder / JSONL_FILE)
    with progress("detecting", _images(inputs[journal.inputs :]), "image") as advance:
        for found in detect_each(inputs, network, journal, faults, pace=pace, workers=workers):
            frame = found.frame
            with network.stages.time("write"):
                if proposal_pictures:
                    drawn = draw_proposals(frame.image, found.proposals, in_place=not pictures)
                    _write_picture(folder / PROPOSAL_PICTURES / path_parts(frame.image_id), drawn)
                if pictures:  # last, into the frame itself, which is not needed any more
                    drawn = draw_detections(frame.image, found.detections, network.class_names, in_place=True)
                    _write_picture(folder / PICTURES / path_parts(frame.image_id), drawn)
            tally.add(frame.shown, found.saved)
            advance()
    return tally


def _images(inputs: Sequence[Input]) -> int | None:
    """How many images ``inputs`` hold; None where that is not known."""
    total = 0
    for source in inputs:
        count = source.count()
        if count is None:
            return None
        total += count
    return total


def _write_picture(stem: Path, picture: Any) -> None:
    """``picture`` ``(H, W, 3)`` as ``<stem>.jpg``, or ``.png`` where JPEG cannot hold its size."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".jpg" if max(picture.shape[:2]) <= JPEG_LONGEST_SIDE else ".png"
    write_picture(stem.with_name(stem.name + suffix), picture, JPEG_QUALITY)
