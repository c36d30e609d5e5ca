"""How well does a region lie on its object? Predicted from a trained network's last map (IoU-Net's localization
confidence: Jiang et al., Acquisition of Localization Confidence for Accurate Object Detection, ECCV 2018).

A softmax names the face of a cat as surely as the cat, so that of overlapping regions the wrong one may win. Here ridge
regression predicts the IoU of a region with the object that it shows from the map, averaged over a few cells, for
regions as they are proposed; IoU-Net trains a branch of the network. Nothing is known of classes. A part of the
pictures is held out and decides on the penalty.

Glossary: n regions, D features, one region a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from detector.detection.ensemble import Member
from detector.experiment.member_head import larger_head
from detector.training.common_ridge import RidgeSums
from detector.training.pool import ImagePool
from proposals.boxes import FloatArray, iou
from proposals.errors import ImageTooSmall, UserError
from proposals.types import ProposalSource


class OverlapConfig(BaseModel):
    """How the experiment's overlaps are predicted, and what they are for.

    Attributes:
        members: so many of the first ensemble's members predict them; a variant takes the mean of its members'.
        power: scores are probability times overlap to this power.
        grid: cells a side of the features.
        pictures: so many training pictures, chosen at random, whose regions are proposed by all sources together.
        scenes: annotated data sets all of whose photographs are learned from as well, whatever their classes: a
            close-up says little of where an object in a scene ends. Paths as the command line would take them.
        regions: of each picture so many at random. near: and of those with an IoU of at least ``near_iou`` so many
            more, because most regions are far from any object.
        held_out: share of the pictures. penalties: lambdas to choose from, for features whose squares' mean length is
            scaled to ``feature_norm`` (as R-CNN's box regression).
        seed: of all chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(default=1, ge=1)
    power: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    grid: int = Field(default=3, ge=1, le=14)
    pictures: int = Field(default=1000, ge=1)
    scenes: tuple[str, ...] = ()
    regions: int = Field(default=50, ge=1)
    near: int = Field(default=20, ge=0)
    near_iou: float = Field(default=0.4, gt=0, le=1)
    held_out: float = Field(default=0.1, gt=0, lt=1)
    penalties: tuple[float, ...] = Field(default=(1000.0, 10_000.0, 100_000.0), min_length=1)
    feature_norm: float = Field(default=20.0, gt=0)
    seed: int = Field(default=0, ge=0)


class ProposedRegions(NamedTuple):
    """Proposals of pictures, sorted by picture.

    ``boxes`` ``(n, 4)`` and ``overlap`` ``(n,)`` are float32, ``owner`` ``(n,)`` int64.
    """

    boxes: NDArray[np.float32]
    overlap: NDArray[np.float32]
    owner: NDArray[np.int64]


class FittedOverlap(NamedTuple):
    """A regression: weights ``(D,)``, bias, penalty; on held-out regions correlation and mean absolute error."""

    weights: NDArray[np.float64]
    bias: float
    penalty: float
    correlation: float
    error: float


def best_overlap(boxes: FloatArray, objects: FloatArray) -> NDArray[np.float32]:
    """``(n,)``: the greatest IoU of each of ``boxes`` ``(n, 4)`` with one of ``objects`` ``(m, 4)``, 0 without any."""
    if not len(objects):
        return np.zeros(len(boxes), np.float32)
    return np.asarray(iou(boxes, objects).max(axis=1), np.float32)


def draw_proposed(
    pool: ImagePool, source: ProposalSource, config: OverlapConfig, advance: Callable[[], None] = lambda: None
) -> ProposedRegions:
    """Regions that ``source`` proposes in the pictures of ``pool``, picture by picture.

    Raises:
        UserError: nothing was proposed.
    """
    boxes, overlaps, owners = [], [], []
    for number in range(len(pool.images)):
        rng = np.random.default_rng([config.seed, 3, number])
        try:
            proposed = source.propose(pool.images[number]).boxes
        except ImageTooSmall:
            proposed = np.zeros((0, 4), np.float32)
        advance()
        overlap = best_overlap(proposed, pool.truth(number))
        chosen = rng.choice(len(proposed), min(config.regions, len(proposed)), replace=False)
        near = np.flatnonzero(overlap >= config.near_iou)
        more = rng.choice(near, min(config.near, len(near)), replace=False)
        rows = np.unique(np.concatenate([chosen, more]).astype(np.int64))
        boxes.append(proposed[rows].astype(np.float32))
        overlaps.append(overlap[rows])
        owners.append(np.full(len(rows), number, np.int64))
    found = ProposedRegions(np.concatenate(boxes), np.concatenate(overlaps), np.concatenate(owners))
    if not len(found.boxes):
        raise UserError("nothing is proposed in the training pictures: overlaps cannot be learned")
    return found


def fit_overlap(features: NDArray[np.float16], regions: ProposedRegions, config: OverlapConfig) -> FittedOverlap:
    """The regression that held-out pictures like best, by squared error, fitted to all ``features`` ``(n, D)``."""
    pictures = np.unique(regions.owner)
    count = max(1, round(config.held_out * len(pictures)))
    held = np.isin(regions.owner, np.random.default_rng([config.seed, 4]).choice(pictures, count, replace=False))
    if held.all():  # a single picture
        held = np.arange(len(held)) % 2 == 1
    targets = regions.overlap.astype(np.float64)
    fit, rest = (RidgeSums(features.shape[1], 1) for _ in range(2))
    fit.add(features[~held], targets[~held, None])
    rest.add(features[held], targets[held, None])
    seen = features[held].astype(np.float32)
    best: FittedOverlap | None = None
    least = np.inf
    norm = config.feature_norm**2 / max(fit.mean_square, 1e-12)
    for penalty in config.penalties:
        weights, bias = fit.solve(penalty / norm)
        predicted = np.clip(seen @ weights[0].astype(np.float32) + bias[0], 0, 1)
        off = predicted - targets[held]
        if best is None or float((off**2).mean()) < least:
            least = float((off**2).mean())
            best = FittedOverlap(
                weights[0], 0, penalty, _correlation(predicted, targets[held]), float(np.abs(off).mean())
            )
    assert best is not None
    weights, bias = (fit + rest).solve(best.penalty / norm)
    return best._replace(weights=weights[0], bias=float(bias[0]))


def _correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Pearson's; 0 where one of them does not vary."""
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def with_overlap(member: Member, fitted: FittedOverlap, grid: int) -> Member:
    """The member with a head that predicts overlaps as ``fitted``.

    Raises:
        ValueError: it predicts them already.
    """
    head = larger_head(member, overlap=grid)
    assert head.judge is not None
    with torch.no_grad():
        head.judge.weight.copy_(torch.from_numpy(fitted.weights[None]))
        head.judge.bias.fill_(fitted.bias)
    return Member(member.net, member.crop, member.normalization, head.eval())
