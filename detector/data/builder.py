"""From what a reader finds to a :class:`Dataset`: one judge of boxes, classes and duplicates for all formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.data.classes import Classes
from detector.data.dataset import Dataset, offsets_of
from detector.data.faults import BOX_LEFT_OUT, EFFECTS, Fault

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


class _Image(NamedTuple):
    path: str
    size: tuple[int, int]
    source: str
    objects: Sequence[Object]


class Builder:
    """Collects images and faults; :meth:`build` checks all boxes at once."""

    def __init__(self, name: str, format_name: str, root: Path, split: str) -> None:
        self.name = name or root.resolve().name
        self.format, self.root, self.split = format_name, root, split
        self.faults: list[Fault] = []
        self._images: dict[str, _Image] = {}

    def fault(self, kind: str, file: str | Path, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(kind, str(file), message))

    def add(self, image_id: str, path: str, size: tuple[int, int], source: str, objects: Sequence[Object]) -> None:
        """Add an image; an id that is there already is noted as a fault and left out.

        Args:
            image_id: unique in the set. path: relative to the root. size: (height, width). source: the annotation file,
            for messages. objects: possibly none.
        """
        if image_id in self._images:
            self.fault("duplicate-image", source, f"image {image_id} stands there before; only the first is used")
        else:
            self._images[image_id] = _Image(path, size, source, objects)

    def __len__(self) -> int:
        return len(self._images)

    def image_ids(self) -> frozenset[str]:
        """The ids of the images so far."""
        return frozenset(self._images)

    def class_keys(self) -> set[str | int]:
        """Every class key that occurs."""
        return {item.key for image in self._images.values() for item in image.objects}

    def build(self, classes: Classes, blacklist: Sequence[tuple[str, str | int]] = ()) -> Dataset:
        """The data set, with the faulty boxes left out and noted.

        Args:
            classes: the label order. blacklist: pairs (image id, class key) of ILSVRC DET.
        """
        images = list(self._images.values())
        items = [item for image in images for item in image.objects]
        image_of_box = np.repeat(np.arange(len(images)), np.array([len(image.objects) for image in images], np.int64))
        sizes = np.array([image.size for image in images], np.int32).reshape(-1, 2)
        label_of = {key: label for label, key in enumerate(classes.keys)}
        labels = np.array([label_of.get(item.key, -1) for item in items], np.int64)
        keep = labels >= 0  # what else is wrong with a box of an unwanted class is nobody's business
        unknown = np.flatnonzero(~keep).tolist()
        for key, count in Counter(items[box].key for box in unknown).items():
            first = next(box for box in unknown if items[box].key == key)
            number = f"{count} boxes" if count > 1 else "1 box"
            text = f"class {key!r} is not in the class list ({number} in all, first seen here)"
            self.fault("unknown-class", images[image_of_box[first]].source, text)

        given = np.array([item[1:5] for item in items], np.float64).reshape(-1, 4)
        boxes, wrong = _judged(given, sizes[image_of_box])
        ids = list(self._images)
        for kind, what, mask in wrong:
            for box in np.flatnonzero(mask & keep).tolist():
                image, (height, width) = images[image_of_box[box]], sizes[image_of_box[box]]
                corners = " ".join(f"{value:g}" for value in given[box])
                name = f"box {corners} ({items[box].key}) of image {ids[image_of_box[box]]} of {width} x {height}"
                self.fault(kind, image.source, f"{name} {what}")
            if EFFECTS[kind] == BOX_LEFT_OUT:
                keep &= ~mask

        boxes = boxes[keep]
        area = np.array([item.area for item in items], np.float64)[keep]
        sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
        index = {image_id: number for number, image_id in enumerate(ids)}
        pairs = {(index[i], label_of[key]) for i, key in blacklist if i in index and key in label_of}
        return Dataset(
            name=self.name,
            format=self.format,
            root=self.root,
            split=self.split,
            class_names=classes.names,
            class_keys=classes.keys,
            image_ids=tuple(ids),
            paths=tuple(image.path for image in images),
            sizes=sizes,
            offsets=offsets_of(np.bincount(image_of_box[keep], minlength=len(images))),
            boxes=boxes,
            labels=labels[keep],
            ignore=np.array([item.ignore for item in items], np.bool_)[keep],
            crowd=np.array([item.crowd for item in items], np.bool_)[keep],
            area=np.where(np.isfinite(area) & (area >= 0), area, sides.prod(axis=1)),
            blacklist=np.array(sorted(pairs), np.int64).reshape(-1, 2),
            faults=tuple(self.faults),
        )


def _judged(
    boxes: NDArray[np.float64], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.float32], list[tuple[str, str, NDArray[np.bool_]]]]:
    """The boxes ``(M, 4)``, clipped where they must be, and what is wrong with which: kind, words and mask ``(M,)``.

    Of the faults that leave a box out the first counts.

    Args:
        sizes: ``(M, 2)``, height and width of each box's image.
    """
    finite = np.asarray((np.abs(boxes) < MAX_COORDINATE).all(axis=1))  # also false for what is no number
    boxes = np.where(finite[:, None], boxes, 0)
    x1, y1, x2, y2 = boxes.T
    height, width = sizes.T.astype(np.float64)
    over = np.max([-x1, -y1, x2 - width, y2 - height], axis=0, initial=0) > EDGE_TOLERANCE
    limits = np.stack([width, height, width, height], axis=1)
    kept = np.where(over[:, None], np.clip(boxes, 0, limits), boxes).astype(np.float32)
    return kept, [
        ("not-a-number", "has a coordinate that is no number, or too large for one", ~finite),
        ("inverted-box", "ends before it begins", (x2 < x1) | (y2 < y1)),
        ("zero-area-box", "has no area", (x2 == x1) | (y2 == y1)),
        ("outside-box", "lies outside the image", (x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0)),
        ("clipped-box", "reaches over the image's edge", over),
        ("zero-area-box", "has no area in single precision", (kept[:, 2:] <= kept[:, :2]).any(axis=1)),
    ]
