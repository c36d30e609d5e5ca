"""R-CNN's last stage: one SVM a class on the features of a trained network, in place of its softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detector.nets.region_head import HeadShape, RegionHead
from detector.training.features import Features, blocks
from detector.training.hard_negatives import mine
from detector.training.pool import ImagePool
from detector.training.region_table import RegionTable
from detector.training.svm import LinearSvm, feature_scale, fit_sigmoid
from proposals.calibration import Calibration
from proposals.errors import UserError

FOREGROUND_IOU = 0.5  # regions show an object from this IoU on, for the probabilities
NEGATIVE_IOU = 0.3  # below this IoU with all objects of a class a region is a negative of it; the rest is left out
FOLDS = 3  # margins become probabilities by SVMs that had not seen the images, trained on so many parts but one
NEVER = -30.0  # offset of the sigmoid of a class without examples: a probability of 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """What SVMs learn from: regions, their features, and the images' objects; K classes."""

    pool: ImagePool
    table: RegionTable
    features: Features
    num_classes: int


def svm_head(
    data: TrainingSet, former: RegionHead | None, seed: int, tell: Callable[[str], None] = lambda line: None
) -> RegionHead:
    """A head of K SVMs, in evaluation mode, on the CPU; boxes and overlaps are predicted as ``former`` does, if at all.

    Raises:
        UserError: there is no object or no background to learn from.
    """
    if not len(data.pool.boxes):
        raise UserError("the training data hold no usable object")
    shape = HeadShape(kind="svm", grid=0) if former is None else former.shape.model_copy(update={"kind": "svm"})
    head = RegionHead(shape, data.num_classes, data.features.shape[1])
    if former is not None:
        kept = {n: t for n, t in former.state_dict().items() if n.startswith(("regress.", "judge."))}
        head.load_state_dict({**head.state_dict(), **kept})
    with torch.no_grad():
        _put_svms(head, data, seed, tell)
    return head.eval()


def _svms(data: TrainingSet, scale: float, seed: int, use: NDArray[np.bool_]) -> list[LinearSvm | None]:
    """An SVM for each class from the regions of ``use`` ``(R,)``."""
    table = data.table
    labels = table.labels(data.pool, FOREGROUND_IOU)
    positives = [np.flatnonzero(use & table.annotated & (labels == k)) for k in range(data.num_classes)]

    def negative(label: int, rows: slice) -> NDArray[np.bool_]:
        return use[rows] & (table.class_overlap[rows, label] < NEGATIVE_IOU)

    return mine(data.features, positives, negative, scale, seed)


def _put_svms(head: RegionHead, data: TrainingSet, seed: int, tell: Callable[[str], None]) -> None:
    scale = feature_scale(data.features)
    found = _svms(data, scale, seed, np.ones(len(data.table), np.bool_))
    sigmoids = _sigmoids(data, scale, seed)
    lacking = 0
    for label, (one, sigmoid) in enumerate(zip(found, sigmoids, strict=True)):
        if one is None:  # no object of the class, or no region that is not one
            lacking += 1
            head.classify.weight[label], head.classify.bias[label] = 0.0, 0.0
            head.slope[label], head.offset[label] = 1.0, NEVER
            continue
        head.classify.weight[label] = torch.from_numpy(one.weight * scale)
        head.classify.bias[label] = one.bias
        head.slope[label], head.offset[label] = sigmoid.slope, sigmoid.offset
    if lacking == len(found):
        raise UserError("no proposal of the training images is background; the SVMs need negatives")
    if lacking:
        tell(f"{lacking} classes have no example to train an SVM from; they will not be found")


def _sigmoids(data: TrainingSet, scale: float, seed: int) -> list[Calibration]:
    """A sigmoid for each class, from the margins of SVMs that had not seen the image."""
    table = data.table
    images = len(data.pool.images)
    fold_of_image = np.random.default_rng([seed, 8]).permutation(images) % min(FOLDS, max(images, 1))
    fold = np.repeat(fold_of_image, np.diff(table.first))
    margins = np.full((len(table), data.num_classes), np.nan)
    for part in range(min(FOLDS, images)):
        found = _svms(data, scale, seed, fold != part) if images > 1 else None
        for start, block in blocks(data.features):
            rows = slice(start, start + len(block))
            held_out = fold[rows] == part
            for label in range(data.num_classes):
                one = found[label] if found is not None else None
                if one is not None:
                    margins[rows, label][held_out] = one.margins(block[held_out] * np.float32(scale))
    labels = table.labels(data.pool, FOREGROUND_IOU)
    real = ~table.annotated  # what detection will meet: proposals as they come
    sigmoids = []
    for label in range(data.num_classes):
        known = real & np.isfinite(margins[:, label])
        # The rare class whose objects all lie in one fold has no margins, and keeps the SVM's own scale.
        given = margins[known, label], labels[known] == label
        sigmoids.append(fit_sigmoid(*given) if known.any() else Calibration(slope=2.0))
    return sigmoids
