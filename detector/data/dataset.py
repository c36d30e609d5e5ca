"""A data set in flat arrays.

Glossary: N images, M annotated objects of all images together, K classes. ``offsets[i]:offsets[i + 1]`` are the objects
of image ``i``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.data.faults import Fault, summarise_faults
from detector.images.read import read_image
from detector.types import GroundTruth, ImageRecord
from proposals.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Annotated images; ``dataset[i]`` is an :class:`ImageRecord` with its ground truth.

    Attributes:
        name: of the folder or file. format: ``voc``, ``coco``, ``ilsvrc_det``, ``yolo`` or ``image_folder``.
        root: the folder that ``paths`` are relative to. split: the part that was read, such as ``train``; ``""`` for
            a set without splits.
        class_names: K words, unique. class_keys: K ids as in the source: a wnid, a COCO category id, or the name.
        image_ids: N strings, unique. paths: N picture files relative to ``root``.
        sizes: ``(N, 2)`` int32, height and width.
        offsets: ``(N + 1,)`` int64.
        boxes: ``(M, 4)`` float32 ``x1 y1 x2 y2`` in pixels, 0-based, half-open; finite, of positive width and height.
        labels: ``(M,)`` int64 in [0, K). ignore, crowd: ``(M,)`` bool. area: ``(M,)`` float64 square pixels.
        blacklist: ``(P, 2)`` int64 pairs (image, label) that ILSVRC DET's evaluation leaves out; ``(0, 2)`` elsewhere.
        faults: everything that was left out or mended while reading.
    """

    name: str
    format: str
    root: Path
    split: str
    class_names: tuple[str, ...]
    class_keys: tuple[str | int, ...]
    image_ids: tuple[str, ...]
    paths: tuple[str, ...]
    sizes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    blacklist: NDArray[np.int64]
    faults: tuple[Fault, ...]

    def __post_init__(self) -> None:
        n, m = len(self.image_ids), len(self.boxes)
        lengths = (len(self.paths), len(self.sizes), len(self.offsets) - 1)
        columns = (self.labels, self.ignore, self.crowd, self.area)
        if any(length != n for length in lengths) or any(len(column) != m for column in columns):
            raise ValueError("Dataset: the columns' lengths differ")
        if len(self.class_names) != len(self.class_keys) or len(set(self.class_names)) != len(self.class_names):
            raise ValueError("Dataset: class names must be unique, one for each key")
        if self.offsets[0] != 0 or self.offsets[-1] != m or np.any(np.diff(self.offsets) < 0):
            raise ValueError("Dataset: offsets must rise from 0 to the number of boxes")
        for column in (self.offsets, self.boxes, self.blacklist, *columns):
            column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> ImageRecord:
        i = range(len(self))[index]
        return ImageRecord(self.image_ids[i], self.path(i), self.image_size(i), self.ground_truth(i))

    def __iter__(self) -> Iterator[ImageRecord]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        split = f" {self.split}" if self.split else ""
        return (
            f"<{self.format} {self.name}{split}: {len(self)} images, {len(self.boxes)} boxes, "
            f"{len(self.class_names)} classes, {summarise_faults(self.faults)}>"
        )

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def path(self, index: int) -> Path:
        """The picture file of image ``index``."""
        return self.root / self.paths[index]

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of image ``index``."""
        height, width = self.sizes[index].tolist()
        return height, width

    def read(self, index: int) -> NDArray[np.uint8]:
        """The picture of image ``index``; see :func:`read_record`."""
        return read_record(self[index])

    def ground_truth(self, index: int) -> GroundTruth:
        """The objects of image ``index``; this opens no picture."""
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return GroundTruth(self.boxes[part], self.labels[part], self.ignore[part], self.crowd[part], self.area[part])

    def image_of_box(self) -> NDArray[np.int64]:
        """``(M,)`` the image that each box belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def class_counts(self) -> NDArray[np.int64]:
        """``(K,)`` number of boxes of each class."""
        return np.bincount(self.labels, minlength=self.num_classes)

    def blacklisted(self) -> list[tuple[str, int]]:
        """``blacklist`` as pairs (image id, label), as the evaluation of ILSVRC DET takes it."""
        return [(self.image_ids[image], label) for image, label in self.blacklist.tolist()]

    def subset(self, indices: ArrayLike) -> Dataset:
        """The images at ``indices``, integers ``(n,)`` in any order without repetition, or a mask ``(N,)``."""
        index = np.asarray(indices)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64).reshape(-1)
        index = np.arange(len(self))[index]  # negative ones counted from the end; IndexError beyond
        offsets, kept = take_rows(self.offsets, index)
        position = np.full(len(self), -1, np.int64)
        position[index] = np.arange(len(index))
        pairs = np.stack([position[self.blacklist[:, 0]], self.blacklist[:, 1]], axis=1)
        columns = {name: getattr(self, name)[kept] for name in ("boxes", "labels", "ignore", "crowd", "area")}
        return replace(
            self,
            image_ids=tuple(self.image_ids[i] for i in index),
            paths=tuple(self.paths[i] for i in index),
            sizes=self.sizes[index],
            offsets=offsets,
            blacklist=pairs[pairs[:, 0] >= 0],
            **columns,
        )


def read_record(record: ImageRecord) -> NDArray[np.uint8]:
    """The picture of ``record`` as ``(H, W, 3)`` uint8 RGB, of the very size that its boxes were drawn on.

    Raises:
        UserError: it cannot be read, or its size is not the annotation's (the boxes would be on the wrong things).
    """
    image = read_image(record.path)
    if image.shape[:2] != record.image_size:
        raise UserError(size_mismatch_text(str(record.path), image.shape[:2], record.image_size))
    return image


def size_mismatch_text(path: str, found: Sequence[int], annotated: Sequence[int]) -> str:
    """One line that says that a picture is not of its annotation's size, and the likely reason."""
    text = f"{path} is {found[1]} x {found[0]} pixels, its annotation says {annotated[1]} x {annotated[0]}"
    if tuple(found) == tuple(annotated)[::-1]:
        return f"{text}: its boxes were drawn before it was turned upright; label it again, or remove its EXIF rotation"
    return f"{text}: it was resized after it was labelled; put the original back, or label it again"


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(N + 1,)`` offsets of rows of ``counts`` ``(N,)`` entries."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def take_rows(offsets: NDArray[np.int64], index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets ``(n + 1,)`` and flat positions of the entries of the rows ``index`` ``(n,)``, in that order."""
    counts = np.diff(offsets)[index]
    taken = offsets_of(counts)
    # An entry's position: the start of its row plus its place within the row.
    positions = np.arange(taken[-1]) + np.repeat(offsets[:-1][index] - taken[:-1], counts)
    return taken, positions
