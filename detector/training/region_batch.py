"""A batch of labelled regions, as every training of a region network has it, and the random changes to its images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
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
        deltas: ``(R, 4)`` float32, tx ty tw th from the region to its object, 0 for background. overlaps: ``(R,)``
            float32, the IoU with the nearest object.
        rois, level: of regions in whole images, as in :mod:`detector.nets.region_net`.
        objects: ``(T, 7)`` float32, of whole images: number of the image, ``x1 y1 x2 y2`` on its canvas, 1, or 0 for an
            ignored object and one of which too little is left to be found, and the label.
    """

    images: Tensor
    labels: Tensor
    shown: list[Shown]
    deltas: Tensor
    overlaps: Tensor
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
            rois, level = (None if table is None else table[mine] for table in (self.rois, self.level))
            if rois is not None:
                rois = rois - rois.new_tensor([first, 0, 0, 0, 0])
            objects = self.objects
            if objects is not None:
                objects = objects[(objects[:, 0] >= first) & (objects[:, 0] < end)]
                objects = objects - objects.new_tensor([first, 0, 0, 0, 0, 0, 0])
            labels, shown = self.labels[mine], [self.shown[i] for i in mine.nonzero()[:, 0].tolist()]
            learned = (self.deltas[mine], self.overlaps[mine])
            found.append(RegionBatch(self.images[first:end], labels, shown, *learned, rois, level, objects))
        return found

    def describe(self) -> list[str]:
        """A line for each region: image, box, label."""
        return [
            f"{shown.image} [{' '.join(f'{value:.1f}' for value in shown.box.tolist())}] label {label}"
            for shown, label in zip(self.shown, self.labels.tolist(), strict=True)
        ]


class AugmentConfig(BaseModel):
    """Random changes to training crops.

    Attributes:
        mirror: probability of a left-right mirror image.
        brightness, contrast, saturation: factors are drawn from 1 -/+ this (Howard 2013, as GoogLeNet's section 6).
        hue_shift: grey levels added to each channel on its own, normal with this deviation.
        random_interpolation: bilinear, area, nearest and cubic with equal odds (GoogLeNet, section 6).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: float = Field(default=0.5, ge=0, le=1)
    brightness: float = Field(default=0.3, ge=0, lt=1)
    contrast: float = Field(default=0.3, ge=0, lt=1)
    saturation: float = Field(default=0.3, ge=0, lt=1)
    hue_shift: float = Field(default=5.0, ge=0)
    random_interpolation: bool = True


class Distortion(NamedTuple):
    """Amounts for each of N crops: factors ``(N, 1, 1, 1)`` and grey levels ``(N, 3, 1, 1)`` to add."""

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    shift: Tensor

    def part(self, part: slice) -> Distortion:
        """The amounts of some of the crops."""
        return Distortion(*(amount[part] for amount in self))


def draw_distortion(n: int, config: AugmentConfig, generator: torch.Generator) -> Distortion:
    """Random amounts for ``n`` crops."""

    def factor(amount: float) -> Tensor:
        return (1 + amount * (2 * torch.rand(n, generator=generator) - 1)).view(n, 1, 1, 1)

    saturation, contrast, brightness = factor(config.saturation), factor(config.contrast), factor(config.brightness)
    shift = config.hue_shift * torch.randn(n, 3, generator=generator).view(n, 3, 1, 1)
    return Distortion(brightness, contrast, saturation, shift)


def apply_distortion(crops: Tensor, amounts: Distortion) -> Tensor:
    """Crops ``(N, 3, S, S)`` uint8 -> float32 0..255 with other contrast, light and colour."""
    x = crops.float()
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, amounts.saturation)
    x = torch.lerp(grey.mean((2, 3), keepdim=True), x, amounts.contrast)
    x = x * amounts.brightness + amounts.shift
    return x.clamp_(0, 255)
