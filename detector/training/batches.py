"""Batches of labelled crops; each depends on the seed and the step alone, so a resumed run sees the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.crop import INTERPOLATIONS, CropConfig, crop_regions
from detector.nets.weights import to_tensor
from detector.sampling import SamplingConfig, background_region, foreground_regions
from detector.training.augment import AugmentConfig, distort
from detector.training.pool import ImagePool
from detector.training.scene_background import Scenes

Key = TypeVar("Key")
Item = TypeVar("Item")
PREFETCHED = 3  # batches made ahead by the worker thread


class Batch(NamedTuple):
    """Crops ``(B, 3, S, S)`` float32 0..255, channels last, and labels ``(B,)`` int64; background is K."""

    crops: Tensor
    labels: Tensor


class RegionBatches:
    """Draws batches from a pool of images.

    Every object is shown once per epoch, in an order that depends on the seed and the epoch.
    """

    def __init__(
        self,
        pool: ImagePool,
        num_classes: int,
        crop: CropConfig,
        fill: tuple[int, int, int],
        sampling: SamplingConfig,
        augment: AugmentConfig,
        batch_size: int,
        seed: int,
        scenes: Scenes | None = None,
    ) -> None:
        self.pool, self.num_classes, self.crop, self.fill, self.scenes = pool, num_classes, crop, fill, scenes
        self.sampling, self.augment, self.batch_size, self.seed = sampling, augment, batch_size, seed
        self.foreground = max(1, round(batch_size * sampling.foreground))
        self._orders: dict[int, NDArray[np.int64]] = {}

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every object is shown once as foreground."""
        return len(self.pool.boxes) / self.foreground

    def _object(self, position: int) -> int:
        epoch, place = divmod(position, len(self.pool.boxes))
        if epoch not in self._orders:
            order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.pool.boxes))
            self._orders = {e: o for e, o in self._orders.items() if e >= epoch - 1} | {epoch: order}
        return int(self._orders[epoch][place])

    def batch(self, step: int, size: int | None = None) -> Batch:
        """The batch of ``step`` with crops of ``size`` pixels (by default the crop's own; the context scales along)."""
        rng = np.random.default_rng([self.seed, 2, step])
        size = size or self.crop.size
        crop = self.crop.model_copy(
            update={"size": size, "context_pad": round(self.crop.context_pad * size / self.crop.size)}
        )
        start = step * self.foreground
        objects = np.array([self._object(start + i) for i in range(self.foreground)], np.int64)
        images = list(self.pool.owner[objects])
        truth = self.pool.boxes[objects]
        regions = list(foreground_regions(rng, truth, self.pool.sizes[images], self.sampling))
        labels = list(self.pool.labels[objects])
        background = self.batch_size - self.foreground
        from_scenes = 0 if self.scenes is None else round(background * self.sampling.scenes)
        while len(regions) < self.batch_size - from_scenes:
            region = None
            while region is None:  # most images have room for background; one that has none is passed over
                image = int(rng.integers(len(self.pool.images)))
                height, width = self.pool.sizes[image]
                region = background_region(rng, self.pool.truth(image), (int(height), int(width)), self.sampling)
            images.append(image)
            regions.append(region[0])
            labels.append(self.num_classes)

        crops = np.empty((self.batch_size, size, size, 3), np.uint8)
        mirror = rng.random(self.batch_size) < self.augment.mirror
        kinds = rng.integers(len(INTERPOLATIONS), size=self.batch_size)
        for i, (image, region) in enumerate(zip(images, regions, strict=True)):
            kind = [INTERPOLATIONS[kinds[i]]] if self.augment.random_interpolation else None
            place = crops[i : i + 1]
            crop_regions(self.pool.images[image], region[None], crop, self.fill, interpolations=kind, out=place)
        if self.scenes is not None and from_scenes:
            labels += [self.num_classes] * from_scenes
            looks = truth[rng.integers(len(truth), size=from_scenes)]
            crops[len(regions) :] = self.scenes.crops(rng, looks[:, 2:] - looks[:, :2], crop, self.fill)
        crops[mirror] = crops[mirror, :, ::-1]
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        tensor = distort(to_tensor(crops), self.augment, generator)
        return Batch(tensor, torch.from_numpy(np.array(labels, np.int64)))

    def stream(self, steps: Iterator[tuple[int, int]]) -> Iterator[Batch]:
        """Batches for ``(step, crop size)`` pairs, made ahead in one thread while the net computes."""
        return make_ahead(lambda pair: self.batch(*pair), steps)


def make_ahead(make: Callable[[Key], Item], keys: Iterator[Key]) -> Iterator[Item]:
    """``make(key)`` for every key in turn, made ahead in one thread while the net computes."""
    with ThreadPoolExecutor(1) as executor:
        waiting: list[Future[Item]] = []
        for key in keys:
            waiting.append(executor.submit(make, key))
            if len(waiting) > PREFETCHED:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
