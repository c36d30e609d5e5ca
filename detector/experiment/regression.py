"""Box regression for a trained network with a softmax of its own (R-CNN, appendix C; GoogLeNet's entry had none).

Ridge regression from the network's last map, averaged over a few cells, to the box of the region's object. Regions are
drawn around the objects of some training pictures. A part of the pictures is held out and decides between one
regression for all classes and one for each, and on the penalty; where nothing beats the regions as drawn, boxes stay.

Glossary: n regions, K classes, D features, one region a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from detector.crop import crop_regions
from detector.detection.ensemble import CPU_BATCH, GPU_BATCH, Member
from detector.experiment.member_head import larger_head
from detector.nets.region_head import grid_features
from detector.nets.weights import to_tensor
from detector.training.box_regression import RegressionConfig, fit_regression
from detector.training.common_ridge import RidgeSums
from detector.training.pool import ImagePool
from detector.training.sampling import SamplingConfig, foreground_regions, paired_iou
from proposals.boxes import decode, encode
from proposals.errors import UserError

Kind = Literal["class", "shared"]
WORTH = 0.001  # of mean IoU: by so much must one regression for each class be better than one for all, for its size
F16_MAX = float(np.finfo(np.float16).max)


class BoxRegressionConfig(BaseModel):
    """How the experiment's box regression is fitted.

    Attributes:
        members: so many of the first ensemble's members have one; a variant moves boxes by the mean of its members'.
        kind: "class": one for each class, as R-CNN; "shared": one for all; "auto": whichever is better on pictures
            held out.
        grid: cells a side of the features.
        pictures: so many training pictures, chosen at random. regions: at most so many regions.
        per_object: regions drawn around each object. minimum_iou: with their object (R-CNN: 0.6).
        held_out: share of the pictures. penalties: lambdas to choose from, for features whose squares' mean length is
            scaled to ``feature_norm`` (R-CNN: 1000 and 20).
        minimum_regions: of "class": a class with fewer is regressed by what all classes together teach.
        seed: of all chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(default=1, ge=1)
    kind: Literal["class", "shared", "auto"] = "auto"
    grid: int = Field(default=3, ge=1, le=14)
    pictures: int = Field(default=10_000, ge=1)
    regions: int = Field(default=40_000, ge=1)
    per_object: int = Field(default=4, ge=1)
    minimum_iou: float = Field(default=0.6, gt=0, le=1)
    held_out: float = Field(default=0.1, gt=0, lt=1)
    penalties: tuple[float, ...] = Field(default=(100.0, 1000.0, 10_000.0), min_length=1)
    feature_norm: float = Field(default=20.0, gt=0)
    minimum_regions: int = Field(default=50, ge=1)
    seed: int = Field(default=0, ge=0)


class Regions(NamedTuple):
    """Regions of pictures: ``boxes``, ``truth`` ``(n, 4)`` float32; ``labels``, ``owner`` ``(n,)`` int64, by owner."""

    boxes: NDArray[np.float32]
    truth: NDArray[np.float32]
    labels: NDArray[np.int64]
    owner: NDArray[np.int64]

    def at(self, rows: NDArray[np.int64]) -> Regions:
        """Those at ``rows``."""
        return Regions(self.boxes[rows], self.truth[rows], self.labels[rows], self.owner[rows])


class PicturesRegions(Protocol):
    """Boxes ``(n, 4)`` in the pictures of number ``owner`` ``(n,)``, sorted by it."""

    @property
    def boxes(self) -> NDArray[np.float32]: ...
    @property
    def owner(self) -> NDArray[np.int64]: ...


class Fitted(NamedTuple):
    """A regression: weights ``(K or 1, 4, D)``, biases ``(K or 1, 4)``, and how it came to be.

    ``kind`` is "none" where nothing helped; ``before`` and ``after`` are the mean IoU of the held-out regions with
    their objects, as drawn and as moved.
    """

    weights: NDArray[np.float64]
    biases: NDArray[np.float64]
    kind: Literal["class", "shared", "none"]
    penalty: float
    before: float
    after: float


def draw_regions(pool: ImagePool, sampling: SamplingConfig, config: BoxRegressionConfig) -> Regions:
    """Regions around the objects of ``pool``, in the order of the pictures.

    Raises:
        UserError: there is no object.
    """
    if not len(pool.boxes):
        raise UserError("the training pictures hold no object to learn box regression from")
    rng = np.random.default_rng([config.seed, 1])
    of = np.repeat(np.arange(len(pool.boxes)), config.per_object)
    if len(of) > config.regions:
        of = np.sort(rng.choice(of, config.regions, replace=False))
    truth, owner = pool.boxes[of], pool.owner[of]
    wanted = sampling.model_copy(update={"iou_foreground": config.minimum_iou})
    boxes = foreground_regions(rng, truth, pool.sizes[owner], wanted)
    return Regions(boxes, truth, pool.labels[of], owner)


@torch.inference_mode()
def region_features(
    member: Member, pool: ImagePool, regions: PicturesRegions, grid: int, device: torch.device
) -> NDArray[np.float16]:
    """Grid features ``(n, D)`` of ``regions``; ``member`` is put on ``device``, its normalisation folded."""
    net = member.net.eval().fold_normalization().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = np.empty((len(regions.boxes), net.num_features * grid**2), np.float16)
    done = 0
    for crops in _batches(member, pool, regions, CPU_BATCH if device.type == "cpu" else GPU_BATCH):
        seen = net.trunk(member.normalization(to_tensor(crops).to(device))).float()
        part = grid_features(seen, grid).clamp(-F16_MAX, F16_MAX)
        found[done : done + len(crops)] = part.half().cpu().numpy()
        done += len(crops)
    return found


def _batches(member: Member, pool: ImagePool, regions: PicturesRegions, size: int) -> Iterator[NDArray[np.uint8]]:
    """Crops of ``regions`` in their order, ``size`` at a time and the rest, whichever picture they are of."""
    waiting: list[NDArray[np.uint8]] = []
    count = 0
    starts = np.flatnonzero(np.diff(regions.owner, prepend=-1))
    for part in np.split(np.arange(len(regions.owner)), starts[1:]):
        image = pool.images[int(regions.owner[part[0]])]
        waiting.append(crop_regions(image, regions.boxes[part], member.crop, member.normalization.fill))
        count += len(part)
        while count >= size:
            joined = np.concatenate(waiting)
            yield joined[:size]
            waiting, count = [joined[size:]], count - size
    if count:
        yield np.concatenate(waiting)


def moved_overlap(fitted: Fitted, features: NDArray[np.float16], regions: Regions, sizes: NDArray[np.float32]) -> float:
    """Mean IoU of ``regions`` with their objects once moved; ``sizes`` ``(n, 2)`` of the pictures limit them."""
    own = np.zeros_like(regions.labels) if len(fitted.weights) == 1 else regions.labels
    deltas = np.empty((len(own), 4))
    for label in np.unique(own).tolist():
        rows = np.flatnonzero(own == label)
        deltas[rows] = features[rows].astype(np.float64) @ fitted.weights[label].T + fitted.biases[label]
    moved = decode(regions.boxes, deltas).astype(np.float32)
    moved = np.clip(moved, 0, sizes[:, [1, 0, 1, 0]])
    return float(paired_iou(moved, regions.truth).mean())


def fit_boxes(
    features: NDArray[np.float16],
    regions: Regions,
    sizes: NDArray[np.float32],
    num_classes: int,
    config: BoxRegressionConfig,
) -> Fitted:
    """The regression that held-out pictures like best, fitted to all regions; ``sizes`` ``(M, 2)`` of all pictures."""
    held = _held_out(regions.owner, config)
    fit, test = np.flatnonzero(~held), np.flatnonzero(held)
    if not len(fit):  # a single picture
        fit = test
    of = sizes[regions.owner]
    before = float(paired_iou(regions.boxes[test], regions.truth[test]).mean())
    none = Fitted(np.zeros((1, 4, features.shape[1])), np.zeros((1, 4)), "none", config.penalties[0], before, before)
    kinds: tuple[Kind, ...] = ("shared", "class") if config.kind == "auto" else (config.kind,)
    best = none
    for kind in kinds:
        for tried in _fits(features, regions, fit, num_classes, kind, config.penalties, config):
            after = moved_overlap(tried, features[test], regions.at(test), of[test])
            worth = WORTH if (kind, best.kind) == ("class", "shared") else 0
            if after > best.after + worth:
                best = tried._replace(before=before, after=after)
    if best.kind == "none":
        return none
    everything = np.arange(len(features))
    (final,) = _fits(features, regions, everything, num_classes, best.kind, (best.penalty,), config)
    return final._replace(before=before, after=best.after)


def _held_out(owner: NDArray[np.int64], config: BoxRegressionConfig) -> NDArray[np.bool_]:
    """``(n,)``: regions of the pictures that are held out, at least one picture."""
    pictures = np.unique(owner)
    count = max(1, round(config.held_out * len(pictures)))
    chosen = np.random.default_rng([config.seed, 2]).choice(pictures, count, replace=False)
    return np.isin(owner, chosen)


def _fits(
    features: NDArray[np.float16],
    regions: Regions,
    rows: NDArray[np.int64],
    num_classes: int,
    kind: Kind,
    penalties: tuple[float, ...],
    config: BoxRegressionConfig,
) -> Iterator[Fitted]:
    """A regression fitted to ``rows`` for each of the ``penalties``."""
    targets = np.asarray(encode(regions.boxes[rows], regions.truth[rows]), np.float64)
    if kind == "shared":
        sums = RidgeSums(features.shape[1], 4)
        sums.add(features[rows], targets)
        norm = config.feature_norm**2 / max(sums.mean_square, 1e-12)
        for penalty in penalties:
            weights, biases = sums.solve(penalty / norm)
            yield Fitted(weights[None], biases[None], "shared", penalty, 0, 0)
        return
    seen, labels = features[rows].astype(np.float32), regions.labels[rows]
    for penalty in penalties:
        settings = RegressionConfig(
            penalty=penalty, feature_norm=config.feature_norm, minimum_regions=config.minimum_regions
        )
        fitted = fit_regression(seen, targets, labels, num_classes, settings)
        assert fitted is not None
        yield Fitted(*fitted, "class", penalty, 0, 0)


def with_box_regression(member: Member, fitted: Fitted, grid: int) -> Member:
    """The member with a head that moves boxes as ``fitted``.

    Raises:
        ValueError: it has box regression already.
    """
    head = larger_head(member, grid=grid, shared=len(fitted.weights) == 1)
    assert head.regress is not None
    with torch.no_grad():
        head.regress.weight.copy_(torch.from_numpy(fitted.weights.reshape(-1, fitted.weights.shape[2])))
        head.regress.bias.copy_(torch.from_numpy(fitted.biases.reshape(-1)))
    return Member(member.net, member.crop, member.normalization, head.eval())
