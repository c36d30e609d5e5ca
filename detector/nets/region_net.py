"""A region network on shared maps: the image once through the trunk, each region pooled from its map, then the heads.

SPP-net and Fast R-CNN compute the convolutions of an image once for all of its regions. Here the trunk up to Inception
4e runs on a few scales of the image, each half of the one before; a region is pooled from the scale at which its side
is nearest to ``region_side`` (SPP-net, section 4.1), by RoIAlign (Mask R-CNN, section 3); 5a, 5b and the heads then
run per region, because GoogLeNet's features need layers of their own behind the pooling (Ren et al., NoC).

Glossary of shapes: M images of one size, L levels (0 the finest), R regions, K classes, C channels, r ``resolution``.
    levels  L tensors (M, 3, H_l, W_l), normalised
    maps    L tensors (M, C, h_l, w_l), the outputs of 4e
    rois    (R, 5) float32: number of the image, x1 y1 x2 y2 in pixels of level 0
    level   (R,) int64, the level that each region is pooled from
    cells   (R, C, r, r)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Trunk
from detector.nets.kernels import can_gather, weighted_rows
from detector.nets.region_head import HeadLogits, HeadShape, RegionHead
from proposals.boxes import FloatArray
from proposals.multibox import (
    LevelGrid,
    MultiBoxConfig,
    MultiBoxHead,
    MultiBoxOutput,
    MultiBoxProposalConfig,
    ranked_boxes,
)
from proposals.types import Proposals

LEAST_SIDE = 16  # pixels of a level: less would vanish in the pooling of the paper's stem, or before 4a


class SharedMaps(BaseModel):
    """How regions are pooled from the maps of a whole image.

    Attributes:
        image_side: the longer side of level 0 in pixels. levels: scales of the image, each half of the one before.
        region_side: a region is pooled from the level at which the root of its area is nearest to this, in pixels of
            that level.
        resolution: cells a side that a region is pooled to, before the pooling behind 4e.
        samples: bilinear samples a side in each cell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_side: int = Field(default=320, ge=32, le=4096)
    levels: int = Field(default=3, ge=1, le=6)
    region_side: float = Field(default=64.0, gt=0)
    resolution: int = Field(default=7, ge=2, le=28)
    samples: int = Field(default=2, ge=1, le=8)


class CellGrid(NamedTuple):
    """Where the cells of 4e's map lie: that of column i has its centre at ``first + stride * i`` pixels."""

    stride: int
    first: float


def cell_grid(config: GoogLeNetConfig) -> CellGrid:
    """The grid of the trunk's map, from the kernels, strides and paddings of the layers that shrink its input."""
    small = ((3, 1 if config.stem == "stride2" else 2, 1), (3, 2, 0), (3, 2, 0))
    layers = ((7, 2, 3), (3, 2, 0), (3, 2, 0), (3, 2, 0)) if config.stem == "stride8" else small
    stride, first = 1, 0.5
    for kernel, step, padding in layers:
        first += ((kernel - 1) / 2 - padding) * stride
        stride *= step
    return CellGrid(stride, first)


def level_zero_size(image_size: tuple[int, int], config: SharedMaps) -> tuple[int, int]:
    """(height, width) of level 0 of an image of ``image_size``; a very thin one is widened."""
    factor = config.image_side / max(image_size)
    least = LEAST_SIDE * 2 ** (config.levels - 1)
    height, width = (max(least, round(side * factor)) for side in image_size)
    return height, width


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``image`` ``(H, W, 3)`` at ``size`` (height, width): by area averaging where that shrinks it."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    found = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(found.reshape(*size, 3), np.uint8)


def image_levels(x: Tensor, config: SharedMaps) -> list[Tensor]:
    """The levels of normalised images ``(M, 3, H, W)``: each half of the one before, sides rounded up."""
    levels = [x]
    while len(levels) < config.levels:
        height, width = levels[-1].shape[2:]
        half = F.adaptive_avg_pool2d(levels[-1], ((height + 1) // 2, (width + 1) // 2))
        levels.append(half.contiguous(memory_format=torch.channels_last))
    return levels


def region_levels(boxes: FloatArray, config: SharedMaps) -> NDArray[np.int64]:
    """The level ``(R,)`` that each of ``boxes`` ``(R, 4)``, in pixels of level 0, is pooled from."""
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 1e-6)
    octaves = np.log2(np.sqrt(sides.prod(axis=1)) / config.region_side)
    return np.asarray(np.clip(np.floor(octaves + 0.5), 0, config.levels - 1), np.int64)


def axis_taps(start: Tensor, length: Tensor, cells: int, samples: int, size: Tensor) -> tuple[Tensor, Tensor]:
    """The places of an axis that make up each cell of each region, and their weights: ``(R, cells, 2 * samples)`` both.

    Args:
        start, length: ``(R,)``, of the regions along the axis, in places; the first place has its centre at 0.
        size: ``(R,)`` int64, how many places there are.

    A cell is the mean of ``samples`` points, each interpolated between its two neighbours; a point more than one place
    outside weighs nothing (RoIAlign).
    """
    steps = (torch.arange(cells * samples, device=start.device, dtype=start.dtype) + 0.5) / (cells * samples)
    points = start[:, None] + length[:, None] * steps
    inside = (points >= -1) & (points <= size[:, None])
    last = size[:, None] - 1
    points = torch.minimum(points.clamp(min=0), last.to(points.dtype))
    near = points.long()
    beyond = points - near
    places = torch.stack([near, torch.minimum(near + 1, last)], 2)
    weights = torch.stack([1 - beyond, beyond], 2) * (inside[:, :, None] / samples)
    shape = (len(start), cells, 2 * samples)
    return places.view(shape), weights.view(shape)


def level_grids(levels: Sequence[Tensor], maps: Sequence[Tensor], grid: CellGrid) -> list[LevelGrid]:
    """The cells of ``maps`` ``(N, C, h, w)`` of ``levels`` ``(N, 3, H, W)`` of an image, in pixels of level 0."""
    height, width = levels[0].shape[2:]
    found = []
    for level, cells in zip(levels, maps, strict=True):
        down, across = height / level.shape[2], width / level.shape[3]
        first, step = (grid.first * down, grid.first * across), (grid.stride * down, grid.stride * across)
        found.append(LevelGrid(cells.shape[2], cells.shape[3], first, step))
    return found


def sizes_by_level(config: MultiBoxConfig, maps: SharedMaps) -> list[NDArray[np.float64]]:
    """The sizes of MultiBox's priors, each on the level that a region of that size is pooled from."""
    sizes = config.sizes
    level = region_levels(np.stack([0 * sizes, 0 * sizes, sizes, sizes], axis=1), maps)
    return [sizes[level == number] for number in range(maps.levels)]


class PooledMaps:
    """The maps of M images at L levels, laid out to be pooled from; see the glossary of the module.

    All their places are the rows of one table, so that a cell of a region is a weighted sum of a few rows: RoIAlign as
    torchvision's ``roi_align`` (``aligned=True``), on all cores, in the order that the layers behind it want.
    """

    def __init__(self, maps: Sequence[Tensor], levels: Sequence[Tensor], grid: CellGrid) -> None:
        device, (height, width) = maps[0].device, levels[0].shape[2:]
        self.dtype = maps[0].dtype
        rows = torch.cat([found.permute(0, 2, 3, 1).flatten(0, 2) for found in maps])
        self.rows = rows.to(levels[0].dtype)  # (places, C); sums in a short format would lose too much
        self.sizes = torch.tensor([found.shape[2:] for found in maps], device=device)  # (L, 2)
        ends = torch.tensor([len(found) for found in maps], device=device) * self.sizes.prod(1)
        self.first = ends.cumsum(0) - ends  # (L,) row where each level begins
        factors = [[x.shape[3] / width, x.shape[2] / height] * 2 for x in levels]
        self.shrink = torch.tensor(factors, device=device) / grid.stride  # (L, 4)
        self.shift = 0.5 - grid.first / grid.stride

    def cells(self, rois: Tensor, level: Tensor, config: SharedMaps) -> Tensor:
        """The cells ``(R, C, r, r)`` of each region, channels last, of the maps' type."""
        with torch.autocast(rois.device.type, enabled=False):
            cells, samples = config.resolution, config.samples
            boxes = rois[:, 1:] * self.shrink[level] + (self.shift - 0.5)  # the first place's centre is at 0
            start, length = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
            height, width = self.sizes[level].unbind(1)
            first = self.first[level] + rois[:, 0].long() * height * width
            across, weight_across = axis_taps(start[:, 0], length[:, 0], cells, samples, width)
            down, weight_down = axis_taps(start[:, 1], length[:, 1], cells, samples, height)
            down = first[:, None, None] + down * width[:, None, None]
            taps = (2 * samples) ** 2
            places = (down[:, :, None, :, None] + across[:, None, :, None, :]).view(-1, taps)
            weights = (weight_down[:, :, None, :, None] * weight_across[:, None, :, None, :]).view(-1, taps)
            if can_gather(self.rows, self.dtype):
                found = weighted_rows(self.rows, places, weights, self.dtype)
            else:
                found = F.embedding_bag(places, self.rows, per_sample_weights=weights, mode="sum").to(self.dtype)
        return found.view(len(rois), cells, cells, found.shape[1]).permute(0, 3, 1, 2)


class RegionNet(nn.Module):
    """A trunk with a head, as it is trained: on shared maps, or on crops.

    Args:
        trunk: its architecture. head: what it predicts of a region. num_classes: K. config: how regions are pooled from
            shared maps; ``None`` for crops. dropout: before the classifier, while training. multibox: a head that
            proposes regions from the same maps, which it leaves as the regions' losses make them; ``None`` for none.
    """

    def __init__(
        self,
        trunk: GoogLeNetConfig,
        head: HeadShape,
        num_classes: int,
        config: SharedMaps | None = None,
        dropout: float = 0.0,
        multibox: MultiBoxConfig | None = None,
    ) -> None:
        super().__init__()
        self.config, self.grid = config, cell_grid(trunk)
        self.trunk = Trunk(trunk)
        self.head = RegionHead(head, num_classes, self.trunk.num_features)
        self.dropout = nn.Dropout(dropout)
        # Fast R-CNN, section 2.3: small weights, the boxes' smaller still.
        for layer, deviation in ((self.head.classify, 0.01), (self.head.regress, 0.001), (self.head.judge, 0.001)):
            if layer is not None:
                nn.init.normal_(layer.weight, std=deviation)
                nn.init.zeros_(layer.bias)
        self.multibox: MultiBoxHead | None = None
        if multibox is not None:
            assert config is not None
            self.multibox = MultiBoxHead(trunk.inception("4e").out, sizes_by_level(multibox, config), multibox)

    def freeze_all_but_multibox(self) -> None:
        """Let everything but the head that proposes keep its weights and statistics whatever is trained."""
        for part in (self.trunk, self.head):
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> RegionNet:
        """See the base class; what is frozen stays in evaluation mode."""
        super().train(mode)
        if not self.head.classify.weight.requires_grad:
            self.trunk.eval()
            self.head.eval()
        return self

    def forward(
        self,
        images: Tensor | Sequence[Tensor],
        rois: Tensor | None = None,
        level: Tensor | None = None,
        choose: Callable[[MultiBoxOutput], tuple[Tensor, Tensor]] | None = None,
    ) -> HeadLogits:
        """What the head says of each region, before its link functions.

        Args:
            images: normalised crops ``(R, 3, S, S)``; or the ``levels`` of whole images, with ``rois`` and ``level``:
                see the glossary of the module. With no more than the levels it says what MultiBox alone does.
            choose: gives other ``rois`` and ``level``, from what MultiBox says.
        """
        if isinstance(images, Tensor):
            return self.head.logits(self.trunk(images), self.dropout)
        assert self.config is not None
        levels = images
        maps = [self.trunk.map_4e(x) for x in levels]
        proposed = None
        if self.multibox is not None:
            grids = level_grids(levels, maps, self.grid)
            deltas, logits = self.multibox([x.detach() for x in maps])
            proposed = MultiBoxOutput(deltas, logits, self.multibox.priors(grids))
        if rois is None or level is None:
            return HeadLogits(images[0].new_zeros(0, self.head.num_classes + 1), proposed=proposed)
        if choose is not None and proposed is not None:
            rois, level = choose(proposed)
        cells = PooledMaps(maps, levels, self.grid).cells(rois, level, self.config)
        return self.head.logits(self.trunk.after_4e(cells), self.dropout)._replace(proposed=proposed)


class ImageMaps:
    """The maps of one image by one network, computed once and asked about regions as often as one likes.

    See :func:`image_maps`, which begins them.

    Args:
        net: a trunk in evaluation mode. image_size: (height, width) of the image whose pixels boxes are in. dtype: that
            the network computes in.
        levels: gives the L levels of the image. maps: of each level, give the outputs of 3b, pooled, and of 4e.
    """

    def __init__(
        self,
        net: GoogLeNet,
        image_size: tuple[int, int],
        config: SharedMaps,
        dtype: torch.dtype,
        levels: Callable[[], Sequence[Tensor]],
        maps: Sequence[Callable[[], Sequence[Tensor]]],
    ) -> None:
        self.net, self.config, self.image_size, self.dtype = net, config, image_size, dtype
        height, width = level_zero_size(image_size, config)
        self.scale = np.array([width / image_size[1], height / image_size[0]] * 2)
        self.levels, self.both_maps = levels, maps

    @cached_property
    def level_maps(self) -> list[Tensor]:
        """The outputs of 4e for each level."""
        return [maps()[1] for maps in self.both_maps]

    @cached_property
    def maps(self) -> PooledMaps:
        """The maps as regions are pooled from them."""
        return PooledMaps(self.level_maps, self.levels(), cell_grid(self.net.config))

    def cells(self, boxes: FloatArray) -> Tensor:
        """The cells of each of ``boxes`` ``(R, 4)``, in pixels of the image; see the glossary of the module."""
        placed = (boxes.astype(np.float64) * self.scale).astype(np.float32)
        device = self.maps.rows.device
        rois = torch.from_numpy(np.concatenate([np.zeros((len(placed), 1), np.float32), placed], axis=1)).to(device)
        level = torch.from_numpy(region_levels(placed, self.config)).to(device)
        return self.maps.cells(rois, level, self.config)

    def proposed(self, head: MultiBoxHead, config: MultiBoxProposalConfig) -> Proposals:
        """The proposals that ``head`` makes from the maps."""
        with _computing(self.level_maps[0].device, self.dtype):
            deltas, logits = head(self.level_maps)
        grids = level_grids(self.levels(), self.level_maps, cell_grid(self.net.config))
        scale = (float(1 / self.scale[1]), float(1 / self.scale[0]))
        return ranked_boxes(MultiBoxOutput(deltas, logits, head.priors(grids)), scale, self.image_size, config)


def image_maps(
    net: GoogLeNet,
    level_zero: Callable[[], Tensor],
    image_sizes: Sequence[tuple[int, int]],
    config: SharedMaps,
    dtype: torch.dtype,
    start: Callable[[Callable[[], Any]], Callable[[], Any]],
    begun: Sequence[ImageMaps] = (),
) -> list[ImageMaps]:
    """The maps of images whose level 0 is of one size.

    Args:
        net: a trunk in evaluation mode. level_zero: gives the normalised images ``(M, 3, H, W)``, at level 0's size.
        image_sizes: M times (height, width) of the images whose pixels boxes are in. dtype: that the network computes
            in. start: begins what there is to compute; see :class:`detector.detection.cores.Start`.
        begun: of the same images by a network that begins like this one, and at the same levels.
    """
    # Nothing that is begun refers to what is returned: in a circle, maps would stay until Python looks for garbage.
    calls: list[Callable[[], tuple[Tensor, Tensor]]]
    if begun:
        own_levels = [own.levels for own in begun]
        calls = [
            partial(_maps_behind_3b, net, maps, dtype) for maps in zip(*(own.both_maps for own in begun), strict=True)
        ]
    else:
        levels: Callable[[], list[Tensor]] = start(lambda: image_levels(level_zero(), config))
        own_levels = [partial(_of_image, levels, number) for number in range(len(image_sizes))]
        calls = [partial(_maps_of_level, net, levels, level, dtype) for level in range(config.levels)]
    maps = [start(call) for call in calls]
    return [
        ImageMaps(net, size, config, dtype, own, [partial(_of_image, each, number) for each in maps])
        for number, (size, own) in enumerate(zip(image_sizes, own_levels, strict=True))
    ]


def _of_image(tables: Callable[[], Sequence[Tensor]], number: int) -> list[Tensor]:
    return [table[number : number + 1] for table in tables()]


def _maps_of_level(
    net: GoogLeNet, levels: Callable[[], list[Tensor]], level: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The outputs of 3b, pooled, and of 4e."""
    x = levels()[level]
    with _computing(x.device, dtype):
        begun = net.map_3b(x)
        return begun, net.stage_4(begun)


def _maps_behind_3b(
    net: GoogLeNet, maps: Sequence[Callable[[], Sequence[Tensor]]], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """As :func:`_maps_of_level`, from each image's ``maps`` of a network that begins like ``net``."""
    own = [both()[0] for both in maps]
    begun = own[0] if len(own) == 1 else torch.cat(own)
    with _computing(begun.device, dtype):
        return begun, net.stage_4(begun)


def _computing(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
