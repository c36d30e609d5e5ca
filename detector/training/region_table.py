"""The regions that a head is trained on, with what each overlaps, in flat arrays.

Glossary: R regions of all images together, K classes. A picture's regions are its annotated boxes, perturbed copies of
them, its proposals, and mirror images of those that show an object; they stand together, in the pictures' order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from detector.training.pool import ImagePool
from detector.training.sampling import perturbed_boxes
from proposals.boxes import clip, encode, iou, is_valid

Boxes = NDArray[np.float32]


class RegionTableConfig(BaseModel):
    """Which regions there are beside the proposals and the annotated boxes.

    Attributes:
        shifts: perturbed copies of each annotated box. shift: by how much at most, see
            :func:`detector.training.sampling.perturbed_boxes`; 0.3 leaves an IoU of about 0.5 and more.
        mirror: every region of IoU ``foreground_iou`` or more with an object also as its mirror image.
        foreground_iou: least IoU of a region that shows an object.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shifts: int = Field(default=0, ge=0)
    shift: float = Field(default=0.3, gt=0, le=1)
    mirror: bool = True
    foreground_iou: float = Field(default=0.5, gt=0, le=1)


@dataclass(frozen=True, slots=True, eq=False)
class RegionTable:
    """All regions of a training set.

    Attributes:
        boxes: ``(R, 4)`` float32. mirror: ``(R,)`` bool, whether the crop is mirrored. first: ``(M + 1,)`` int64, the
            regions of image i are ``first[i]:first[i + 1]``.
        truth: ``(R,)`` int64, the object (of the pool) that each overlaps most, -1 where there is none.
        overlap: ``(R,)`` float32, its IoU. annotated: ``(R,)`` bool, the annotated boxes and their mirror images.
        class_overlap: ``(R, K)`` float32, the greatest IoU with an object of each class.
    """

    boxes: Boxes
    mirror: NDArray[np.bool_]
    first: NDArray[np.int64]
    truth: NDArray[np.int64]
    overlap: NDArray[np.float32]
    annotated: NDArray[np.bool_]
    class_overlap: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def of_image(self, image: int) -> slice:
        """The regions of one image."""
        return slice(int(self.first[image]), int(self.first[image + 1]))

    def labels(self, pool: ImagePool, foreground_iou: float) -> NDArray[np.int64]:
        """``(R,)``: the class of the object that each overlaps by ``foreground_iou`` or more, otherwise K."""
        background = self.class_overlap.shape[1]
        labels = np.full(len(self), background, np.int64)
        shows = self.overlap >= foreground_iou
        labels[shows] = pool.labels[self.truth[shows]]
        return labels

    def targets(self, pool: ImagePool, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(n, 4)`` tx ty tw th from the regions ``rows``, which overlap an object each, to those objects.

        In a mirror image the object lies on the other side.
        """
        deltas = encode(self.boxes[rows].astype(np.float64), pool.boxes[self.truth[rows]].astype(np.float64))
        deltas[self.mirror[rows], 0] *= -1
        return np.asarray(deltas, np.float64)


def overlaps(
    boxes: Boxes, truth: Boxes, labels: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Of boxes ``(n, 4)`` with one image's objects: the best object (-1 for none), its IoU, and the best per class."""
    by_class = np.zeros((len(boxes), num_classes), np.float32)
    if not len(truth):
        return np.full(len(boxes), -1, np.int64), np.zeros(len(boxes), np.float32), by_class
    table = iou(boxes.astype(np.float64), truth.astype(np.float64)).astype(np.float32)
    for label in np.unique(labels):
        by_class[:, label] = table[:, labels == label].max(axis=1)
    best = table.max(axis=1)
    return np.where(best > 0, table.argmax(axis=1), -1), best, by_class


def make_table(
    pool: ImagePool, proposals: Sequence[Boxes], num_classes: int, config: RegionTableConfig, seed: int
) -> RegionTable:
    """The regions of ``pool`` whose images have these ``proposals``, ``(P, 4)`` each."""
    if len(proposals) != len(pool.images):
        raise ValueError(f"{len(pool.images)} images, proposals of {len(proposals)}")
    columns: list[tuple[NDArray[np.generic], ...]] = []
    for image, found in enumerate(proposals):
        rng = np.random.default_rng([seed, image])
        own = slice(int(pool.first[image]), int(pool.first[image + 1]))
        truth, labels = pool.boxes[own], pool.labels[own]
        height, width = pool.sizes[image].tolist()
        size = (int(height), int(width))
        moved = [perturbed_boxes(rng, truth, config.shift) for _ in range(config.shifts)]
        boxes = clip(np.concatenate([truth, *moved, found]).astype(np.float32), size).astype(np.float32)
        annotated = np.arange(len(boxes)) < len(truth)
        good = is_valid(boxes)
        boxes, annotated = boxes[good], annotated[good]
        best, overlap, by_class = overlaps(boxes, truth, labels, num_classes)
        mirror = np.zeros(len(boxes), np.bool_)
        rows = np.arange(len(boxes))
        if config.mirror:
            again = np.flatnonzero(overlap >= config.foreground_iou)
            rows = np.concatenate([rows, again])
            mirror = np.concatenate([mirror, np.ones(len(again), np.bool_)])
        owned = np.where(best < 0, -1, best + own.start)
        columns.append((boxes[rows], mirror, owned[rows], overlap[rows], annotated[rows], by_class[rows]))
    counts = [len(column[0]) for column in columns]
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.bool_), np.zeros(0, np.int64), np.zeros(0, np.float32))
    columns.append((*empty, np.zeros(0, np.bool_), np.zeros((0, num_classes), np.float32)))
    boxes, mirror, best, overlap, annotated, by_class = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    return RegionTable(boxes, mirror, first, best, overlap, annotated, by_class)
