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

from detector.crop import CropConfig, crop_regions
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
            raise UserError("the background pictures hold no region without objects")
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

    def crop(
        self, drawn: SceneRegion, side: NDArray[np.float32], crop: CropConfig, fill: tuple[int, int, int]
    ) -> NDArray[np.uint8]:
        """The crop ``(S, S, 3)`` uint8 of a region.

        Args:
            side: ``(2,)``, width and height in pixels of an object of the training pictures. The crop is first shrunk
                to such a size where it is larger: or else background would be known by its sharpness alone.
        """
        out: NDArray[np.uint8] = crop_regions(self.pool.images[drawn.image], drawn.box[None], crop, fill)[0]
        width, height = (min(int(s), crop.size) for s in np.maximum(4, np.round(side)))
        if min(width, height) < crop.size:
            small = cv2.resize(out, (width, height), interpolation=cv2.INTER_AREA)
            cv2.resize(small, (crop.size, crop.size), out, interpolation=cv2.INTER_LINEAR)
        return out

    def crops(
        self, rng: np.random.Generator, sides: NDArray[np.float32], crop: CropConfig, fill: tuple[int, int, int]
    ) -> NDArray[np.uint8]:
        """Crops ``(N, S, S, 3)`` uint8 of random regions, one for each of ``sides`` ``(N, 2)``."""
        drawn = self.draw(rng, len(sides))
        return np.stack([self.crop(region, side, crop, fill) for region, side in zip(drawn, sides, strict=True)])
