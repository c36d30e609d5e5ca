"""The regions that SVMs are trained on, with what each overlaps, in flat arrays.

Glossary: R regions of all images together, K classes. An image's regions are its annotated boxes and its proposals;
they stand together, in the images' order. Background in ignored objects is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.training.pool import ImagePool
from detector.training.sampling import hidden
from proposals.boxes import clip, iou, is_valid

Boxes = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class RegionTable:
    """All regions of a training set.

    Attributes:
        boxes: ``(R, 4)`` float32. first: ``(M + 1,)`` int64, the regions of image i are ``first[i]:first[i + 1]``.
        truth: ``(R,)`` int64, the object (of the pool) that each overlaps most, -1 where there is none.
        overlap: ``(R,)`` float32, its IoU. annotated: ``(R,)`` bool, the annotated boxes.
        class_overlap: ``(R, K)`` float32, the greatest IoU with an object of each class.
    """

    boxes: Boxes
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


def make_table(pool: ImagePool, proposals: Sequence[Boxes], num_classes: int) -> RegionTable:
    """The regions of ``pool`` whose images have these ``proposals``, ``(P, 4)`` each."""
    if len(proposals) != len(pool.images):
        raise ValueError(f"{len(pool.images)} images, proposals of {len(proposals)}")
    columns: list[tuple[NDArray[np.generic], ...]] = []
    for image, found in enumerate(proposals):
        own = slice(int(pool.first[image]), int(pool.first[image + 1]))
        truth = pool.boxes[own]
        height, width = pool.sizes[image].tolist()
        boxes = clip(np.concatenate([truth, found]).astype(np.float32), (int(height), int(width))).astype(np.float32)
        annotated = np.arange(len(boxes)) < len(truth)
        apart = hidden(boxes, pool.unsure(image)) & ~annotated & ~(iou(boxes, truth) >= 0.5).any(axis=1)
        good = is_valid(boxes) & ~apart
        best, overlap, by_class = overlaps(boxes[good], truth, pool.labels[own], num_classes)
        columns.append((boxes[good], np.where(best < 0, -1, best + own.start), overlap, annotated[good], by_class))
    counts = [len(column[0]) for column in columns]
    none = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_))
    columns.append((*none, np.zeros((0, num_classes), np.float32)))
    boxes, best, overlap, annotated, by_class = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    return RegionTable(boxes, first, best, overlap, annotated, by_class)
