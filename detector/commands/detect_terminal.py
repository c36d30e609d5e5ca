"""How ``detect`` begins and ends for somebody who watches."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from detector.commands.console import say, tell
from detector.commands.detect_run import settings_of
from detector.commands.detection_files import PICTURES
from detector.detection.pipeline import Detector


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
