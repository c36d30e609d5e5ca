"""A batch of labelled regions, as every training of a region network has it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UNREADABLE = -100  # label of a crop whose image could not be read: the loss passes over it


class Shown(NamedTuple):
    """What a region shows: the box ``(4,)`` in the image of that id."""

    image: str
    box: NDArray[np.float32]


class RegionBatch(NamedTuple):
    """R regions, as crops or in whole images.

    Attributes:
        images: float32 0..255, channels last: ``(R, 3, S, S)`` crops, or ``(M, 3, H, W)`` whole images.
        labels: ``(R,)`` int64; K for background, ``UNREADABLE`` for a grey crop that could not be made.
        shown: where each region is from.
        deltas: ``(R, 4)`` float32, tx ty tw th from the region to its object, 0 for background; ``None`` if boxes are
            not learned. overlaps: ``(R,)`` float32, the IoU with the nearest object; ``None`` likewise.
        rois, level: of regions in whole images, as in :mod:`detector.nets.region_net`.
        objects: ``(T, 7)`` float32, of whole images: number of the image, ``x1 y1 x2 y2`` on its canvas, 1, or 0 for an
            ignored object and one of which too little is left to be found, and the label.
    """

    images: Tensor
    labels: Tensor
    shown: list[Shown]
    deltas: Tensor | None = None
    overlaps: Tensor | None = None
    rois: Tensor | None = None
    level: Tensor | None = None
    objects: Tensor | None = None

    def parts(self, count: int) -> list[RegionBatch]:
        """At most ``count`` parts, as equal as may be; a whole image stays with its regions."""
        owner = torch.arange(len(self.labels)) if self.rois is None else self.rois[:, 0]
        found = []
        for numbers in torch.arange(len(self.images)).chunk(count):
            first, end = int(numbers[0]), int(numbers[-1]) + 1
            mine = (owner >= first) & (owner < end)
            tables = (self.deltas, self.overlaps, self.rois, self.level)
            deltas, overlaps, rois, level = (None if table is None else table[mine] for table in tables)
            if rois is not None:
                rois = rois - rois.new_tensor([first, 0, 0, 0, 0])
            objects = self.objects
            if objects is not None:
                objects = objects[(objects[:, 0] >= first) & (objects[:, 0] < end)]
                objects = objects - objects.new_tensor([first, 0, 0, 0, 0, 0, 0])
            labels, shown = self.labels[mine], [self.shown[i] for i in mine.nonzero()[:, 0].tolist()]
            found.append(RegionBatch(self.images[first:end], labels, shown, deltas, overlaps, rois, level, objects))
        return found

    def describe(self) -> list[str]:
        """A line for each region: image, box, label."""
        return [
            f"{shown.image} [{' '.join(f'{value:.1f}' for value in shown.box.tolist())}] label {label}"
            for shown, label in zip(self.shown, self.labels.tolist(), strict=True)
        ]
