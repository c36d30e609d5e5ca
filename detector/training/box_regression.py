"""Class-wise ridge regression from what the trunk sees in a region to the box of its object (R-CNN, appendix C).

For each class the targets tx ty tw th of its regions are whitened (their covariance's eigenvectors, each scaled to unit
variance) and regressed on grid features with a penalty, lambda = 1000 in R-CNN, on weights but not on the bias.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Matrix = NDArray[np.float64]
WHITENING = 0.001  # added to the variances before their roots are divided by, as in R-CNN's code


class RegressionConfig(BaseModel):
    """How boxes are regressed.

    Attributes:
        penalty: lambda, for features scaled to ``feature_norm``. feature_norm: as of the machines.
        minimum_iou: regions are used from this IoU with their object on.
        minimum_regions: a class with fewer is regressed by what all classes together teach.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    penalty: float = Field(default=300.0, gt=0)
    feature_norm: float = Field(default=20.0, gt=0)
    minimum_iou: float = Field(default=0.5, gt=0, le=1)
    minimum_regions: int = Field(default=50, ge=1)


def fit_ridge(features: NDArray[np.float32], targets: Matrix, penalty: float) -> tuple[Matrix, Matrix]:
    """Weights ``(4, D)`` and bias ``(4,)`` for features ``(n, D)`` and targets ``(n, 4)``; n is at least 1.

    Solved among the D weights or the n regions, whichever are fewer: the result is the same.
    """
    mean, centre = targets.mean(axis=0), features.mean(axis=0, dtype=np.float64)
    centred = targets - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(targets))
    scale = np.sqrt(np.maximum(variances, 0) + WHITENING)
    whitened = centred @ directions / scale  # (n, 4)
    x = features.astype(np.float64) - centre
    if x.shape[1] <= len(x):
        gram = x.T @ x
        gram[np.diag_indices_from(gram)] += penalty
        weights = np.linalg.solve(gram, x.T @ whitened)
    else:
        gram = x @ x.T
        gram[np.diag_indices_from(gram)] += penalty
        weights = x.T @ np.linalg.solve(gram, whitened)
    weights = (weights * scale) @ directions.T  # (D, 4), for the targets as they were
    return weights.T, mean - centre @ weights


def fit_regression(
    features: NDArray[np.float32],
    targets: Matrix,
    labels: NDArray[np.int64],
    num_classes: int,
    config: RegressionConfig,
) -> tuple[Matrix, Matrix] | None:
    """Weights ``(K, 4, D)`` and biases ``(K, 4)``; ``None`` without any region.

    Args:
        features: ``(n, D)``. targets: ``(n, 4)``. labels: ``(n,)`` in [0, K), the class of each region's object.
    """
    if not len(features):
        return None
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    mean_length = float(lengths.mean())
    norm = config.feature_norm / mean_length if mean_length > 0 else 1.0
    # Scaling features by s is the same as dividing the penalty by s squared, and needs no copy of them.
    penalty = config.penalty / norm**2
    weights = np.empty((num_classes, 4, features.shape[1]))
    biases = np.empty((num_classes, 4))
    common: tuple[Matrix, Matrix] | None = None
    for label in range(num_classes):
        own = labels == label
        if own.sum() >= config.minimum_regions:
            weights[label], biases[label] = fit_ridge(features[own], targets[own], penalty)
            continue
        if common is None:
            common = fit_ridge(features, targets, penalty)
        weights[label], biases[label] = common
    return weights, biases
