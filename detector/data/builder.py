"""From what a reader finds to a :class:`Dataset`: one judge of boxes, classes and duplicates for all formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.data.classes import Classes
from detector.data.dataset import Dataset, offsets_of
from detector.data.faults import Fault

EDGE_TOLERANCE = 1.0
"""Pixels that a box may reach over the picture's edge as it is: rounding, and tools that count from 0 where the format
counts from 1. The official evaluations keep such boxes, so scores agree with theirs."""


MAX_COORDINATE = 1e15
"""Pixels from which on a coordinate counts as no number: the area of such a box is finite in single precision."""


class Object(NamedTuple):
    """One annotated object: a box in 0-based half-open pixels and the class as the source calls it."""

    key: str | int
    x1: float
    y1: float
    x2: float
    y2: float
    ignore: bool = False
    crowd: bool = False
    area: float = float("nan")
    """Square pixels; not a number: the box's own."""


class Builder:
    """Collects images and faults; :meth:`build` checks all boxes at once."""

    def __init__(self, name: str, format_name: str, root: Path, split: str) -> None:
        self.name = name or root.resolve().name
        self.format, self.root, self.split = format_name, root, split
        self.faults: list[Fault] = []
        self._ids: dict[str, int] = {}
        self._paths: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._sources: list[str] = []
        self._counts: list[int] = []
        self._objects: list[Object] = []

    def fault(self, kind: str, file: str | Path, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(kind, str(file), message))

    def add(self, image_id: str, path: str, size: tuple[int, int], source: str, objects: Sequence[Object]) -> None:
        """Add an image; an id that is there already is noted as a fault and left out.

        Args:
            image_id: unique in the set. path: relative to the root. size: (height, width). source: the annotation file,
            for messages. objects: possibly none.
        """
        if image_id in self._ids:
            self.fault("duplicate-image", source, f"image {image_id} stands there before; only the first is used")
            return
        self._ids[image_id] = len(self._ids)
        self._paths.append(path)
        self._sizes.append(size)
        self._sources.append(source)
        self._counts.append(len(objects))
        self._objects.extend(objects)

    def __len__(self) -> int:
        return len(self._ids)

    def image_ids(self) -> frozenset[str]:
        """The ids of the images so far."""
        return frozenset(self._ids)

    def class_keys(self) -> set[str | int]:
        """Every class key that occurs."""
        return {item.key for item in self._objects}

    def build(self, classes: Classes, blacklist: Sequence[tuple[str, str | int]] = ()) -> Dataset:
        """The data set, with the faulty boxes left out and noted.

        Args:
            classes: the label order. blacklist: pairs (image id, class key) of ILSVRC DET.
        """
        image_of_box = np.repeat(np.arange(len(self._ids)), self._counts)
        sizes = np.array(self._sizes, np.int32).reshape(-1, 2)
        boxes = np.array([item[1:5] for item in self._objects], np.float64).reshape(-1, 4)
        keep: NDArray[np.bool_] = np.ones(len(boxes), np.bool_)
        labels = self._labels(classes, image_of_box, keep)
        boxes = self._judge_boxes(boxes, sizes, image_of_box, keep)

        counts = np.bincount(image_of_box[keep], minlength=len(self._ids))
        kept_boxes = boxes[keep].astype(np.float32)
        area = np.array([item.area for item in self._objects], np.float64)[keep]
        sides = kept_boxes[:, 2:].astype(np.float64) - kept_boxes[:, :2]
        own = sides[:, 0] * sides[:, 1]
        label_of = {key: label for label, key in enumerate(classes.keys)}
        pairs = [(self._ids[i], label_of[key]) for i, key in blacklist if i in self._ids and key in label_of]
        return Dataset(
            name=self.name,
            format=self.format,
            root=self.root,
            split=self.split,
            class_names=classes.names,
            class_keys=classes.keys,
            image_ids=tuple(self._ids),
            paths=tuple(self._paths),
            sizes=sizes,
            offsets=offsets_of(counts),
            boxes=kept_boxes,
            labels=labels[keep],
            ignore=np.array([item.ignore for item in self._objects], np.bool_)[keep],
            crowd=np.array([item.crowd for item in self._objects], np.bool_)[keep],
            area=np.where(np.isfinite(area) & (area >= 0), area, own),
            blacklist=np.array(sorted(set(pairs)), np.int64).reshape(-1, 2),
            faults=tuple(self.faults),
        )

    def _labels(self, classes: Classes, image_of_box: NDArray[np.int64], keep: NDArray[np.bool_]) -> NDArray[np.int64]:
        """``(M,)`` labels; boxes of classes that are not wanted leave ``keep``, with one fault for each class."""
        label_of = {key: label for label, key in enumerate(classes.keys)}
        labels = np.array([label_of.get(item.key, -1) for item in self._objects], np.int64)
        unknown: dict[str | int, list[int]] = {}
        for box in np.flatnonzero(labels < 0).tolist():
            unknown.setdefault(self._objects[box].key, []).append(box)
        for key, found in unknown.items():
            file = self._sources[image_of_box[found[0]]]
            more = f"{len(found)} boxes" if len(found) > 1 else "1 box"
            self.fault(
                "unknown-class", file, f"class {key!r} is not in the class list ({more} in all, first seen here)"
            )
        keep &= labels >= 0
        return labels

    def _judge_boxes(
        self,
        boxes: NDArray[np.float64],
        sizes: NDArray[np.int32],
        image_of_box: NDArray[np.int64],
        keep: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """The boxes, clipped where they must be; those that cannot be used leave ``keep``."""
        finite = np.asarray((np.abs(boxes) < MAX_COORDINATE).all(axis=1))  # also false for what is no number
        x1, y1, x2, y2 = np.where(finite[:, None], boxes, 0).T
        limits = sizes[image_of_box][:, ::-1].astype(np.float64)  # width, height
        inverted = np.logical_or(x2 < x1, y2 < y1)
        flat = (x2 == x1) | (y2 == y1)
        outside = (x1 >= limits[:, 0]) | (y1 >= limits[:, 1]) | (x2 <= 0) | (y2 <= 0)
        over = np.maximum(np.maximum(-x1, -y1), np.maximum(x2 - limits[:, 0], y2 - limits[:, 1]))

        for kind, mask, what in (
            ("not-a-number", ~finite, "has a coordinate that is no number, or too large for one"),
            ("inverted-box", inverted, "ends before it begins"),
            ("zero-area-box", flat, "has no area"),
            ("outside-box", outside, "lies outside the image"),
        ):
            bad = mask & keep  # a box of an unwanted class is nobody's business
            keep &= ~bad
            self._note(kind, what, bad, boxes, image_of_box)
        clipped = keep & (over > EDGE_TOLERANCE)
        self._note("clipped-box", "reaches over the image's edge", clipped, boxes, image_of_box)
        boxes = boxes.copy()
        boxes[clipped] = np.clip(boxes[clipped], 0, np.tile(limits[clipped], (1, 2)))
        rounded = np.where(keep[:, None], boxes, 0).astype(np.float32)
        vanishing = keep & ((rounded[:, 2] <= rounded[:, 0]) | (rounded[:, 3] <= rounded[:, 1]))
        keep &= ~vanishing
        self._note("zero-area-box", "has no area in single precision", vanishing, boxes, image_of_box)
        return boxes

    def _note(
        self, kind: str, what: str, mask: NDArray[np.bool_], boxes: NDArray[np.float64], image_of_box: NDArray[np.int64]
    ) -> None:
        ids = list(self._ids)
        for box in np.flatnonzero(mask).tolist():
            image = int(image_of_box[box])
            height, width = self._sizes[image]
            corners = " ".join(f"{value:g}" for value in boxes[box])
            text = f"box {corners} ({self._objects[box].key}) of image {ids[image]} of {width} x {height} {what}"
            self.fault(kind, self._sources[image], text)
