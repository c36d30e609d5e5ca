"""A proposal source that searches a resized copy of the image.

R-CNN resizes every ILSVRC image to a width of 500 pixels before selective search and maps the boxes back (R-CNN tech
report, section 4.2), because the search depends on scale. It also bounds the time that a large photograph takes, and
gives small pictures enough pixels for superpixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from proposals.boxes import clip, scale
from proposals.types import Proposals, ProposalSource


class ResizedSource:
    """Proposals of ``source`` on the image resized so that its longer side has ``side`` pixels, in original pixels.

    Args:
        source: any proposal source. side: at least 1.
    """

    def __init__(self, source: ProposalSource, side: int) -> None:
        if side < 1:
            raise ValueError(f"side must be at least 1, not {side}")
        self.source = source
        self.side = side

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        """Proposals for ``image`` ``(H, W, 3)`` uint8 RGB; boxes that fall together when mapped back stay once."""
        height, width = image.shape[:2]
        factor = self.side / max(height, width)
        if factor == 1:
            return self.source.propose(image)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        found = self.source.propose(cv2.resize(image, size, interpolation=interpolation))
        boxes = scale(found.boxes, height / size[1], width / size[0])
        boxes = clip(boxes, (height, width)).astype(np.float32)
        _, first = np.unique(boxes, axis=0, return_index=True)
        keep = np.sort(first)
        return Proposals(boxes[keep], found.scores[keep], found.source[keep], (height, width))
