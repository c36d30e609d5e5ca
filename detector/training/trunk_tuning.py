"""A short fine-tuning of a trunk on the regions of a data set, before its features are taken for good.

R-CNN fine-tunes its network before the machines are trained on its features (tech report, section 2.3). Here the net
learns two things at once, as Fast R-CNN's does: what a region shows (K + 1 classes), and where in it the object lies
(one box for all classes). Only the trunk is kept; classifier and regression are then fitted anew to its features.

A batch has objects, as perturbed copies of annotated boxes with an IoU of at least 0.5, and background among the
proposals of all images: near objects (IoU 0.1 to 0.5), far from them, and in the second part of the tuning those that
the net took for objects after the first (hard negatives: parts of objects, things that look like them).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from detector.crop import CropConfig, crop_regions
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_head import HeadShape
from detector.nets.region_net import RegionNet
from detector.nets.weights import Normalization, to_tensor
from detector.training.augment import AugmentConfig, distort
from detector.training.batches import make_ahead
from detector.training.pool import ImagePool
from detector.training.region_batch import RegionBatch, Shown
from detector.training.region_settings import LearningConfig
from detector.training.region_table import RegionTable
from detector.training.sampling import paired_iou, perturbed_boxes
from detector.training.schedule import ScheduleConfig
from proposals.boxes import encode

MINING_BATCH = 64


class TuningConfig(LearningConfig):
    """How a trunk is tuned; the base class has the settings of every region network.

    Attributes:
        foreground: share of a batch that shows objects. strength: objects are perturbed by up to this, see
            :func:`detector.training.sampling.perturbed_boxes`.
        balance: 0 draws objects alike, 1 classes alike; in between, by their number to the power -balance.
        near: share of the background that is near objects. mined: share that was mined; the rest is far from objects.
        first_part: share of the steps before mining; 0 mines nothing. first_scale: the side of the crops in that part,
            relative to the crops' own: smaller ones cost less and teach nearly the same.
        mine_regions: so many regions far from objects are looked at per image, drawn at random. mine_score: of these,
            hard ones have this probability of showing some object, or more.
        dropout: before the classifier. grid: cells a side that boxes are predicted from.
    """

    steps: int = Field(default=1000, ge=1)
    schedule: ScheduleConfig = ScheduleConfig(rate=0.04, warmup=0.05)
    batch_size: int = Field(default=64, ge=4)
    average: float = Field(default=0.99, ge=0, lt=1)
    statistics_batches: int = Field(default=0, ge=0)
    foreground: float = Field(default=0.35, gt=0, lt=1)
    strength: float = Field(default=0.6, gt=0, le=1)
    balance: float = Field(default=0.5, ge=0, le=1)
    near: float = Field(default=0.4, ge=0, le=1)
    mined: float = Field(default=0.4, ge=0, le=1)
    first_part: float = Field(default=0.3, ge=0, lt=1)
    first_scale: float = Field(default=2 / 3, gt=0, le=1)
    mine_regions: int = Field(default=60, ge=1)
    mine_score: float = Field(default=0.1, gt=0, lt=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    grid: int = Field(default=3, ge=1, le=14)
    augment: AugmentConfig = AugmentConfig(random_interpolation=False)


class TuningBatches:
    """Draws batches; each depends on the seed and the step alone.

    Args:
        table: of the pool's regions, from which the background comes. num_classes: K.
        mined: rows of hard negatives, or none yet.
    """

    def __init__(
        self,
        pool: ImagePool,
        table: RegionTable,
        num_classes: int,
        crop: CropConfig,
        fill: tuple[int, int, int],
        config: TuningConfig,
        mined: NDArray[np.int64] | None = None,
    ) -> None:
        self.pool, self.table, self.num_classes = pool, table, num_classes
        self.crop, self.fill, self.config = crop, fill, config
        counts = np.bincount(pool.labels, minlength=num_classes).astype(np.float64)
        odds = counts[pool.labels] ** -config.balance
        self.odds = odds / odds.sum()
        self.near = np.flatnonzero((table.overlap >= 0.1) & (table.overlap < 0.5))
        self.far = np.flatnonzero(table.overlap < 0.1)
        self.mined = np.zeros(0, np.int64) if mined is None else mined
        self.owner = np.repeat(np.arange(len(pool.images)), np.diff(table.first))
        self.foreground = max(1, round(config.batch_size * config.foreground))
        self.unreadable: dict[str, str] = {}

    @property
    def steps_per_epoch(self) -> float:
        """Batches with as many foreground regions as there are objects."""
        return len(self.pool.boxes) / self.foreground

    def stream(self, steps: Iterator[int], threads: int = 1) -> Iterator[RegionBatch]:
        """See :class:`detector.training.region_batch.RegionSource`."""
        return make_ahead(self.batch, steps, threads)

    def changed(
        self, config: TuningConfig, *, scale: float = 1.0, mined: NDArray[np.int64] | None = None
    ) -> TuningBatches:
        """The same for another ``config``, with crops (context too) ``scale`` times as wide, and hard negatives."""
        size = max(16, round(self.crop.size * scale))
        context = round(self.crop.context_pad * size / self.crop.size)
        crop = self.crop.model_copy(update={"size": size, "context_pad": context})
        return TuningBatches(self.pool, self.table, self.num_classes, crop, self.fill, config, mined)

    def batch(self, step: int) -> RegionBatch:
        """The batch of ``step``."""
        config, pool = self.config, self.pool
        rng = np.random.default_rng([config.seed, 4, step])
        objects = rng.choice(len(pool.boxes), self.foreground, p=self.odds)
        truth = pool.boxes[objects]
        shown = self._perturbed(rng, truth, pool.sizes[pool.owner[objects]])
        rows = self._background(rng, config.batch_size - self.foreground)
        boxes = np.concatenate([shown, self.table.boxes[rows]])
        images = np.concatenate([pool.owner[objects], self.owner[rows]]).tolist()
        labels = np.full(len(boxes), self.num_classes, np.int64)
        labels[: self.foreground] = pool.labels[objects]
        targets = np.zeros((len(boxes), 4), np.float32)
        targets[: self.foreground] = encode(shown.astype(np.float64), truth.astype(np.float64))
        mirror = rng.random(len(boxes)) < config.augment.mirror
        crops = np.empty((len(boxes), self.crop.size, self.crop.size, 3), np.uint8)
        for i, image in enumerate(images):
            crop_regions(pool.images[image], boxes[i : i + 1], self.crop, self.fill, out=crops[i : i + 1])
        crops[mirror] = crops[mirror][:, :, ::-1]
        targets[mirror, 0] *= -1
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return RegionBatch(
            distort(to_tensor(crops), config.augment, generator),
            torch.from_numpy(labels),
            [Shown(pool.name(image), box) for image, box in zip(images, boxes, strict=True)],
            deltas=torch.from_numpy(targets),
        )

    def _perturbed(
        self, rng: np.random.Generator, truth: NDArray[np.float32], sizes: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """A copy of each object, inside its image, that still overlaps it by half; the object itself if none was."""
        strength = rng.uniform(0, self.config.strength, (len(truth), 1)).astype(np.float32)
        moved = perturbed_boxes(rng, truth, strength)  # type: ignore[arg-type]
        limit = sizes[:, ::-1]
        moved = np.concatenate([np.clip(moved[:, :2], 0, limit), np.clip(moved[:, 2:], 0, limit)], axis=1)
        lost = paired_iou(moved, truth) < 0.5
        moved[lost] = truth[lost]
        return moved

    def _background(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Rows of the table: mined, near objects, and far from them; where there is no background at all, none.

        The share of a kind that there is none of goes to the others.
        """
        config = self.config
        kinds = {"mined": self.mined, "near": self.near, "far": self.far}
        shares = {"mined": config.mined, "near": config.near, "far": max(1 - config.mined - config.near, 0.01)}
        there = [name for name, rows in kinds.items() if len(rows)]
        if not there:
            return np.zeros(0, np.int64)
        odds = np.array([shares[name] for name in there]) + 1e-9
        counts = np.diff(np.round(np.cumsum(np.append(0, odds / odds.sum())) * count)).astype(int)
        chosen = [kinds[name][rng.integers(len(kinds[name]), size=n)] for name, n in zip(there, counts, strict=True)]
        return np.concatenate(chosen)


def tuned_net(trunk: GoogLeNetConfig, num_classes: int, config: TuningConfig) -> RegionNet:
    """The net that is tuned: the trunk, a classifier of K + 1 outputs, and one box for all classes."""
    return RegionNet(
        trunk, HeadShape(kind="softmax", grid=config.grid, shared=True), num_classes, dropout=config.dropout
    )


@torch.inference_mode()
def mine_background(
    net: RegionNet, normalization: Normalization, batches: TuningBatches, seed: int
) -> NDArray[np.int64]:
    """Rows of the regions far from objects that ``net`` takes for objects, ascending.

    ``net`` is in evaluation mode; it looks at some regions of each image, see :class:`TuningConfig`.
    """
    config, pool, table = batches.config, batches.pool, batches.table
    device = next(net.parameters()).device
    hard = []
    for image in range(len(pool.images)):
        part = table.of_image(image)
        far = np.flatnonzero(table.overlap[part] < 0.1) + part.start
        rng = np.random.default_rng([seed, 6, image])
        rows = np.sort(rng.choice(far, min(config.mine_regions, len(far)), replace=False))
        if not len(rows):
            continue
        crops = crop_regions(pool.images[image], table.boxes[rows], batches.crop, batches.fill)
        for start in range(0, len(rows), MINING_BATCH):
            some = slice(start, start + MINING_BATCH)
            logits = net(normalization(to_tensor(crops[some]).to(device))).classes
            shows = 1 - torch.softmax(logits.float(), 1)[:, -1].cpu().numpy()
            hard.append(rows[some][shows >= config.mine_score])
    return np.concatenate([np.zeros(0, np.int64), *hard])
