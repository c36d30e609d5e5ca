"""What a run of ``detector detect`` tells its user: a line per image, or tables where there is a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detector.commands.console import print_line
from detector.commands.detection_files import PICTURES, SavedDetections, read_detections
from detector.shown import one_line

# Above so many images, no table at the end names every image.
LONG_TABLE = 40
# Of one image's classes, at most so many are told, the surest first.
CLASSES_TOLD = 10


@dataclass
class Tally:
    """What was found so far, ``earlier`` images of it by a run that was interrupted.

    The first images' detections are kept for the table.
    """

    pictures: int = 0
    earlier: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    rows: list[tuple[str, str]] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    @classmethod
    def of_earlier(cls, lines: Path) -> Tally:
        """What an interrupted run, or the shards of one, have left in the file ``lines``."""
        tally = cls()
        for saved in read_detections(lines):
            tally.count(saved.path, saved)
        tally.earlier = tally.pictures
        return tally

    def add(self, shown: str, saved: SavedDetections) -> None:
        """Count one image; where standard output is no terminal, tell of it at once."""
        self.count(shown, saved)
        if not sys.stdout.isatty():
            print_line(f"{shown}: {in_words(saved)}")

    def count(self, shown: str, saved: SavedDetections) -> None:
        """Count one image."""
        self.pictures += 1
        self.classes.update(saved.class_names)
        if self.pictures <= LONG_TABLE:
            self.rows.append((shown, in_words(saved)))

    def show(self, folder: Path, skipped: int) -> None:
        """The tables, where standard output is a terminal, and the last line."""
        if sys.stdout.isatty():
            self._show_tables()
        seconds = time.perf_counter() - self.begun
        parts = [count_of(self.pictures, "image"), count_of(sum(self.classes.values()), "object")]
        if self.pictures > self.earlier:
            parts.append(f"{seconds / (self.pictures - self.earlier):.2f} s an image")
        if skipped:
            parts.append(f"{count_of(skipped, 'input')} skipped")
        drawn = folder / PICTURES
        print_line(f"{', '.join(parts)}; {f'images in {drawn}, ' * drawn.is_dir()}results in {folder}")

    def show_stages(self, seconds: Mapping[str, float]) -> None:
        """A table of the ``seconds`` by stage, of all images of this run and all threads together.

        In an image that is alone the search runs beside the networks, so that the stages take more than the whole.
        """
        from rich.console import Console
        from rich.table import Table

        images, whole = self.pictures - self.earlier, sum(seconds.values())
        table = Table("stage", "s an image", "share")
        for stage, spent in seconds.items() if images else ():
            table.add_row(stage, f"{spent / images:.4f}", f"{spent / whole:.0%}")
        Console().print(table)

    def _show_tables(self) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        images, classes = Table("image", "objects"), Table("class", "objects")
        for name, line in self.rows:
            images.add_row(Text(one_line(name)), Text(one_line(line)))
        for name, count in self.classes.most_common():
            classes.add_row(Text(one_line(name), style="bold"), Text(str(count), justify="right"))
        for table in ([images] if self.pictures <= LONG_TABLE else []) + ([classes] if self.classes else []):
            Console().print(table)


def in_words(saved: SavedDetections) -> str:
    """``Egyptian cat 0.93, espresso 0.41 (2)``: each class with its best score and, if several, how many of it."""
    best: dict[str, float] = {}  # in the order of the best scores, as the detections are
    for name, score in zip(saved.class_names, saved.detections.scores.tolist(), strict=True):
        best.setdefault(name, score)
    counts = Counter(saved.class_names)
    parts = [f"{name} {score:.2f}{f' ({counts[name]})' * (counts[name] > 1)}" for name, score in best.items()]
    more = len(parts) - CLASSES_TOLD
    if more > 0:
        parts[CLASSES_TOLD:] = [f"and {more} more classes" if more > 1 else "and 1 more class"]
    return ", ".join(parts) or "nothing"


def count_of(number: int, unit: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
