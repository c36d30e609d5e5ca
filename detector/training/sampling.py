"""Which regions a classifier is trained on, foreground and background around annotated objects, and in which order.

A region's label is that of the object it overlaps most if their IoU is at least ``iou_foreground``, and background
below ``iou_background`` (R-CNN tech report, section 2.3). Regions are drawn afresh for every batch, in two ways: as
GoogLeNet's training crops (area uniform between 8 % and 100 % of the image, aspect 3/4 to 4/3; section 6 of that
paper), and as perturbed copies of the annotated boxes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from proposals.boxes import FloatArray, area, clip, encode, intersection, iou, paired_iou

Boxes = NDArray[np.float32]
FOREGROUND_TRIES, BACKGROUND_TRIES = 12, 20


class BalanceConfig(BaseModel):
    """Whether rare classes are shown more often than they occur.

    Attributes:
        kind: "none" shows every object once per epoch; "repeat" those of rare classes more often, by the square root
            of how much they lack to ``share`` of all objects; "uniform" all classes equally often.
        share: see "repeat".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none", "repeat", "uniform"] = "none"
    share: float = Field(default=0.001, gt=0, lt=1)


class SamplingConfig(BaseModel):
    """How a batch is composed.

    Attributes:
        foreground: share of a batch that shows objects (R-CNN: 0.25, for 20 classes).
        perturbed: share of the foreground drawn as perturbed annotated boxes; the rest are GoogLeNet's crops.
        iou_foreground: least IoU of a foreground region with its object.
        iou_background: background regions stay below it with every object of the image.
        area: range of a GoogLeNet crop's area, relative to the image. aspect: range of its width / height.
        minimum_side: background regions are at least so many pixels wide and high.
        balance: of the classes in the foreground.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    foreground: float = Field(default=0.75, gt=0, le=1)
    perturbed: float = Field(default=0.5, ge=0, le=1)
    iou_foreground: float = Field(default=0.5, gt=0, le=1)
    iou_background: float = Field(default=0.5, gt=0, le=1)
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    minimum_side: float = Field(default=8, ge=1)
    balance: BalanceConfig = BalanceConfig()


def hidden(boxes: FloatArray, ignored: FloatArray) -> NDArray[np.bool_]:
    """Of ``boxes`` ``(N, 4)`` those of whose area at least half lies in one of the ``ignored`` ``(J, 4)`` objects."""
    if not len(ignored):
        return np.zeros(len(boxes), np.bool_)
    shares = intersection(boxes, ignored).max(axis=1) / np.maximum(area(boxes), 1e-9)
    return np.asarray(shares >= 0.5)


def label_regions(
    boxes: FloatArray, truth: FloatArray, labels: NDArray[np.generic], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Of ``boxes`` ``(R, 4)`` the labels, those of the objects ``truth`` ``(N, 4)`` that they show, or K.

    Also ``(R, 4)`` tx ty tw th from each to its object, 0 for background, and ``(R,)`` its IoU with the nearest object.
    """
    named = np.full(len(boxes), num_classes, np.int64)
    deltas, overlap = np.zeros((len(boxes), 4), np.float32), np.zeros(len(boxes), np.float32)
    if len(truth):
        table = iou(boxes, truth)
        best, overlap = table.argmax(axis=1), table.max(axis=1).astype(np.float32)
        shows = table.max(axis=1) >= 0.5
        named[shows] = labels[best[shows]]
        deltas[shows] = encode(boxes[shows], truth[best[shows]])
    return named, deltas, overlap


def googlenet_crops(
    rng: np.random.Generator, sizes: NDArray[np.float32], area: tuple[float, float], aspect: tuple[float, float]
) -> Boxes:
    """One random crop per image: ``(N, 4)`` for ``sizes`` ``(N, 2)`` (height, width).

    Area and log aspect are uniform; sides are cut to the image's, and the place is uniform.
    """
    n = len(sizes)
    pixels = rng.uniform(*area, n) * sizes[:, 0] * sizes[:, 1]
    ratio = np.exp(rng.uniform(np.log(aspect[0]), np.log(aspect[1]), n))
    side = np.stack([np.sqrt(pixels * ratio), np.sqrt(pixels / ratio)], axis=1)  # width, height
    side = np.minimum(side, sizes[:, ::-1])
    corner = rng.uniform(0, 1, (n, 2)) * (sizes[:, ::-1] - side)
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def perturbed_boxes(rng: np.random.Generator, boxes: Boxes, strength: float) -> Boxes:
    """Each box ``(N, 4)`` with its centre moved and its sides stretched at random, by up to ``strength``."""
    n, side = len(boxes), boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + side / 2 + rng.uniform(-0.5, 0.5, (n, 2)) * strength * side
    half = side / 2 * np.exp(rng.uniform(-0.7, 0.7, (n, 2)) * strength)
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def foreground_regions(
    rng: np.random.Generator, truth: Boxes, sizes: NDArray[np.float32], config: SamplingConfig
) -> Boxes:
    """A region ``(N, 4)`` for each object of ``truth`` ``(N, 4)`` in images of ``sizes`` ``(N, 2)`` (height, width).

    Each has an IoU of at least ``iou_foreground`` with its object; the annotated box itself where no try succeeded.
    """
    regions = truth.copy()
    open_ = np.ones(len(truth), np.bool_)
    perturb = rng.random(len(truth)) < config.perturbed
    for attempt in range(FOREGROUND_TRIES):
        where = np.flatnonzero(open_)
        if not len(where):
            break
        strength = rng.uniform(0.0, 0.8, (len(where), 1)).astype(np.float32)
        candidates = googlenet_crops(rng, sizes[where], config.area, config.aspect)
        # An object far from square or small has no GoogLeNet crop on it: after half of the tries perturb it instead.
        use = perturb[where] | (attempt >= FOREGROUND_TRIES // 2)
        moved = perturbed_boxes(rng, truth[where], strength)  # type: ignore[arg-type]
        limit = np.concatenate([np.zeros_like(sizes[where]), sizes[where][:, ::-1]], axis=1)
        moved = np.concatenate([np.maximum(moved[:, :2], limit[:, :2]), np.minimum(moved[:, 2:], limit[:, 2:])], axis=1)
        candidates[use] = moved[use]
        good = paired_iou(candidates, truth[where]) >= config.iou_foreground
        regions[where[good]] = candidates[good]
        open_[where[good]] = False
    return regions


def background_region(
    rng: np.random.Generator, truth: Boxes, image_size: tuple[int, int], config: SamplingConfig
) -> Boxes | None:
    """One region ``(1, 4)`` of an image that overlaps none of its objects ``(N, 4)`` by ``iou_background`` or more.

    Half are GoogLeNet crops, half lie near an object. ``None`` when every try failed, as where one fills the image.
    """
    size = np.array([image_size], np.float32)
    for _ in range(BACKGROUND_TRIES):
        if len(truth) and rng.random() < 0.5:
            region = perturbed_boxes(rng, truth[rng.integers(len(truth))][None], float(rng.uniform(1.0, 2.5)))
            region = clip(region, image_size).astype(np.float32)
        else:
            region = googlenet_crops(rng, size, config.area, config.aspect)
        sides = region[0, 2:] - region[0, :2]
        small = min(config.minimum_side, *image_size)
        if sides.min() >= small and (not len(truth) or iou(region, truth).max() < config.iou_background):
            return region
    return None


def class_weights(labels: NDArray[np.int64], config: BalanceConfig) -> NDArray[np.float64] | None:
    """How often each of N things of class ``labels`` ``(N,)`` is shown per epoch; ``None`` for once each.

    "repeat": max(1, sqrt(share / f)) for a class that has the share f of them (LVIS, Gupta et al. 2019,
    there by images). "uniform": all classes equally often, with N shown in all.
    """
    if config.kind == "none" or not len(labels):
        return None
    counts = np.bincount(labels)
    shares = np.maximum(counts, 1) / len(labels)
    if config.kind == "repeat":
        weights = np.maximum(1.0, np.sqrt(config.share / shares))
    else:
        weights = 1.0 / (shares * np.count_nonzero(counts))
    return np.asarray(weights[labels], np.float64)


class EpochOrder:
    """An endless order of ``n`` things that depends on the seed alone; each epoch has its own.

    Args:
        weights: ``(n,)``, how often each is shown per epoch; a fraction is rounded up in some epochs and down in
            others. ``None``: once each.
    """

    def __init__(self, n: int, seed: int, weights: NDArray[np.float64] | None = None) -> None:
        self.seed, self.n = seed, n
        self._edges = None if weights is None else np.cumsum(weights)
        self.length = n if self._edges is None else max(1, round(float(self._edges[-1])))
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def __getitem__(self, position: int) -> int:
        """The thing at ``position``, counted from the first epoch's beginning."""
        epoch, place = divmod(position, self.length)
        order = self._epochs.get(epoch)
        if order is None:
            order = self._epoch(epoch)
            # Loader threads may be an epoch apart; the dictionary is replaced, never changed, under their hands.
            self._epochs = {e: o for e, o in self._epochs.items() if e >= epoch - 1} | {epoch: order}
        return int(order[place])

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, 1, epoch])
        if self._edges is None:
            return rng.permutation(self.n)
        # Points in even steps along the weights in a row: each thing is met floor or ceil of its weight times.
        points = (np.arange(self.length) + rng.random()) * (self._edges[-1] / self.length)
        picked = np.minimum(np.searchsorted(self._edges, points, side="right"), self.n - 1)
        return rng.permutation(picked.astype(np.int64))
