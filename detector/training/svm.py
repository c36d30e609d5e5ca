"""Linear support vector machines as R-CNN trains them (tech report, appendix B; the numbers are those of its code).

liblinear's L2-regularised L1 hinge loss in the dual (its type 3), and Platt's sigmoid, which makes probabilities of the
margins.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.training.features import Features, blocks
from proposals.calibration import Calibration, fit_calibration

Rows = NDArray[np.float32]

COST = 1e-3  # C, the weight of the hinge losses
POSITIVE_WEIGHT = 2.0  # multiplies it for positives
BIAS = 10.0  # the constant feature, whose weight is regularised with the others
FEATURE_NORM = 20.0  # features are scaled so that their mean length is this; the settings depend on it
SMALLEST_SLOPE = 1e-3  # so that a sigmoid never turns the order of the margins round, nor makes all of them equal


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
