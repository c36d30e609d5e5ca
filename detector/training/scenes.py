"""Training pictures for MultiBox: whole pictures, crops of them, and mosaics that make scenes of several objects.

Glossary: a *view* is a part of a picture squashed into a rectangle of the training picture; a *mosaic* is the training
picture cut at random into rectangles, each with a view of its own. Boxes are relative to the training picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from detector.training.pool import ImagePool
from detector.training.sampling import googlenet_crops
from proposals.boxes import area, intersection

Boxes = NDArray[np.float32]
KERNELS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC)


class SceneConfig(BaseModel):
    """How training pictures are made.

    Attributes:
        whole, crop, mosaic: odds of the three kinds; they need not add up to 1.
        area: range of a crop's area relative to the picture. aspect: range of its width / height, relative to the
            picture's.
        pieces: range of the number of rectangles in a mosaic.
        cropped_piece: probability that a piece of a mosaic shows a crop of its picture.
        visible: an object counts in a crop if at least this share of its box is inside.
        minimum_side: objects with a side below this, relative to the training picture, do not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    whole: float = Field(default=0.25, ge=0)
    crop: float = Field(default=0.25, ge=0)
    mosaic: float = Field(default=0.5, ge=0)
    area: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    pieces: tuple[int, int] = (2, 9)
    cropped_piece: float = Field(default=0.5, ge=0, le=1)
    visible: float = Field(default=0.5, gt=0, le=1)
    minimum_side: float = Field(default=0.02, ge=0, lt=1)

    @model_validator(mode="after")
    def _ranges(self) -> SceneConfig:
        if self.whole + self.crop + self.mosaic <= 0:
            raise ValueError("whole, crop and mosaic must not all be 0")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area {self.area} must be a range in (0, 1]")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"aspect {self.aspect} must be a range above 0")
        if not 2 <= self.pieces[0] <= self.pieces[1] <= 64:
            raise ValueError(f"pieces {self.pieces} must be a range in 2 to 64")
        return self


class Scene(NamedTuple):
    """``picture`` (S, S, 3) uint8; ``boxes`` (M, 4) float32 relative to it."""

    picture: NDArray[np.uint8]
    boxes: Boxes


def make_scene(
    rng: np.random.Generator,
    pool: ImagePool,
    image: int,
    size: int,
    config: SceneConfig,
    *,
    random_interpolation: bool = True,
) -> Scene:
    """A training picture of ``size`` pixels that shows ``image`` of the pool, and others too if it is a mosaic.

    ``random_interpolation``: bilinear, area, nearest and cubic with equal odds; otherwise bilinear.
    """
    kernels = KERNELS if random_interpolation else KERNELS[:1]
    odds = np.array([config.whole, config.crop, config.mosaic])
    kind = int(rng.choice(3, p=odds / odds.sum()))
    picture = np.empty((size, size, 3), np.uint8)
    if kind < 2:
        boxes = put_view(rng, pool, image, picture, (0, 0, size, size), kind == 1, config, kernels)
        return _counted(picture, boxes, config)
    places = cut_rectangle(rng, size, int(rng.integers(config.pieces[0], config.pieces[1] + 1)))
    shown = rng.integers(len(pool.images), size=len(places))
    shown[rng.integers(len(places))] = image
    found = []
    for place, other in zip(places, shown.tolist(), strict=True):
        cropped = bool(rng.random() < config.cropped_piece)
        found.append(put_view(rng, pool, other, picture, place, cropped, config, kernels))
    return _counted(picture, np.concatenate(found), config)


def _counted(picture: NDArray[np.uint8], boxes: Boxes, config: SceneConfig) -> Scene:
    relative = boxes / np.float32(len(picture))
    sides = relative[:, 2:] - relative[:, :2]
    return Scene(picture, relative[(sides >= config.minimum_side).all(axis=1) & (sides > 0).all(axis=1)])


def cut_rectangle(rng: np.random.Generator, size: int, pieces: int) -> list[tuple[int, int, int, int]]:
    """A square of ``size`` pixels cut into rectangles ``x1 y1 x2 y2`` that tile it.

    Again and again one of them, with odds by area, is cut across its longer side, between a quarter and three quarters
    of it, so that the pieces differ in size and shape. There are ``pieces`` of them, or fewer where one whose turn it
    is has less than 16 pixels on a side.
    """
    parts = [(0, 0, size, size)]
    while len(parts) < pieces:
        areas = np.array([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in parts], np.float64)
        x1, y1, x2, y2 = parts.pop(int(rng.choice(len(parts), p=areas / areas.sum())))
        share = float(rng.uniform(0.25, 0.75))
        if max(x2 - x1, y2 - y1) < 16:
            return [*parts, (x1, y1, x2, y2)]
        if x2 - x1 >= y2 - y1:
            cut = x1 + round((x2 - x1) * share)
            parts += [(x1, y1, cut, y2), (cut, y1, x2, y2)]
        else:
            cut = y1 + round((y2 - y1) * share)
            parts += [(x1, y1, x2, cut), (x1, cut, x2, y2)]
    return parts


def put_view(
    rng: np.random.Generator,
    pool: ImagePool,
    image: int,
    picture: NDArray[np.uint8],
    place: tuple[int, int, int, int],
    cropped: bool,
    config: SceneConfig,
    kernels: Sequence[int],
) -> Boxes:
    """Squash ``image``, or a random crop of it, into ``place`` of ``picture``; its objects ``(M, 4)`` in pixels there.

    A crop that shows no object is drawn again, a few times. ``kernels``: OpenCV's interpolations, one is drawn.
    """
    source, truth = pool.images[image], pool.truth(image)
    height, width = source.shape[:2]
    window = np.array([0, 0, width, height])
    inside = np.ones(len(truth), np.bool_)
    for _ in range(4 if cropped else 0):
        # The aspect is relative to the picture's, so that a long picture is not cut to its middle.
        part = googlenet_crops(rng, np.ones((1, 2), np.float32), config.area, config.aspect)[0]
        window = np.round(part * [width, height, width, height]).astype(np.int64)
        window[2:] = np.maximum(window[2:], window[:2] + 1)
        window -= np.tile(np.maximum(window[2:] - [width, height], 0), 2)
        shared = intersection(truth, window[None].astype(np.float32))[:, 0]
        inside = shared >= config.visible * area(truth)
        if inside.any():
            break
    wx1, wy1, wx2, wy2 = window.tolist()
    x1, y1, x2, y2 = place
    kernel = kernels[int(rng.integers(len(kernels)))]
    if (wx2 - wx1) > 2 * (x2 - x1) or (wy2 - wy1) > 2 * (y2 - y1):
        kernel = cv2.INTER_AREA  # the others skip pixels
    picture[y1:y2, x1:x2] = cv2.resize(source[wy1:wy2, wx1:wx2], (x2 - x1, y2 - y1), interpolation=kernel)
    factor = np.array([(x2 - x1) / (wx2 - wx1), (y2 - y1) / (wy2 - wy1)] * 2, np.float32)
    boxes = (truth[inside] - np.array([wx1, wy1] * 2, np.float32)) * factor + np.array([x1, y1] * 2, np.float32)
    limit = np.array([x1, y1, x1, y1], np.float32), np.array([x2, y2, x2, y2], np.float32)
    return np.asarray(np.clip(boxes, *limit), np.float32)
