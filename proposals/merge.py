"""Two sources of proposals as one: the union without duplicates, in an order whose every beginning is a good set.

GoogLeNet's entry (Going Deeper with Convolutions, section 8) joined selective search on doubled superpixels with 200
MultiBox boxes. The paper does not say in which order; that matters as soon as only the first boxes are classified.
Here the sources take turns: among the first n boxes of the union (before duplicates are dropped) are the best
``share * n`` of MultiBox and the best ``(1 - share) * n`` of selective search, after ``lead`` boxes of MultiBox alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from proposals.boxes import nms
from proposals.types import Proposals


class Budget(BaseModel):
    """The best so many boxes of each source are taken; ``None`` for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    selective_search: int | None = Field(default=None, ge=0)
    multibox: int | None = Field(default=200, ge=0)


class MergeConfig(BaseModel):
    """How two sources become one.

    Attributes:
        budget: the best so many of each source.
        iou_threshold: of two boxes with a greater IoU the later one is a duplicate; 1 drops equal boxes only.
        lead: so many boxes of MultiBox come first. share: of MultiBox among the boxes that follow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: Budget = Budget()
    iou_threshold: float = Field(default=0.9, gt=0, le=1)
    lead: int = Field(default=0, ge=0)
    share: float = Field(default=0.5, gt=0, lt=1)


def merge(selective_search: Proposals, multibox: Proposals, config: MergeConfig | None = None) -> Proposals:
    """The union of both sources' best boxes, each with its own ``source`` and score; scores do not compare across.

    Args:
        selective_search, multibox: of the same image, best first.

    Returns:
        Boxes in the order in which they should be tried. Every box within the budget is there, or one with an IoU
        greater than ``config.iou_threshold`` (or the same box) stands before its place.

    Raises:
        ValueError: proposals of images of different sizes.
    """
    if selective_search.image_size != multibox.image_size:
        raise ValueError(f"proposals of different images: {selective_search.image_size}, {multibox.image_size}")
    config = config or MergeConfig()
    first = selective_search.select(slice(config.budget.selective_search))
    second = multibox.select(slice(config.budget.multibox))
    turn = np.concatenate(
        [
            (np.arange(len(first)) + 0.5) / (1 - config.share),
            np.maximum(np.arange(len(second)) - config.lead + 0.5, 0) / config.share,
        ]
    )
    # MultiBox first where both have the same turn, which its leading boxes all have before the others'.
    of_search = np.arange(len(turn)) < len(first)
    order = np.lexsort((of_search, turn))
    boxes = np.concatenate([first.boxes, second.boxes])[order]
    order = order[_first_of_each(boxes, config.iou_threshold)]
    return Proposals(
        np.concatenate([first.boxes, second.boxes])[order],
        np.concatenate([first.scores, second.scores])[order],
        np.concatenate([first.source, second.source])[order],
        selective_search.image_size,
    )


def _first_of_each(boxes: NDArray[np.float32], iou_threshold: float) -> NDArray[np.int64]:
    """Rows of ``boxes`` ``(N, 4)`` in their order, without those that repeat an earlier kept one."""
    _, first = np.unique(boxes, axis=0, return_index=True)
    kept = np.sort(first)
    # Equal boxes without an area have no IoU, and were found above.
    return kept[nms(boxes[kept].astype(np.float64), -np.arange(len(kept), dtype=np.float64), iou_threshold)]
