"""R-CNN's last stage: one SVM a class on the features of a trained network, in place of its softmax.

Tech report, appendix B; the numbers are those of its code: liblinear's L2-regularised L1 hinge loss in the dual (its
type 3), hard negative mining, and Platt's sigmoid, which makes probabilities of the margins.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from detector.nets.region_head import HeadShape, RegionHead
from detector.training.features import Features, RegionTable, blocks
from proposals.calibration import Calibration, fit_calibration
from proposals.errors import UserError

Rows = NDArray[np.float32]

COST = 1e-3  # C, the weight of the hinge losses
POSITIVE_WEIGHT = 2.0  # multiplies it for positives
BIAS = 10.0  # the constant feature, whose weight is regularised with the others
FEATURE_NORM = 20.0  # features are scaled so that their mean length is this; the settings depend on it
SMALLEST_SLOPE = 1e-3  # so that a sigmoid never turns the order of the margins round, nor makes all of them equal
FIRST = 2000  # negatives drawn at random that a class begins with
HARD = -1.0001  # negatives that score above it join
RETRAIN_AFTER = 2000  # so many new ones make a class train anew
EASY = -1.2  # those that score below it then leave
NEGATIVE_IOU = 0.3  # below this IoU with all objects of a class a region is a negative of it; the rest is left out
FOLDS = 3  # margins become probabilities by SVMs that had not seen the images, trained on so many parts but one
NEVER = -30.0  # offset of the sigmoid of a class without examples: a probability of 1e-13


class LinearSvm(NamedTuple):
    """A class's ``weight`` ``(C,)`` and ``bias``."""

    weight: NDArray[np.float64]
    bias: float

    def margins(self, features: Rows) -> NDArray[np.float64]:
        """``(n, C)`` -> ``(n,)``."""
        return np.asarray(features @ self.weight + self.bias, np.float64)


def fit_svm(positives: Rows, negatives: Rows, seed: int) -> LinearSvm:
    """The SVM that separates ``positives`` ``(p, C)`` from ``negatives`` ``(n, C)``, both scaled already.

    Raises:
        ValueError: one of them is empty.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    if not len(positives) or not len(negatives):
        raise ValueError("an SVM needs positives and negatives")
    solver = LinearSVC(
        C=COST,
        loss="hinge",
        dual=True,
        class_weight={1: POSITIVE_WEIGHT, -1: 1.0},
        intercept_scaling=BIAS,
        random_state=seed,
        max_iter=1000,
    )
    labels = np.repeat([1, -1], [len(positives), len(negatives)])
    with warnings.catch_warnings():
        # Not converged to the last digit: the margins are good to about the solver's tolerance all the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(np.concatenate([positives, negatives]).astype(np.float64), labels)
    return LinearSvm(solver.coef_[0].astype(np.float64), float(solver.intercept_[0]))


def feature_scale(features: Features) -> float:
    """What multiplies features so that their mean length is ``FEATURE_NORM``; 1 where all are 0."""
    total = 0.0
    for _, block in blocks(features):
        total += float(np.sqrt(np.einsum("nc,nc->n", block, block, dtype=np.float64)).sum())
    return FEATURE_NORM * len(features) / total if total > 0 else 1.0


def fit_sigmoid(margins: NDArray[np.float64], positive: NDArray[np.bool_]) -> Calibration:
    """The sigmoid of greatest likelihood for ``margins`` ``(n,)`` of which some are ``positive`` ``(n,)``.

    Without a positive or without a negative it is that of the smoothed share of positives at a margin of 0.
    """
    count, ones = len(margins), int(positive.sum())
    if ones in (0, count):
        return Calibration(slope=1.0, offset=float(np.log((ones + 1) / (count - ones + 1))))
    found = fit_calibration(margins, positive)
    return found.model_copy(update={"slope": max(found.slope, SMALLEST_SLOPE)})


@dataclass(eq=False)
class _Class:
    """One class while it is mined; ``rows`` of the table are its negatives, ``fresh`` of them since it was trained."""

    positives: Rows
    negatives: Rows
    rows: NDArray[np.int64]
    svm: LinearSvm
    fresh: int = 0


def mine(
    features: Features,
    positives: list[NDArray[np.int64]],
    negative: Callable[[int, slice], NDArray[np.bool_]],
    scale: float,
    seed: int,
) -> list[LinearSvm | None]:
    """An SVM for each class, on features multiplied by ``scale``; ``None`` for a class without positives.

    Hard negative mining is one pass over all negatives in which only those that matter are kept: an SVM is trained on
    the positives and the first negatives; then block after block of regions is scored, negatives within the margin join
    the cache, and when enough have come the SVM is trained anew and negatives that have become easy leave. All classes
    are mined in the same pass, so that features are read once.

    Args:
        positives: rows of the table, for each class. negative: ``negative(class, rows)`` says which of a slice of rows
            are negatives of the class.
    """
    rng = np.random.default_rng([seed, 7])
    classes: list[_Class | None] = []
    for label, rows in enumerate(positives):
        candidates = np.flatnonzero(negative(label, slice(0, len(features))))
        if not len(rows) or not len(candidates):
            classes.append(None)
            continue
        first = np.sort(rng.choice(candidates, min(FIRST, len(candidates)), replace=False))
        own, others = (features[some].astype(np.float32) * np.float32(scale) for some in (rows, first))
        classes.append(_Class(own, others, first, fit_svm(own, others, seed)))
    for start, block in blocks(features):
        scaled = block * np.float32(scale)
        for label, kept in enumerate(classes):
            if kept is None:
                continue
            hard = negative(label, slice(start, start + len(block))) & (kept.svm.margins(scaled) > HARD)
            new = np.setdiff1d(start + np.flatnonzero(hard), kept.rows)
            if not len(new):
                continue
            kept.negatives = np.concatenate([kept.negatives, scaled[new - start]])
            kept.rows = np.concatenate([kept.rows, new])
            kept.fresh += len(new)
            if kept.fresh >= RETRAIN_AFTER:
                _train(kept, seed)
    for kept in classes:
        if kept is not None and kept.fresh:
            _train(kept, seed)
    return [None if kept is None else kept.svm for kept in classes]


def _train(kept: _Class, seed: int) -> None:
    kept.svm = fit_svm(kept.positives, kept.negatives, seed)
    stay = kept.svm.margins(kept.negatives) >= EASY
    kept.negatives, kept.rows, kept.fresh = kept.negatives[stay], kept.rows[stay], 0


def svm_head(
    table: RegionTable,
    features: Features,
    former: RegionHead | None,
    seed: int,
    log: Callable[[str], None] = lambda line: None,
) -> RegionHead:
    """A head of K SVMs, in evaluation mode, on the CPU; boxes and overlaps are predicted as ``former`` does, if at all.

    Args:
        table, features: of the training images' regions.

    Raises:
        UserError: there is no object or no background to learn from.
    """
    if not table.annotated.any():
        raise UserError("the training data hold no usable object")
    num_classes = table.class_overlap.shape[1]
    shape = HeadShape(kind="svm", grid=0) if former is None else former.shape.model_copy(update={"kind": "svm"})
    head = RegionHead(shape, num_classes, features.shape[1])
    if former is not None:
        kept = {n: t for n, t in former.state_dict().items() if n.startswith(("regress.", "judge."))}
        head.load_state_dict({**head.state_dict(), **kept})
    scale = feature_scale(features)
    found = _svms(table, features, scale, seed, np.ones(len(table), np.bool_))
    sigmoids = _sigmoids(table, features, scale, seed)
    lacking = sum(one is None for one in found)  # no object of the class, or no region that is not one
    if lacking == len(found):
        raise UserError("no proposal of the training images is background; the SVMs need negatives")
    with torch.no_grad():
        for label, (one, sigmoid) in enumerate(zip(found, sigmoids, strict=True)):
            if one is None:
                head.classify.weight[label], head.classify.bias[label] = 0.0, 0.0
                head.slope[label], head.offset[label] = 1.0, NEVER
            else:
                head.classify.weight[label] = torch.from_numpy(one.weight * scale)
                head.classify.bias[label] = one.bias
                head.slope[label], head.offset[label] = sigmoid.slope, sigmoid.offset
    if lacking:
        log(f"{lacking} classes have no example to train an SVM from; they will not be found")
    return head.eval()


def _svms(
    table: RegionTable, features: Features, scale: float, seed: int, use: NDArray[np.bool_]
) -> list[LinearSvm | None]:
    """An SVM for each class from the regions of ``use`` ``(R,)``."""
    shown = range(table.class_overlap.shape[1])
    positives = [np.flatnonzero(use & table.annotated & (table.labels == label)) for label in shown]

    def negative(label: int, rows: slice) -> NDArray[np.bool_]:
        return use[rows] & (table.class_overlap[rows, label] < NEGATIVE_IOU)

    return mine(features, positives, negative, scale, seed)


def _sigmoids(table: RegionTable, features: Features, scale: float, seed: int) -> list[Calibration]:
    """A sigmoid for each class, from the margins of SVMs that had not seen the image."""
    images = len(table.first) - 1
    fold_of_image = np.random.default_rng([seed, 8]).permutation(images) % min(FOLDS, images)
    fold = np.repeat(fold_of_image, np.diff(table.first))
    margins = np.full(table.class_overlap.shape, np.nan)
    for part in range(min(FOLDS, images) if images > 1 else 0):
        found = _svms(table, features, scale, seed, fold != part)
        for start, block in blocks(features):
            rows = slice(start, start + len(block))
            held_out = fold[rows] == part
            for label, one in enumerate(found):
                if one is not None:
                    margins[rows, label][held_out] = one.margins(block[held_out] * np.float32(scale))
    real = ~table.annotated  # what detection will meet: proposals as they come
    sigmoids = []
    for label, own in enumerate(margins.T):
        known = real & np.isfinite(own)
        # The rare class whose objects all lie in one fold has no margins, and keeps the SVM's own scale.
        given = own[known], table.labels[known] == label
        sigmoids.append(fit_sigmoid(*given) if known.any() else Calibration(slope=2.0))
    return sigmoids
