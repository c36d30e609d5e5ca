"""What ``detect`` does once its options are read: images drawn and lines written, as they are found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from detector.commands.console import Faults, progress, say, tell
from detector.commands.detection_files import JSONL_FILE, PICTURES, PROPOSAL_PICTURES
from detector.commands.detection_run import detect_each
from detector.commands.inputs import Input
from detector.commands.tally import Tally
from detector.detection.pipeline import Detector
from detector.images.pixels import write_picture
from detector.report.drawing import draw_detections, draw_proposals
from detector.runs.journal import Journal
from detector.shown import path_parts

JPEG_QUALITY = 92
JPEG_LONGEST_SIDE = 65_500


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
    tell(f"model: {model or 'bundled'}; networks: {networks}; classes: {classes}{looked_for}; device: {device}")
    settings, most = settings_of(network), network.max_proposals
    names = {"selective_search": "selective search", "multibox": "MultiBox"}
    parts = ["proposals: " + " and ".join(word for name, word in names.items() if name in settings)]
    parts += [f"longer side {settings['search_side']} pixels"] if settings.get("search_side") else []
    parts += [] if most is None else [f"at most {most}"]
    tell(", ".join(parts))


def show_images(folder: Path) -> None:
    """Open the one image with its detections that a run has written, or the folder of several."""
    files = [path for path in (folder / PICTURES).rglob("*") if path.is_file()]
    place = files[0] if len(files) == 1 else folder / PICTURES
    if typer.launch(str(place)):
        say(f"no program was found to open {place}")


def detect_all(
    inputs: Sequence[Input],
    network: Detector,
    journal: Journal,
    faults: Faults,
    pictures: bool,
    proposal_pictures: bool,
    alone: bool,
    workers: int = 0,
) -> Tally:
    """Detect in every image of ``inputs`` that is not done yet and leave what was found in the journal's folder.

    ``alone``: images one at a time, see :func:`detector.commands.detection_run.one_at_a_time`; otherwise ``workers`` at
    once, or one on each core.
    """
    folder = journal.folder
    tally = Tally.of_earlier(folder / JSONL_FILE)
    with progress("detecting", _images(inputs[journal.inputs :]), "image") as advance:
        for found in detect_each(inputs, network, journal, faults, alone=alone, workers=workers):
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
