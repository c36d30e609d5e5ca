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
from torch import Tensor

from detector.nets.region_net import SharedMaps, region_levels, resize_image
from detector.nets.weights import to_tensor
from detector.training.pool import ImagePool
from detector.training.region_batch import RegionBatch, Shown, apply_distortion, draw_distortion
from detector.training.region_settings import SharedTrainingConfig
from detector.training.sampling import hidden, label_regions, perturbed_boxes
from proposals.boxes import FloatArray, clip, flip_horizontal, iou, is_valid
from proposals.errors import UserError
from proposals.multibox import MultiBoxOutput, MultiBoxProposalConfig, ranked_boxes
from proposals.multibox_loss import UNSURE

Boxes = NDArray[np.float32]
CANVAS_STEP = 32  # canvas sides are multiples of it
TRIES = 20  # other images in the place of one that cannot be read any more
LEAST_SIDE = 4  # pixels of level 0
CANDIDATES_OF_A_BOX = 4  # of MultiBox: some lie on one another


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

        own = pool.of_image(number)
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
        candidates = candidates[is_valid(candidates) & (sides >= LEAST_SIDE).all(axis=1)]
        if len(lost):
            candidates = candidates[iou(candidates, lost).max(axis=1) < 0.3]
        shows_object = (iou(candidates, truth) >= 0.5).any(axis=1)
        candidates = candidates[shows_object | ~hidden(candidates, unsure)]
        boxes = candidates[self._choose(rng, candidates, truth)]
        named, deltas, overlap = label_regions(boxes, truth, labels, self.num_classes)
        original = flip_horizontal(boxes, size[1]) if mirror else boxes
        original = ((original - np.array([left, top] * 2)) / scale).astype(np.float32)
        return _Drawn(
            number, canvas, boxes.astype(np.float32), original, named, deltas, overlap, objects.astype(np.float32)
        )

    def _choose(self, rng: np.random.Generator, candidates: FloatArray, truth: FloatArray) -> NDArray[np.int64]:
        """Rows of the candidates to learn from."""
        config = self.config
        overlap = iou(candidates, truth).max(axis=1, initial=0)
        mixed = rng.permutation(len(candidates))
        kind = np.digitize(overlap[mixed], [0.1, 0.5])
        objects = mixed[kind == 2][: round(config.regions * config.foreground)]
        rest = config.regions - len(objects)
        near, far = mixed[kind == 1], mixed[kind == 0]
        some = near[: max(round(rest * config.near), rest - len(far))]
        return np.concatenate([objects, some, far[: rest - len(some)]])


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


class ProposedRegions:
    """Puts MultiBox's most confident boxes in the place of the last regions of each image, which are background.

    A classifier that has seen selective search's boxes alone takes MultiBox's, which lie on things and parts of things,
    for objects too often. Faster R-CNN (Ren et al., 2015, section 3.2) trains on the proposals of the network itself.

    Args:
        batch: on shared maps, with its objects. count: boxes of each image. num_classes: K. maps: how regions are
            pooled. :attr:`batch` is afterwards the batch with these regions.
    """

    def __init__(self, batch: RegionBatch, count: int, num_classes: int, maps: SharedMaps) -> None:
        self.batch, self.count, self.num_classes, self.maps = batch, count, num_classes, maps

    def __call__(self, output: MultiBoxOutput) -> tuple[Tensor, Tensor]:
        """The regions ``rois`` and ``level`` of the new batch, from what MultiBox says of its images."""
        old = self.batch
        assert old.rois is not None
        assert old.objects is not None
        size = (old.images.shape[2], old.images.shape[3])
        settings = MultiBoxProposalConfig(candidates=CANDIDATES_OF_A_BOX * self.count, keep=self.count)
        parts: list[tuple[Tensor, ...]] = []
        for number in range(len(old.images)):
            one = MultiBoxOutput(
                output.deltas[number : number + 1].detach(), output.logits[number : number + 1].detach(), output.priors
            )
            boxes = ranked_boxes(one, (1.0, 1.0), size, settings).boxes
            objects = old.objects[old.objects[:, 0] == number, 1:].numpy()
            found, cut = objects[objects[:, 4] == 1], objects[objects[:, 4] == 0, :4]
            boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=LEAST_SIDE) >= LEAST_SIDE]
            if len(cut):
                shows = (iou(boxes, found[:, :4]) >= 0.5).any(axis=1)
                boxes = boxes[(iou(boxes, cut).max(axis=1) < UNSURE) & (shows | ~hidden(boxes, cut))]
            rows = (old.rois[:, 0] == number).nonzero()[:, 0]
            kept = rows[: len(rows) - min(len(boxes), len(rows) // 2)]
            boxes = boxes[: len(rows) - len(kept)]
            labels, deltas, overlaps = label_regions(boxes, found[:, :4], found[:, 5], self.num_classes)
            rois = np.insert(boxes, 0, number, axis=1).astype(np.float32)
            own = (old.labels[kept], old.deltas[kept], old.overlaps[kept], old.rois[kept])
            added = (labels, deltas, overlaps, rois)
            parts.append(tuple(torch.cat([a, torch.from_numpy(b)]) for a, b in zip(own, added, strict=True)))
        named, moved, overlap, regions = (torch.cat(column) for column in zip(*parts, strict=True))
        level = torch.from_numpy(region_levels(regions[:, 1:].numpy(), self.maps))
        self.batch = old._replace(labels=named, deltas=moved, overlaps=overlap, rois=regions, level=level, shown=[])
        return regions.to(output.logits.device), level.to(output.logits.device)
