"""Batches of labelled crops; each depends on the seed and the step alone, so a resumed run sees the same ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.crop import INTERPOLATIONS, crop_regions
from detector.nets.weights import to_tensor
from detector.training.pool import ImagePool
from detector.training.region_batch import UNREADABLE, RegionBatch, Shown, apply_distortion, draw_distortion
from detector.training.region_settings import RegionTrainingConfig
from detector.training.sampling import (
    EpochOrder,
    SamplingConfig,
    background_region,
    class_weights,
    foreground_regions,
    hidden,
)
from proposals.boxes import encode, iou
from proposals.errors import UserError


class Drawn(NamedTuple):
    """The regions of a batch.

    Attributes:
        images: positions in the pool. regions: a box ``(4,)`` each, foreground first. labels: K for background.
    """

    images: list[int]
    regions: list[NDArray[np.float32]]
    labels: list[int]


class CropBatches(ABC):
    """Batches of crops from a pool of images; a subclass says of which regions.

    The foreground is shown once per epoch, or more or less often where classes are balanced, in an order that depends
    on the seed and the epoch.

    Args:
        labels: of the foreground. :attr:`size` is the number of crops in a batch, which several processes divide among
            them.
    """

    def __init__(self, pool: ImagePool, config: RegionTrainingConfig, labels: NDArray[np.int64]) -> None:
        self.pool, self.config, self.size, self.num_classes = pool, config, config.batch_size, config.num_classes
        self.foreground = max(1, round(self.size * config.sampling.foreground))
        self.order = EpochOrder(len(labels), config.seed, class_weights(labels, config.sampling.balance))
        self.unreadable: dict[str, str] = {}
        """What went wrong with each picture that could not be read since the run began, by the picture's id."""

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which the foreground is shown once."""
        return self.order.length / self.foreground

    @abstractmethod
    def draw(self, rng: np.random.Generator, step: int) -> Drawn:
        """The ``size`` regions of ``step``, foreground first."""

    def batch(self, step: int, part: slice | None = None) -> RegionBatch:
        """The batch of ``step``, or the ``part`` of it.

        What is drawn at random is drawn for the whole batch, so that parts are those of the whole.
        """
        crop, augment, fill = self.config.crop, self.config.augment, self.config.normalization.fill
        rng = np.random.default_rng([self.config.seed, 2, step])
        drawn = self.draw(rng, step)
        mirror = rng.random(self.size) < augment.mirror
        kinds = rng.integers(len(INTERPOLATIONS), size=self.size)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        amounts = draw_distortion(self.size, augment, generator)

        mine = range(self.size)[part or slice(None)]
        crops = np.empty((len(mine), crop.size, crop.size, 3), np.uint8)
        labels = np.empty(len(mine), np.int64)
        shown = []
        for place, i in enumerate(mine):
            image, region, labels[place] = drawn.images[i], drawn.regions[i], drawn.labels[i]
            shown.append(Shown(self.pool.name(image), region))
            try:
                kind = [INTERPOLATIONS[kinds[i]]] if augment.random_interpolation else None
                out = crops[place : place + 1]
                crop_regions(self.pool.images[image], region[None], crop, fill, interpolations=kind, out=out)
            except UserError as fault:  # a picture that is read when it is needed, and has become unreadable
                self.unreadable[shown[-1].image] = str(fault)
                crops[place], labels[place] = fill, UNREADABLE
            if mirror[i]:
                crops[place] = crops[place, :, ::-1].copy()
        own = slice(mine.start, mine.stop)
        deltas, overlaps = self._targets(drawn, labels, mine, mirror)
        crops_seen = apply_distortion(to_tensor(crops), amounts.part(own))
        return RegionBatch(crops_seen, torch.from_numpy(labels), shown, deltas=deltas, overlaps=overlaps)

    def _targets(
        self, drawn: Drawn, labels: NDArray[np.int64], mine: range, mirror: NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor]:
        """Of the batch's regions the deltas to their objects and their overlaps; see :class:`RegionBatch`."""
        pool = self.pool
        deltas, overlaps = np.zeros((len(mine), 4), np.float32), np.zeros(len(mine), np.float32)
        for place, i in enumerate(mine):
            own = pool.of_image(drawn.images[i])
            truth, shows = pool.boxes[own], 0 <= labels[place] < self.num_classes
            truth = truth[pool.labels[own] == labels[place]] if shows else truth
            if len(truth):
                region = drawn.regions[i][None].astype(np.float64)
                overlap = iou(region, truth)[0]
                overlaps[place] = overlap.max()
                if shows:
                    deltas[place] = encode(region, truth[overlap.argmax()][None].astype(np.float64))[0]
                    deltas[place, 0] *= -1 if mirror[i] else 1
        return torch.from_numpy(deltas), torch.from_numpy(overlaps)


class RegionBatches(CropBatches):
    """Regions drawn afresh around annotated objects; see :mod:`detector.training.sampling`."""

    def __init__(self, pool: ImagePool, config: RegionTrainingConfig) -> None:
        super().__init__(pool, config, pool.labels)

    def draw(self, rng: np.random.Generator, step: int) -> Drawn:
        start, sampling = step * self.foreground, self.config.sampling
        objects = np.array([self.order[start + i] for i in range(self.foreground)], np.int64)
        images = [int(i) for i in self.pool.owner[objects]]
        truth = self.pool.boxes[objects]
        regions = list(foreground_regions(rng, truth, self.pool.sizes[images], sampling))
        labels = [int(i) for i in self.pool.labels[objects]]
        while len(regions) < self.size:
            region = None
            while region is None:  # most images have room for background; one that has none is passed over
                image = int(rng.integers(len(self.pool.images)))
                height, width = self.pool.sizes[image]
                taken = np.concatenate([self.pool.truth(image), self.pool.unsure(image)])
                region = background_region(rng, taken, (int(height), int(width)), sampling)
            images.append(image)
            regions.append(region[0])
            labels.append(self.num_classes)
        return Drawn(images, regions, labels)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """All windows of a pool of images, proposals and annotated boxes, that serve as foreground or background.

    A window's label is that of the object that it overlaps most if their IoU is at least ``iou_foreground``, and
    background below ``iou_background``; what lies between is left out (nothing does in R-CNN, where both are 0.5), and
    so is background in ignored objects.

    Attributes:
        boxes: ``(W, 4)`` float32. owner: ``(W,)`` int32, each one's image. labels: ``(W,)`` int32 in [0, K].
        foreground, background: positions of either kind, int64.
    """

    boxes: NDArray[np.float32]
    owner: NDArray[np.int32]
    labels: NDArray[np.int32]
    foreground: NDArray[np.int64]
    background: NDArray[np.int64]

    @classmethod
    def label(
        cls, pool: ImagePool, proposals: Iterable[NDArray[np.float32]], num_classes: int, config: SamplingConfig
    ) -> Windows:
        """The windows of ``pool``: its annotated boxes, and the ``proposals`` ``(P, 4)`` of each of its images.

        Windows with a side below ``minimum_side`` are left out, but for the annotated ones.

        Raises:
            UserError: there is no foreground, or no background.
        """
        boxes, owner, labels = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        for image, found in enumerate(proposals):
            own = pool.of_image(image)
            truth = pool.boxes[own]
            found = found[(found[:, 2:] - found[:, :2]).min(axis=1, initial=np.inf) >= config.minimum_side]
            both = np.concatenate([truth, found]).astype(np.float32)
            if not len(both):
                continue
            overlap = iou(both, truth) if len(truth) else np.zeros((len(both), 1))
            best = overlap.max(axis=1)
            label = np.full(len(both), -1, np.int32)
            label[(best < config.iou_background) & ~hidden(both, pool.unsure(image))] = num_classes
            covers = best >= config.iou_foreground
            label[covers] = pool.labels[own][overlap[covers].argmax(axis=1)] if len(truth) else num_classes
            kept = label >= 0
            boxes.append(both[kept])
            labels.append(label[kept])
            owner.append(np.full(int(kept.sum()), image, np.int32))
        label = np.concatenate(labels)
        foreground, background = np.flatnonzero(label < num_classes), np.flatnonzero(label == num_classes)
        if not len(foreground):
            raise UserError("the training data hold no usable object")
        if not len(background):
            raise UserError("no proposal of the training images is background; train with regions: drawn")
        return cls(np.concatenate(boxes), np.concatenate(owner), label, foreground, background)


class WindowBatches(CropBatches):
    """R-CNN's fine-tuning (tech report, section 2.3): a batch of 128 has 32 windows of objects and 96 of background.

    Foreground windows come once per epoch each (more or less often where classes are balanced); background windows are
    drawn at random from the whole set, not image by image.
    """

    def __init__(self, windows: Windows, pool: ImagePool, config: RegionTrainingConfig) -> None:
        super().__init__(pool, config, windows.labels[windows.foreground].astype(np.int64))
        self.windows = windows

    def draw(self, rng: np.random.Generator, step: int) -> Drawn:
        windows, start = self.windows, step * self.foreground
        foreground = windows.foreground[[self.order[start + i] for i in range(self.foreground)]]
        others = self.size - self.foreground
        chosen = np.concatenate([foreground, windows.background[rng.integers(len(windows.background), size=others)]])
        return Drawn(windows.owner[chosen].tolist(), list(windows.boxes[chosen]), windows.labels[chosen].tolist())
