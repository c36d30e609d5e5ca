"""R-CNN's second stage on fixed features: the classifier and the box regression of a :class:`RegionHead`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from detector.nets.region_head import HeadKind, HeadShape, RegionHead
from detector.training.box_regression import RegressionConfig, fit_regression
from detector.training.features import FeatureTable
from detector.training.hard_negatives import MiningConfig, mine
from detector.training.platt import Sigmoid, fit_sigmoid
from detector.training.pool import ImagePool
from detector.training.region_table import RegionTable
from detector.training.softmax_head import SoftmaxConfig, fit_softmax
from detector.training.svm import LinearSvm, SvmConfig, feature_scale
from proposals.errors import UserError

NEVER = -30.0  # offset of the sigmoid of a class without examples: a probability of 1e-13


class HeadTrainingConfig(BaseModel):
    """How a head is trained.

    Attributes:
        kind: see :class:`detector.nets.region_head.HeadShape`. grid: of the regression; 0 for none.
        foreground_iou: regions show an object from this IoU on, for the softmax and for the probabilities.
        most_regions: the softmax is fitted to so many regions at most; background beyond is left out at random.
        folds: margins become probabilities by SVMs that had not seen the images, trained on so many parts but one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: HeadKind = "softmax"
    grid: int = Field(default=3, ge=0, le=14)
    foreground_iou: float = Field(default=0.5, gt=0, le=1)
    most_regions: int = Field(default=300_000, ge=1000)
    folds: int = Field(default=3, ge=2)
    svm: SvmConfig = SvmConfig()
    mining: MiningConfig = MiningConfig()
    softmax: SoftmaxConfig = SoftmaxConfig()
    regression: RegressionConfig = RegressionConfig()


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """What a head learns from: regions, their features, and the images' objects; K classes."""

    pool: ImagePool
    table: RegionTable
    features: FeatureTable
    num_classes: int


def train_head(
    data: TrainingSet, config: HeadTrainingConfig, seed: int, tell: Callable[[str], None] = lambda line: None
) -> RegionHead:
    """A trained head, in evaluation mode, on the CPU.

    Raises:
        UserError: there is no object or no background to learn from.
    """
    if not len(data.pool.boxes):
        raise UserError("the training data hold no usable object")
    head = RegionHead(HeadShape(kind=config.kind, grid=config.grid), data.num_classes, data.features.num_features)
    with torch.no_grad():
        if config.kind == "svm":
            _put_svms(head, data, config, seed, tell)
        else:
            weights, biases = _softmax(data, config, seed)
            head.classify.weight.copy_(torch.from_numpy(weights))
            head.classify.bias.copy_(torch.from_numpy(biases))
        if head.regress is not None:
            _put_regression(head, data, config.regression, tell)
    return head.eval()


def grid_rows(table: RegionTable, config: HeadTrainingConfig) -> NDArray[np.bool_]:
    """``(R,)``: the regions whose grid features the head needs."""
    return np.asarray((table.overlap >= config.regression.minimum_iou) & (table.truth >= 0) & (config.grid > 0))


# --- SVMs ----------


def _svms(
    data: TrainingSet, config: HeadTrainingConfig, scale: float, seed: int, use: NDArray[np.bool_]
) -> list[LinearSvm | None]:
    """An SVM for each class from the regions of ``use`` ``(R,)``."""
    table = data.table
    labels = table.labels(data.pool, config.foreground_iou)
    positives = [np.flatnonzero(use & table.annotated & (labels == k)) for k in range(data.num_classes)]

    def negative(label: int, rows: slice) -> NDArray[np.bool_]:
        return use[rows] & (table.class_overlap[rows, label] < config.svm.negative_iou)

    return mine(data.features, table, positives, negative, scale, config.svm, config.mining, seed)


def _put_svms(
    head: RegionHead, data: TrainingSet, config: HeadTrainingConfig, seed: int, tell: Callable[[str], None]
) -> None:
    scale = feature_scale(data.features, config.svm.feature_norm)
    everything = np.ones(len(data.table), np.bool_)
    found = _svms(data, config, scale, seed, everything)
    sigmoids = _sigmoids(data, config, scale, seed)
    lacking = 0
    for label, (one, sigmoid) in enumerate(zip(found, sigmoids, strict=True)):
        if one is None:  # no object of the class, or no region that is not one
            lacking += 1
            head.classify.weight[label], head.classify.bias[label] = 0.0, 0.0
            head.slope[label], head.offset[label] = 1.0, NEVER
            continue
        head.classify.weight[label] = torch.from_numpy(one.weight * scale)
        head.classify.bias[label] = one.bias
        head.slope[label], head.offset[label] = sigmoid
    if lacking == len(found):
        raise UserError("no proposal of the training images is background; the SVMs need negatives")
    if lacking:
        tell(f"{lacking} classes have no example to train an SVM from; they will not be found")


def _sigmoids(data: TrainingSet, config: HeadTrainingConfig, scale: float, seed: int) -> list[Sigmoid]:
    """A sigmoid for each class, from the margins of SVMs that had not seen the image."""
    table = data.table
    images = len(data.pool.images)
    fold_of_image = np.random.default_rng([seed, 8]).permutation(images) % min(config.folds, max(images, 1))
    fold = np.repeat(fold_of_image, np.diff(table.first))
    margins = np.full((len(table), data.num_classes), np.nan)
    for part in range(min(config.folds, images)):
        found = _svms(data, config, scale, seed, fold != part) if images > 1 else None
        for start, block in data.features.blocks():
            rows = slice(start, start + len(block))
            held_out = fold[rows] == part
            for label in range(data.num_classes):
                one = found[label] if found is not None else None
                if one is not None:
                    margins[rows, label][held_out] = one.margins(block[held_out] * np.float32(scale))
    labels = table.labels(data.pool, config.foreground_iou)
    real = ~table.mirror & ~table.annotated  # what detection will meet: proposals as they come
    sigmoids = []
    for label in range(data.num_classes):
        known = real & np.isfinite(margins[:, label])
        # The rare class whose objects all lie in one fold has no margins, and keeps the SVM's own scale.
        sigmoids.append(
            fit_sigmoid(margins[known, label], labels[known] == label) if known.any() else Sigmoid(2.0, 0.0)
        )
    return sigmoids


# --- softmax ----------


def _softmax(
    data: TrainingSet, config: HeadTrainingConfig, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    labels = data.table.labels(data.pool, config.foreground_iou)
    shows = np.flatnonzero(labels < data.num_classes)
    empty = np.flatnonzero(labels == data.num_classes)
    room = max(config.most_regions - len(shows), config.most_regions // 2)
    if len(empty) > room:
        empty = np.random.default_rng([seed, 9]).choice(empty, room, replace=False)
    rows = np.sort(np.concatenate([shows, empty]))
    return fit_softmax(data.features.pooled(rows), labels[rows], data.num_classes, config.softmax)


# --- boxes ----------


def _put_regression(head: RegionHead, data: TrainingSet, config: RegressionConfig, tell: Callable[[str], None]) -> None:
    assert head.regress is not None
    rows, features = data.features.grid()
    labels = data.pool.labels[data.table.truth[rows]]
    fitted = fit_regression(features, data.table.targets(data.pool, rows), labels, data.num_classes, config)
    if fitted is None:
        tell("no region overlaps an object enough to learn box regression from; boxes stay as proposed")
        head.regress.weight.zero_()
        head.regress.bias.zero_()
        return
    weights, biases = fitted
    head.regress.weight.copy_(torch.from_numpy(weights.reshape(4 * data.num_classes, -1)))
    head.regress.bias.copy_(torch.from_numpy(biases.reshape(-1)))
