"""A network of an ensemble, and how its input is made of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.crop import CropConfig
from detector.detection.cores import Start, when_asked
from detector.nets.googlenet import GoogLeNet
from detector.nets.int8 import Ranges, ranges_of_first_layers
from detector.nets.region_head import RegionHead, RegionOutput
from detector.nets.region_net import (
    ImageMaps,
    PooledMaps,
    SharedMaps,
    cell_grid,
    image_levels,
    image_maps,
    level_zero_size,
    region_levels,
    resize_image,
)
from detector.nets.weights import Normalization, to_tensor
from proposals.boxes import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One network of an ensemble and how its input is made.

    ``head`` stands on the net's last map in place of its own last layer; see :mod:`detector.nets.region_head`. With
    ``shared`` regions are pooled from maps of the whole image; without, each is cropped and warped as ``crop`` says.
    With ``ranges`` it can compute in int8; see :mod:`detector.nets.int8`.
    """

    net: GoogLeNet
    crop: CropConfig
    normalization: Normalization
    head: RegionHead | None = None
    shared: SharedMaps | None = None
    ranges: Ranges | None = None

    @property
    def num_outputs(self) -> int:
        """K + 1; K of a network that names whole images."""
        return self.net.config.num_outputs if self.head is None else self.head.num_classes + 1

    @property
    def has_box_head(self) -> bool:
        """Whether it has box regression."""
        return self.head is not None and self.head.regress is not None

    @property
    def has_overlap_head(self) -> bool:
        """Whether it predicts overlaps."""
        return self.head is not None and self.head.judge is not None

    def output(self, x: Tensor, dtype: torch.dtype = torch.float32) -> RegionOutput:
        """Probabilities, deltas and overlaps, the latter if it has them, of normalised crops ``(N, 3, S, S)``: float32.

        The network computes in ``dtype``, softmax and head in float32. Crops that overflow float16 go through the
        network once more in float32.
        """
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            y: Tensor = (self.net(x) if self.head is None else self.net.trunk(x)).float()
        if dtype == torch.float16 and not y.isfinite().all():
            return self.output(x)
        if self.head is None:
            return RegionOutput(torch.softmax(y, 1))
        return self.head(y)  # type: ignore[no-any-return]

    def maps(
        self,
        images: Sequence[NDArray[np.uint8]],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        start: Start = when_asked,
        begun: Sequence[ImageMaps] = (),
    ) -> Sequence[ImageMaps]:
        """The maps to pool regions of each of ``images`` ``(H, W, 3)`` RGB from, of a member with ``shared``.

        Args:
            images: their level 0 is of one size. begun: of the same images, by a member that begins like this one.
        """
        assert self.shared is not None
        level_zero = partial(self.level_zero, images, device)
        sizes = [image.shape[:2] for image in images]
        return image_maps(self.net, level_zero, sizes, self.shared, dtype, start, begun)

    def begins_like(self, other: Member) -> bool:
        """Whether both pool from maps, whose first layers see and say the same."""
        alike = self.shared == other.shared is not None and self.normalization == other.normalization
        return alike and (self.ranges is None) == (other.ranges is None) and self.net.begins_like(other.net)

    def level_zero(self, images: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
        """``images`` ``(H, W, 3)`` RGB at level 0's size, normalised: ``(M, 3, H', W')``, channels last."""
        assert self.shared is not None
        resized = np.stack([resize_image(each, level_zero_size(each.shape[:2], self.shared)) for each in images])
        return self.normalization(to_tensor(resized).to(device)).contiguous(memory_format=torch.channels_last)

    def region_features(self, images: Tensor, rois: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The trunk's last map, float32, of each of ``rois`` ``(R, 5)`` in ``images`` ``(M, 3, H, W)``, 0..255."""
        assert self.shared is not None
        x = self.normalization(images).contiguous(memory_format=torch.channels_last)
        level = torch.from_numpy(region_levels(rois[:, 1:].cpu().numpy(), self.shared)).to(x.device)
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            levels = image_levels(x, self.shared)
            maps = [self.net.map_4e(each) for each in levels]
            cells = PooledMaps(maps, levels, cell_grid(self.net.config)).cells(rois, level, self.shared)
            return self.net.after_4e(cells).float()

    def pooled_output(
        self, regions: Sequence[tuple[ImageMaps, FloatArray]], dtype: torch.dtype = torch.float32
    ) -> RegionOutput:
        """As :meth:`output`, of boxes ``(N, 4)`` in the images that the maps beside them are of, one after another."""
        assert self.head is not None
        cells = [maps.cells(boxes) for maps, boxes in regions]
        with torch.autocast(cells[0].device.type, dtype, enabled=dtype != torch.float32):
            y = self.net.after_4e(cells[0] if len(cells) == 1 else torch.cat(cells)).float()
        return self.head(y)  # type: ignore[no-any-return]


def led(members: Sequence[Member]) -> tuple[list[Member], dict[int, int]]:
    """The members, and of each that begins like an earlier one the number of the first such.

    Those that begin alike get the same ranges for their first layers, the greatest of all.
    """
    leaders: dict[int, int] = {}
    found = list(members)
    for number, member in enumerate(members):
        alike = (first for first in range(number) if first not in leaders and member.begins_like(members[first]))
        if (leader := next(alike, None)) is not None:
            leaders[number] = leader
    for leader in set(leaders.values()):
        group = [leader, *(number for number in leaders if leaders[number] == leader)]
        ranges = [own for number in group if (own := members[number].ranges) is not None]
        for number, own in zip(group, ranges, strict=False):
            found[number] = replace(members[number], ranges={**own, **ranges_of_first_layers(ranges)})
    return found, leaders
