"""Batches of labelled crops; each depends on the seed and the step alone, so a resumed run sees the same ones."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.crop import INTERPOLATIONS, crop_regions
from detector.nets.weights import to_tensor
from detector.training.augment import apply_distortion, draw_distortion
from detector.training.order import EpochOrder, class_weights
from detector.training.pool import ImagePool
from detector.training.region_batch import UNREADABLE, RegionBatch, Shown
from detector.training.region_settings import RegionTrainingConfig
from detector.training.sampling import background_region, foreground_regions
from proposals.boxes import encode, iou
from proposals.errors import UserError

MOST_THREADS = 8
FEW_CORES = 4


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

    Attributes:
        size: crops in a batch, which several processes divide among them.
    """

    def __init__(self, pool: ImagePool, config: RegionTrainingConfig) -> None:
        self.pool, self.config, self.size, self.num_classes = pool, config, config.batch_size, config.num_classes
        self.foreground = max(1, round(self.size * config.sampling.foreground))
        self.unreadable: dict[str, str] = {}
        """What went wrong with each picture that could not be read since the run began, by the picture's id."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> float:
        """Batches in which the foreground is shown once."""

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
            own = slice(int(pool.first[drawn.images[i]]), int(pool.first[drawn.images[i] + 1]))
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
    """Regions drawn afresh around annotated objects; see :mod:`detector.training.sampling`.

    Every object is shown once per epoch (more or less often where classes are balanced), in an order that depends on
    the seed and the epoch.
    """

    def __init__(self, pool: ImagePool, config: RegionTrainingConfig) -> None:
        super().__init__(pool, config)
        self.order = EpochOrder(len(pool.boxes), config.seed, class_weights(pool.labels, config.sampling.balance))

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every object is shown once as foreground."""
        return self.order.length / self.foreground

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


def loader_threads(pool: ImagePool, device: torch.device) -> int:
    """Threads that make batches: more for a GPU, or where pictures must be read first.

    Beside a net that computes on all of a few cores there are none: for as long as such a thread runs, one of the
    net's own waits for a core, and the others for it.
    """
    if device.type == "cpu" and pool.in_memory:
        return int((os.cpu_count() or 1) > FEW_CORES)
    return max(1, min(MOST_THREADS, os.cpu_count() or 1))
