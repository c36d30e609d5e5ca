"""Batches for a region network on shared maps: a few whole images, and regions of each.

An image is mirrored or not, resized by a random factor and laid on a canvas that all images of the batch share: larger
ones are cut, smaller ones leave a border of the mean colour. Its regions are its proposals and perturbed copies of its
objects; they are labelled as R-CNN's (tech report, section 2.3), and no background is taken from ignored objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_net import SharedMaps, region_levels, resize_image
from detector.nets.weights import to_tensor
from detector.training.augment import AugmentConfig, apply_distortion, draw_distortion
from detector.training.pool import ImagePool
from detector.training.region_batch import RegionBatch, Shown
from detector.training.region_settings import LearningConfig
from detector.training.sampling import hidden, perturbed_boxes
from detector.training.schedule import ScheduleConfig
from proposals.boxes import FloatArray, clip, encode, flip_horizontal, iou, is_valid
from proposals.errors import UserError
from proposals.multibox import MultiBoxConfig

Boxes = NDArray[np.float32]
CANVAS_STEP = 32  # canvas sides are multiples of it
TRIES = 20  # other images in the place of one that cannot be read any more


class SharedTrainingConfig(LearningConfig):
    """How a region network on shared maps is trained; the base class has the settings of every region network.

    Attributes:
        batch_size: regions in a batch, of ``batch_size / regions`` images.
        net, maps: the trunk, and how regions are pooled. grid: cells a side that boxes and overlaps are predicted
            from.
        regions: of each image in a batch. foreground: at most so large a share of them shows objects. near: share of
            the rest with an IoU from 0.1 on.
        copies: perturbed copies of each object among the regions to draw from; see
            :func:`detector.training.sampling.perturbed_boxes` for ``strength``, up to which each is perturbed.
        zoom: range of the random factor of an image's size. visible: an object of which a smaller share than this
            is left on the canvas is neither object nor background.
        balance: images are drawn by the rarest of their classes: 0 all alike, 1 as if classes were equally frequent.
        dropout: before the classifier.
        frozen: whether the layers up to Inception 3b keep their weights and normalisation statistics, as Fast R-CNN
            keeps its first layers (section 4.5): they cost a third of a step.
        multibox: the head that learns to propose from the same maps; ``None`` for none. proposed: share of an image's
            regions that are its boxes; see :mod:`detector.training.proposed_regions`. only_multibox: nothing else
            learns.
    """

    batch_size: int = Field(default=256, ge=2)
    schedule: ScheduleConfig = ScheduleConfig(rate=0.015, warmup=0.02)
    net: GoogLeNetConfig
    maps: SharedMaps = SharedMaps()
    grid: int = Field(default=3, ge=1, le=14)
    regions: int = Field(default=64, ge=2)
    foreground: float = Field(default=0.375, gt=0, lt=1)
    near: float = Field(default=0.6, ge=0, le=1)
    copies: int = Field(default=6, ge=0)
    strength: float = Field(default=0.5, gt=0, le=1)
    zoom: tuple[float, float] = (0.75, 1.4)
    visible: float = Field(default=0.5, gt=0, le=1)
    balance: float = Field(default=0.5, ge=0, le=1)
    head_rate: float = Field(default=3.0, gt=0)
    clip: float | None = Field(default=10.0, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    frozen: bool = False
    multibox: MultiBoxConfig | None = None
    proposed: float = Field(default=0.33, ge=0, le=0.5)
    only_multibox: bool = False
    statistics_batches: int = Field(default=50, ge=0)
    augment: AugmentConfig = AugmentConfig(random_interpolation=False)

    @model_validator(mode="after")
    def _something_learns(self) -> SharedTrainingConfig:
        if self.only_multibox and self.multibox is None:
            raise ValueError("only_multibox needs multibox: what learns then?")
        return self

    @property
    def images(self) -> int:
        """Images in a batch."""
        return max(1, self.batch_size // self.regions)

    @property
    def box_divisor(self) -> float:
        """See the base class: the objects of a full batch weigh as 4 of Fast R-CNN's."""
        return 4 * self.foreground


class _Drawn(NamedTuple):
    """One image, by its number, on its canvas, and its regions: there, and in the image itself."""

    number: int
    canvas: NDArray[np.uint8]
    boxes: Boxes
    original: Boxes
    labels: NDArray[np.int64]
    deltas: NDArray[np.float32]
    overlaps: NDArray[np.float32]
    objects: NDArray[np.float32]
    """``(T, 6)``: where they are on the canvas; 1, or 0 for ignored ones and where too little is left; the label."""


class SharedBatches:
    """Draws batches; each depends on the seed and the step alone.

    Args:
        pool: the images. proposals: of each image ``(P, 4)``. num_classes: K. :attr:`size` is the number of images in a
            batch, which several processes divide among them.
    """

    def __init__(
        self, pool: ImagePool, proposals: Sequence[Boxes], num_classes: int, config: SharedTrainingConfig
    ) -> None:
        if len(proposals) != len(pool.images):
            raise ValueError(f"{len(pool.images)} images, proposals of {len(proposals)}")
        self.pool, self.proposals, self.num_classes = pool, proposals, num_classes
        self.config, self.size = config, config.images
        self.unreadable: dict[str, str] = {}
        """What went wrong with each picture that could not be read since the run began, by the picture's id."""
        tall = pool.sizes[:, 0] > pool.sizes[:, 1]
        odds = image_odds(pool, num_classes, config.balance)
        self.shapes = [  # images that are as high as wide go with the wide ones
            (rows, odds[rows] / odds[rows].sum(), canvas_size(pool.sizes[rows], config.maps))
            for rows in (np.flatnonzero(~tall), np.flatnonzero(tall))
            if len(rows)
        ]
        self.share = np.array([odds[rows].sum() for rows, _, _ in self.shapes])
        self.share /= self.share.sum()

    @property
    def steps_per_epoch(self) -> float:
        """Batches with as many images as there are."""
        return len(self.pool.images) / self.size

    def batch(self, step: int, part: slice | None = None) -> RegionBatch:
        """The batch of ``step``, or the images ``part`` of it."""
        config = self.config
        rng = np.random.default_rng([config.seed, 7, step])
        rows, odds, canvas = self.shapes[rng.choice(len(self.shapes), p=self.share)]
        numbers = rng.choice(rows, self.size, p=odds)
        seeds = rng.integers(2**62, size=self.size)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        amounts = draw_distortion(self.size, config.augment, generator)
        mine = part or slice(0, self.size)
        drawn = [
            self._draw(np.random.default_rng(int(seed)), int(number), rows, canvas)
            for number, seed in zip(numbers[mine], seeds[mine], strict=True)
        ]
        images = apply_distortion(to_tensor(np.stack([one.canvas for one in drawn])), amounts.part(mine))
        boxes = np.concatenate([one.boxes for one in drawn])
        owner = np.repeat(np.arange(len(drawn)), [len(one.boxes) for one in drawn]).astype(np.float32)
        objects = [np.insert(one.objects, 0, number, axis=1) for number, one in enumerate(drawn)]
        names = [self.pool.name(one.number) for one in drawn]
        return RegionBatch(
            images,
            torch.from_numpy(np.concatenate([one.labels for one in drawn])),
            [Shown(name, box) for name, one in zip(names, drawn, strict=True) for box in one.original],
            deltas=torch.from_numpy(np.concatenate([one.deltas for one in drawn])),
            overlaps=torch.from_numpy(np.concatenate([one.overlaps for one in drawn])),
            rois=torch.from_numpy(np.concatenate([owner[:, None], boxes], axis=1)),
            level=torch.from_numpy(region_levels(boxes, config.maps)),
            objects=torch.from_numpy(np.concatenate(objects)),
        )

    def _read(self, rng: np.random.Generator, number: int, among: NDArray[np.int64]) -> tuple[int, NDArray[np.uint8]]:
        """Image ``number``, or another of ``among`` if it has become unreadable; and its number."""
        for _ in range(TRIES):
            try:
                return number, self.pool.images[number]
            except UserError as fault:
                self.unreadable[self.pool.name(number)] = str(fault)
                number = int(rng.choice(among))
        return number, self.pool.images[number]

    def _draw(self, rng: np.random.Generator, number: int, among: NDArray[np.int64], size: tuple[int, int]) -> _Drawn:
        """Image ``number``, or else one of ``among``, on a canvas of ``size`` (height, width), with regions."""
        config, pool = self.config, self.pool
        number, image = self._read(rng, number, among)
        height, width = image.shape[:2]
        factor = config.maps.image_side / max(height, width) * np.exp(rng.uniform(*np.log(config.zoom)))
        new = (max(1, round(height * factor)), max(1, round(width * factor)))
        room = rng.uniform(0, 1, 2) * (np.array(size) - new)
        top, left = (int(np.round(x)) for x in room)
        mirror = rng.random() < config.augment.mirror
        canvas = np.empty((*size, 3), np.uint8)
        canvas[:] = np.array(config.normalization.fill, np.uint8)
        shown = resize_image(image, new)
        rows, columns = slice(max(top, 0), min(top + new[0], size[0])), slice(max(left, 0), min(left + new[1], size[1]))
        canvas[rows, columns] = shown[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        if mirror:
            canvas = np.ascontiguousarray(canvas[:, ::-1])
        scale = np.array([new[1] / width, new[0] / height] * 2)

        def place(boxes: Boxes) -> NDArray[np.float64]:
            placed = boxes.astype(np.float64) * scale + np.array([left, top] * 2)
            return np.asarray(flip_horizontal(placed, size[1]) if mirror else placed, np.float64)

        own = slice(int(pool.first[number]), int(pool.first[number + 1]))
        whole = place(pool.boxes[own])
        left_of = clip(whole, size)
        area = np.maximum((whole[:, 2:] - whole[:, :2]).prod(axis=1), 1e-9)
        seen = (left_of[:, 2:] - left_of[:, :2]).prod(axis=1) / area
        found, cut = seen >= config.visible, (seen < config.visible) & (seen > 0)
        truth, labels, lost = left_of[found], pool.labels[own][found], left_of[cut]
        unsure = clip(place(pool.unsure(number)), size)
        unsure = unsure[is_valid(unsure)]
        objects = np.concatenate([left_of, found[:, None], pool.labels[own][:, None]], axis=1)[found | cut]
        objects = np.concatenate([objects, np.pad(unsure, ((0, 0), (0, 2)))])
        candidates = clip(place(self.proposals[number]), size)
        if len(truth) and config.copies:
            again = np.repeat(truth, config.copies, axis=0)
            amount = rng.uniform(0, config.strength, (len(again), 1))
            candidates = np.concatenate([candidates, truth, clip(perturbed_boxes(rng, again, amount), size)])  # type: ignore[arg-type]
        sides = candidates[:, 2:] - candidates[:, :2]
        candidates = candidates[is_valid(candidates) & (sides >= 4).all(axis=1)]
        if len(lost):
            candidates = candidates[iou(candidates, lost).max(axis=1) < 0.3]
        shows_object = (iou(candidates, truth) >= 0.5).any(axis=1)
        candidates = candidates[shows_object | ~hidden(candidates, unsure)]
        chosen, best, overlap = self._choose(rng, candidates, truth)
        boxes = candidates[chosen]
        shows = overlap >= 0.5
        named = np.full(len(boxes), self.num_classes, np.int64)
        deltas = np.zeros((len(boxes), 4), np.float32)
        if shows.any():
            named[shows] = labels[best[shows]]
            deltas[shows] = encode(boxes[shows], truth[best[shows]])
        original = flip_horizontal(boxes, size[1]) if mirror else boxes
        original = ((original - np.array([left, top] * 2)) / scale).astype(np.float32)
        return _Drawn(
            number, canvas, boxes.astype(np.float32), original, named, deltas, overlap.astype(np.float32),
            objects.astype(np.float32),
        )  # fmt: skip

    def _choose(
        self, rng: np.random.Generator, candidates: FloatArray, truth: FloatArray
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
        """Rows of the candidates to learn from, and the object that each overlaps most, with its IoU."""
        config = self.config
        table = iou(candidates, truth) if len(truth) else np.zeros((len(candidates), 1))
        best, overlap = table.argmax(axis=1), table.max(axis=1)
        mixed = rng.permutation(len(candidates))
        kind = np.digitize(overlap[mixed], [0.1, 0.5])
        objects = mixed[kind == 2][: round(config.regions * config.foreground)]
        rest = config.regions - len(objects)
        near, far = mixed[kind == 1], mixed[kind == 0]
        some = near[: max(round(rest * config.near), rest - len(far))]
        chosen = np.concatenate([objects, some, far[: rest - len(some)]])
        return chosen, best[chosen], overlap[chosen]


def image_odds(pool: ImagePool, num_classes: int, balance: float) -> NDArray[np.float64]:
    """How often each image ``(M,)`` is drawn, sum 1: by the rarest class in it; one without objects as the mean."""
    pairs = np.unique(np.stack([pool.owner, pool.labels]), axis=1)
    images_of = np.bincount(pairs[1], minlength=num_classes).astype(np.float64)
    odds = np.zeros(len(pool.images))
    np.maximum.at(odds, pairs[0], np.maximum(images_of[pairs[1]], 1) ** -balance)
    odds[odds == 0] = odds[odds > 0].mean() if (odds > 0).any() else 1.0
    return np.asarray(odds / odds.sum(), np.float64)


def canvas_size(sizes: NDArray[np.float32], config: SharedMaps) -> tuple[int, int]:
    """(height, width) of the canvas for images of ``sizes`` ``(M, 2)``: the longer side, and the median shorter one."""
    longest = sizes.max(axis=1, keepdims=True)
    shape = np.median(sizes / longest, axis=0) * config.image_side
    height, width = (int(CANVAS_STEP * max(1, np.ceil(side / CANVAS_STEP))) for side in shape)
    return height, width
