"""Linear support vector machines as R-CNN trains them (tech report, appendix B; FACTS from its code).

liblinear's L2-regularised L1 hinge loss in the dual (its type 3), C = 0.001, positives counted twice, a bias feature of
10, and features scaled to a mean length of 20, on which those settings depend.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from detector.training.features import FeatureTable

Rows = NDArray[np.float32]


class SvmConfig(BaseModel):
    """R-CNN's settings.

    Attributes:
        c: weight of the hinge losses. positive_weight: multiplies it for positives. bias: the constant feature, whose
            weight is regularised with the others.
        feature_norm: features are scaled so that their mean length is this.
        negative_iou: a region is a negative of a class below this IoU with all of its objects; positives are the
            annotated boxes, and what lies between is left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    c: float = Field(default=1e-3, gt=0)
    positive_weight: float = Field(default=2.0, gt=0)
    bias: float = Field(default=10.0, gt=0)
    feature_norm: float = Field(default=20.0, gt=0)
    negative_iou: float = Field(default=0.3, ge=0, le=1)


class LinearSvm:
    """A margin: ``features @ weight + bias``; weight ``(C,)`` float64."""

    def __init__(self, weight: NDArray[np.float64], bias: float) -> None:
        self.weight, self.bias = weight, bias

    def margins(self, features: Rows) -> NDArray[np.float64]:
        """``(n, C)`` -> ``(n,)``."""
        return np.asarray(features @ self.weight + self.bias, np.float64)


def fit_svm(positives: Rows, negatives: Rows, config: SvmConfig, seed: int) -> LinearSvm:
    """The SVM that separates ``positives`` ``(p, C)`` from ``negatives`` ``(n, C)``, both scaled already.

    Raises:
        ValueError: one of them is empty.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    if not len(positives) or not len(negatives):
        raise ValueError("an SVM needs positives and negatives")
    solver = LinearSVC(
        C=config.c,
        loss="hinge",
        dual=True,
        class_weight={1: config.positive_weight, -1: 1.0},
        intercept_scaling=config.bias,
        random_state=seed,
        max_iter=1000,
    )
    labels = np.repeat([1, -1], [len(positives), len(negatives)])
    with warnings.catch_warnings():
        # Not converged to the last digit: the margins are good to about the solver's tolerance all the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(np.concatenate([positives, negatives]).astype(np.float64), labels)
    return LinearSvm(solver.coef_[0].astype(np.float64), float(solver.intercept_[0]))


def feature_scale(features: FeatureTable, norm: float) -> float:
    """What multiplies features so that their mean length is ``norm``; 1 where all are 0."""
    total, count = 0.0, 0
    for _, block in features.blocks():
        total += float(np.sqrt(np.einsum("nc,nc->n", block, block, dtype=np.float64)).sum())
        count += len(block)
    return norm * count / total if total > 0 else 1.0
