"""What an experiment varies: members, proposals, context, and how the members' opinions become one.

Glossary: M members, N regions, K classes; background is the last of the K + 1 probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torchvision.ops import batched_nms

from detector.postprocess import PostprocessConfig, postprocess
from detector.types import Detections
from proposals.boxes import FloatArray

Combination = Literal["mean", "geometric", "maximum", "nms"]
Regions = Literal["scale1", "scale2", "multibox", "scale2+multibox"]
SMALLEST = 1e-12  # below every probability that matters; keeps the logarithm finite


class Variant(BaseModel):
    """One row of the experiment's table.

    Attributes:
        name: of the row. ensemble: the folder of trained members, by the experiment's name for it.
        members: which of them, by number from 0.
        proposals: selective search with plain or doubled superpixels, MultiBox, or both merged.
        context: with the members' own context padding; without, crops show the bare region.
        combine: "mean" of the members' softmaxes (the paper's), their geometric mean made to sum to one, their maximum
            (likewise), or "nms": every member detects on its own and non-maximum suppression joins the detections.
        regression: regions are moved by box regression before suppression, as R-CNN's are: by the mean of those of the
            members that have it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    ensemble: str = "seeds"
    members: tuple[int, ...] = Field(min_length=1)
    proposals: Regions = "scale2+multibox"
    context: bool = True
    combine: Combination = "mean"
    regression: bool = False

    @model_validator(mode="after")
    def _members_once(self) -> Variant:
        if len(set(self.members)) != len(self.members) or min(self.members) < 0:
            raise ValueError(f"members {list(self.members)} must be different numbers from 0 up")
        if self.regression and not self.context:
            raise ValueError("regression is fitted to regions with context: leave context on")
        return self


def combine(probs: Sequence[NDArray[np.float32]], how: Literal["mean", "geometric", "maximum"]) -> NDArray[np.float32]:
    """The members' probabilities, each ``(N, K + 1)``, as one table of the same shape whose rows sum to one."""
    table = np.stack(probs).astype(np.float64)  # (M, N, K + 1)
    if how == "mean":
        return np.asarray(table.mean(axis=0), np.float32)
    joined = np.exp(np.log(np.maximum(table, SMALLEST)).mean(axis=0)) if how == "geometric" else table.max(axis=0)
    return np.asarray(joined / joined.sum(axis=1, keepdims=True), np.float32)


def detect(
    boxes: FloatArray,
    probs: Sequence[NDArray[np.float32]],
    how: Combination,
    image_size: tuple[int, int],
    config: PostprocessConfig,
) -> Detections:
    """Detections from the members' probabilities, each ``(N, K + 1)``, of regions ``boxes``.

    Args:
        boxes: ``(N, 4)``, or ``(N, K, 4)`` where regression has moved them, for each class to another place.
    """
    if how != "nms":
        return postprocess(boxes, combine(probs, how), image_size, config)
    return join_by_nms([postprocess(boxes, p, image_size, config) for p in probs], config)


def join_by_nms(found: Sequence[Detections], config: PostprocessConfig) -> Detections:
    """Several members' detections of one image as one set: all of them, suppressed per class as a single member's are.

    Of equal scores the earlier member's goes first.
    """
    boxes = np.concatenate([d.boxes for d in found])
    scores = np.concatenate([d.scores for d in found])
    labels = np.concatenate([d.labels for d in found])
    order = np.argsort(-scores, kind="stable")
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    threshold = float(np.float32(config.nms_threshold))
    kept = batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels), threshold)
    rows = np.sort(kept.numpy())[: config.max_detections]
    return Detections(boxes[rows], scores[rows], labels[rows], found[0].image_size)
