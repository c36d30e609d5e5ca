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

from detector.detection.localize import Located, joint_overlap
from detector.detection.suppression import PostprocessConfig, postprocess, scored
from detector.nets.region_head import RegionOutput
from detector.types import Detections
from proposals.boxes import FloatArray, decode

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
        overlap: scores count how well a region lies on its object, as the members predict it; see
            :mod:`detector.experiment.overlap`.
        localizer: boxes are the localizer's, and so are overlaps; with ``overlap`` the mean of its and the members'.
        voting: the boxes that suppression leaves are moved by bounding-box voting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    ensemble: str = "seeds"
    members: tuple[int, ...] = Field(min_length=1)
    proposals: Regions = "scale2+multibox"
    context: bool = True
    combine: Combination = "mean"
    regression: bool = False
    overlap: bool = False
    localizer: bool = False
    voting: bool = False

    @model_validator(mode="after")
    def _members_once(self) -> Variant:
        if len(set(self.members)) != len(self.members) or min(self.members) < 0:
            raise ValueError(f"members {list(self.members)} must be different numbers from 0 up")
        for what, wanted in (("regression is", self.regression), ("overlaps are", self.overlap)):
            if wanted and not self.context:
                raise ValueError(f"{what} fitted to regions with context: leave context on")
        if self.localizer and self.regression:
            raise ValueError("a localizer takes the place of regression: leave it off")
        if self.voting and self.combine == "nms":
            raise ValueError("members that are joined by nms have no boxes in common to vote with: leave voting off")
        return self


def combine(probs: Sequence[NDArray[np.float32]], how: Literal["mean", "geometric", "maximum"]) -> NDArray[np.float32]:
    """The members' probabilities, each ``(N, K + 1)``, as one table of the same shape whose rows sum to one."""
    table = np.stack(probs).astype(np.float64)  # (M, N, K + 1)
    if how == "mean":
        return np.asarray(table.mean(axis=0), np.float32)
    joined = np.exp(np.log(np.maximum(table, SMALLEST)).mean(axis=0)) if how == "geometric" else table.max(axis=0)
    return np.asarray(joined / joined.sum(axis=1, keepdims=True), np.float32)


def judge(
    boxes: FloatArray,
    opinions: Sequence[RegionOutput],
    variant: Variant,
    image_size: tuple[int, int],
    config: PostprocessConfig,
    located: Located | None = None,
) -> Detections:
    """What ``variant`` detects among regions ``boxes`` ``(N, 4)`` of which its members have these ``opinions``.

    Boxes are moved by the mean of the deltas, and overlaps are the mean, of the members that have them. ``config`` is
    the variant's own: it has the power of the overlaps. ``located`` is what the localizer says of the regions.
    """
    probs = [o.probs.numpy() for o in opinions]
    each = [o.overlap.numpy() if variant.overlap and o.overlap is not None else None for o in opinions]
    regions, power = boxes, config.overlap_power
    if variant.localizer:
        if located is None:
            raise ValueError(f"{variant.name}: no localizer has looked at the regions")
        regions = located.boxes
    elif variant.regression:
        regions = moved(boxes, [o.deltas.numpy() for o in opinions if o.deltas is not None])
    beside = located.overlap if variant.localizer and located is not None else None
    if variant.combine == "nms":
        tables = [scored(p, joint_overlap(o, beside), power) for p, o in zip(probs, each, strict=True)]
        return join_by_nms([postprocess(regions, table, image_size, config) for table in tables], config)
    known = [o for o in each if o is not None]
    overlap = joint_overlap(np.asarray(np.mean(known, axis=0), np.float32) if known else None, beside)
    return postprocess(regions, scored(combine(probs, variant.combine), overlap, power), image_size, config)


def moved(boxes: FloatArray, deltas: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Where the mean of the members' ``deltas``, each ``(N, K, 4)``, moves ``boxes`` ``(N, 4)``: ``(N, K, 4)``."""
    mean = np.mean(deltas, axis=0, dtype=np.float32)
    each = np.repeat(boxes, mean.shape[1], axis=0)
    return np.asarray(decode(each, mean.reshape(-1, 4)), np.float32).reshape(mean.shape)


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
