"""The regions that a localizer is trained on, and batches of them.

They are drawn around annotated objects and elsewhere in their pictures, so that every IoU occurs and low ones most
often. IoU-Net draws its own around objects alone (Jiang et al., ECCV 2018, section 3.3), and found that better than
proposals. Here some may be proposals as well, of pictures that were searched: those are what it judges in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from detector.crop import INTERPOLATIONS, CropConfig, crop_regions
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.weights import Normalization, to_tensor
from detector.training.augment import AugmentConfig, distort
from detector.training.batches import make_ahead
from detector.training.order import EpochOrder
from detector.training.pool import ImagePool
from detector.training.sampling import paired_iou, perturbed_boxes
from detector.training.settings import RunSettings
from proposals.boxes import clip, encode, iou


class JitterConfig(BaseModel):
    """How regions are drawn.

    Attributes:
        candidates: drawn for each region, some around the object and some anywhere in the picture.
        strength: those around the object are its box moved and stretched by up to a random number up to this.
        anywhere: share of the candidates that lie anywhere; all sizes are equally frequent, and most are parts of
            objects or lie beside them, as most proposals do.
        even: share of the regions for which the candidate is taken whose IoU is nearest to a random number in [0, 1];
            for the others it is any candidate.
        minimum_side: candidates are at least so wide and high, relative to the picture's longer side.
        scenes: share of a batch from the pictures given as such, if there are any.
        proposed: share of the regions whose candidates are not drawn but are all proposals of a picture that was
            searched; see :class:`detector.recipes.region.LocalizerRecipe`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(default=16, ge=1)
    strength: float = Field(default=2.0, gt=0)
    anywhere: float = Field(default=0.5, ge=0, le=1)
    even: float = Field(default=0.5, ge=0, le=1)
    minimum_side: float = Field(default=0.04, gt=0, lt=1)
    scenes: float = Field(default=0.25, ge=0, le=1)
    proposed: float = Field(default=0.0, ge=0, le=1)


class LocalizerTrainingConfig(RunSettings):
    """Everything that decides the outcome of a run; see also :class:`detector.training.settings.RunSettings`.

    Attributes:
        trunk: the network below the last layer. grid: cells a side of the map that the last layer sees.
        crop: with a wide context. jitter, augment: how regions are drawn and changed.
        move_iou: regions with at least this IoU learn where the object lies; the others only how little they cover.
        move_weight: of that loss, beside the overlap's.
        weight_decay: on convolution and linear weights only.
        statistics_batches: the averaged net's normalisation statistics are measured anew on so many batches; 0 keeps
            the running ones.
    """

    trunk: GoogLeNetConfig
    grid: int = Field(default=3, ge=1, le=14)
    crop: CropConfig
    normalization: Normalization = Normalization()
    jitter: JitterConfig = JitterConfig()
    augment: AugmentConfig = AugmentConfig()
    move_iou: float = Field(default=0.4, ge=0, le=1)
    move_weight: float = Field(default=1.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    statistics_batches: int = Field(default=20, ge=0)


Proposed = Mapping[int, NDArray[np.float32]]
"""Proposals ``(P, 4)`` of those pictures of a pool that were searched, by number."""


class Regions(NamedTuple):
    """Regions ``(N, 4)``, their IoU ``(N,)`` with the object they cover most, and that object's box ``(N, 4)``."""

    boxes: NDArray[np.float32]
    overlaps: NDArray[np.float32]
    objects: NDArray[np.float32]


def boxes_anywhere(rng: np.random.Generator, sizes: NDArray[np.float32], smallest: float) -> NDArray[np.float32]:
    """A box ``(N, 4)`` in each image of ``sizes`` ``(N, 2)`` (height, width); its place is uniform, its log area too.

    ``smallest``: the least area is the square of this times the image's. Aspects are 1/3 to 3; sides are cut to the
    image's.
    """
    n = len(sizes)
    area = np.exp(rng.uniform(2 * np.log(smallest), 0, n)) * sizes[:, 0] * sizes[:, 1]
    aspect = np.exp(rng.uniform(-np.log(3), np.log(3), n))
    sides = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=1)  # width, height
    sides = np.minimum(sides, sizes[:, ::-1])
    corner = rng.uniform(0, 1, (n, 2)) * (sizes[:, ::-1] - sides)
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


def draw_regions(
    rng: np.random.Generator,
    pool: ImagePool,
    objects: NDArray[np.int64],
    config: JitterConfig,
    proposals: Proposed | None = None,
) -> Regions:
    """One region for each of ``objects`` ``(N,)`` of ``pool``, around it or elsewhere in its picture.

    With ``proposals`` it is one of those of its picture.
    """
    count, images = len(objects), pool.owner[objects]
    candidates = (
        _drawn_candidates(rng, pool, objects, config)
        if proposals is None
        else [proposals[image] for image in images.tolist()]
    )
    even, wanted = rng.random(count) < config.even, rng.random(count)
    boxes, found = np.empty((count, 4), np.float32), np.empty((count, 4), np.float32)
    for i, image in enumerate(images.tolist()):
        height, width = pool.sizes[image].tolist()
        inside = clip(candidates[i], (int(height), int(width)))
        inside = inside[(inside[:, 2:] - inside[:, :2]).min(axis=1) >= config.minimum_side * max(height, width)]
        if not len(inside):  # the object's own box is a region, too
            inside = pool.boxes[objects[i]][None]
        truth = pool.truth(image)
        overlaps = iou(inside, truth)
        gap = np.abs(overlaps.max(axis=1) - wanted[i])
        chosen = int(gap.argmin()) if even[i] else int(wanted[i] * len(inside))
        boxes[i], found[i] = inside[chosen], truth[int(overlaps[chosen].argmax())]
    return Regions(boxes, paired_iou(boxes, found), found)


def _drawn_candidates(
    rng: np.random.Generator, pool: ImagePool, objects: NDArray[np.int64], config: JitterConfig
) -> NDArray[np.float32]:
    """For each of ``objects`` ``(N,)`` boxes ``(N, candidates, 4)``, which may reach beyond the picture."""
    count, each = len(objects), config.candidates
    images = pool.owner[objects]
    own, sizes = np.repeat(pool.boxes[objects], each, axis=0), np.repeat(pool.sizes[images], each, axis=0)
    strength = rng.uniform(0, config.strength, (len(own), 1)).astype(np.float32)
    candidates = perturbed_boxes(rng, own, strength)  # type: ignore[arg-type]
    anywhere = rng.random(len(own)) < config.anywhere
    candidates[anywhere] = boxes_anywhere(rng, sizes[anywhere], config.minimum_side)
    return candidates.reshape(count, each, 4)


class LocalizerBatch(NamedTuple):
    """Crops ``(B, 3, S, S)`` float32 0..255, channels last; IoUs ``(B,)``; deltas ``(B, 4)``; each region's picture."""

    crops: Tensor
    overlaps: Tensor
    deltas: Tensor
    shown: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """So many regions of every batch: for ``objects`` of ``pool`` in turn, drawn, or of their pictures' proposals."""

    pool: ImagePool
    share: int
    objects: NDArray[np.int64]
    order: EpochOrder
    proposals: Proposed | None = None

    def draw(self, rng: np.random.Generator, step: int, config: JitterConfig) -> tuple[NDArray[np.int64], Regions]:
        places = [self.order[step * self.share + i] for i in range(self.share)]
        objects = self.objects[places]
        return objects, draw_regions(rng, self.pool, objects, config, self.proposals)


class LocalizerBatches:
    """Draws batches of regions; each depends on the seed and the step alone.

    Args:
        scenes: more pictures, a share of every batch; ``None`` for none.
        searched, searched_scenes: proposals of some pictures of either; ``jitter.proposed`` of its share of a batch are
            regions of these, if they have any objects.
    """

    def __init__(
        self,
        pool: ImagePool,
        scenes: ImagePool | None,
        config: LocalizerTrainingConfig,
        searched: Proposed = MappingProxyType({}),
        searched_scenes: Proposed = MappingProxyType({}),
    ) -> None:
        self.config = config
        from_scenes = 0 if scenes is None else round(config.batch_size * config.jitter.scenes)
        drawn: list[tuple[ImagePool, int, NDArray[np.int64], Proposed | None]] = []
        proposed: list[tuple[ImagePool, int, NDArray[np.int64], Proposed | None]] = []
        pools = [(pool, config.batch_size - from_scenes, searched)]
        if scenes is not None:
            pools.append((scenes, from_scenes, searched_scenes))
        for part, share, known in pools:
            objects = np.flatnonzero(np.isin(part.owner, list(known)))
            of_known = round(share * config.jitter.proposed) if len(objects) else 0
            drawn.append((part, share - of_known, np.arange(len(part.boxes)), None))
            proposed.append((part, of_known, objects, known))
        self.parts = [
            _Part(part, share, objects, EpochOrder(len(objects), config.seed + number), known)
            for number, (part, share, objects, known) in enumerate([*drawn, *proposed])
            if share
        ]

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every object of the first pool is shown once."""
        first = self.parts[0]
        return len(first.objects) / first.share

    def batch(self, step: int) -> LocalizerBatch:
        """The batch of ``step``."""
        config, size = self.config, self.config.crop.size
        rng = np.random.default_rng([config.seed, 2, step])
        crops = np.empty((config.batch_size, size, size, 3), np.uint8)
        drawn, shown, place = [], [], 0
        for part in self.parts:
            objects, regions = part.draw(rng, step, config.jitter)
            kinds = rng.integers(len(INTERPOLATIONS), size=part.share)
            for i, image in enumerate(part.pool.owner[objects].tolist()):
                kind = [INTERPOLATIONS[kinds[i]]] if config.augment.random_interpolation else None
                fill = config.normalization.fill
                out = crops[place : place + 1]
                crop_regions(
                    part.pool.images[image], regions.boxes[i][None], config.crop, fill, interpolations=kind, out=out
                )
                shown.append(part.pool.name(image))
                place += 1
            drawn.append(regions)
        overlaps = np.concatenate([regions.overlaps for regions in drawn])
        deltas = np.concatenate([encode(regions.boxes, regions.objects) for regions in drawn]).astype(np.float32)
        mirror = rng.random(config.batch_size) < config.augment.mirror
        crops[mirror] = crops[mirror, :, ::-1]
        deltas[mirror, 0] *= -1  # in a mirror image the object lies on the other side
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return LocalizerBatch(
            distort(to_tensor(crops), config.augment, generator),
            torch.from_numpy(overlaps),
            torch.from_numpy(deltas),
            shown,
        )

    def stream(self, steps: Iterator[int], threads: int = 1) -> Iterator[LocalizerBatch]:
        """The batches of ``steps``, made ahead in so many threads while the net computes."""
        return make_ahead(self.batch, steps, threads)
