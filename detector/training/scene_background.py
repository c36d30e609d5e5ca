"""Background from photographs of scenes: proposals there that cover nothing annotated.

Close-ups, as a classification set has them, hold little that looks like the small regions of a scene, which a detector
sees most. The regions are selective search's own, so that the classifier learns on what it will be asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.training.pool import ImagePool
from proposals import selective_search
from proposals.boxes import iou
from proposals.errors import UserError


class SceneRegion(NamedTuple):
    """A region ``box`` ``(4,)`` of the photograph number ``image`` of the pool."""

    image: int
    box: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """Regions of photographs that are background.

    Attributes:
        pool: the photographs. boxes: ``(R, 4)`` float32, the regions. owner: ``(R,)`` int64, each one's photograph.
    """

    pool: ImagePool
    boxes: NDArray[np.float32]
    owner: NDArray[np.int64]

    @classmethod
    def search(cls, pool: ImagePool, iou_background: float, minimum_side: float) -> Scenes:
        """Selective search (the ``googlenet`` preset) on every photograph of ``pool``.

        Kept are regions whose IoU with every object stays below ``iou_background`` and whose sides are at least
        ``minimum_side`` pixels.

        Raises:
            UserError: none is left.
        """
        boxes, owner = [np.zeros((0, 4), np.float32)], []
        for index, image in enumerate(pool.images):
            found = selective_search(image, "googlenet").boxes
            truth = pool.truth(index)
            free = iou(found, truth).max(axis=1, initial=0.0) < iou_background
            found = found[free & ((found[:, 2:] - found[:, :2]).min(axis=1) >= minimum_side)]
            boxes.append(found)
            owner += [index] * len(found)
        if not owner:
            raise UserError("the background images hold no region without objects")
        return cls(pool, np.concatenate(boxes), np.array(owner, np.int64))

    def draw(self, rng: np.random.Generator, count: int) -> list[SceneRegion]:
        """``count`` random regions, a photograph first and then a region of it."""
        starts = np.searchsorted(self.owner, np.arange(len(self.pool.images) + 1))
        filled = np.flatnonzero(np.diff(starts))
        drawn = []
        for _ in range(count):
            image = int(rng.choice(filled))
            drawn.append(SceneRegion(image, self.boxes[int(rng.integers(starts[image], starts[image + 1]))]))
        return drawn

    def picture(
        self, drawn: SceneRegion, look: NDArray[np.float32], size: tuple[int, int], quality: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """A picture as those of the training data that shows the region where one of theirs shows an object.

        Were the crop cut from the photograph itself, background would be known by its sharpness, by its compression or
        by never reaching the picture's edge, and every region of a photograph would then be background.

        Args:
            look: ``(4,)``, a region of a training picture of ``size`` (height, width), whose place and number of pixels
                the drawn region takes as nearly as the photograph's edges allow. quality: of JPEG's compression.

        Returns:
            ``(height, width, 3)`` uint8, and the region's box ``(4,)`` in it.
        """
        photograph, (height, width) = self.pool.images[drawn.image], size
        start, end = np.empty(2), np.empty(2)
        for axis, (pixels, room) in enumerate(((width, photograph.shape[1]), (height, photograph.shape[0]))):
            low, high = float(look[axis]), float(look[axis + 2])
            scale = float(drawn.box[axis + 2] - drawn.box[axis]) / max(high - low, 1.0)
            length = min(pixels * scale, float(room))
            first = min(max(float(drawn.box[axis]) - low * scale, 0.0), room - length)
            start[axis] = np.floor(first)
            end[axis] = min(max(np.ceil(first + length), start[axis] + 1), room)
        window = photograph[int(start[1]) : int(end[1]), int(start[0]) : int(end[0])]
        shrinks = window.shape[0] >= height and window.shape[1] >= width
        kernel = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        shown = cv2.resize(window, (width, height), interpolation=kernel)
        _, data = cv2.imencode(".jpg", shown[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None  # encoded a line above
        picture = np.ascontiguousarray(decoded[:, :, ::-1], np.uint8)
        factor = np.array([width, height], np.float64) / (end - start)
        box = (drawn.box.astype(np.float64) - np.tile(start, 2)) * np.tile(factor, 2)
        limits = np.tile(np.array([width, height], np.float64), 2)
        return picture, np.clip(box, 0, limits).astype(np.float32)
