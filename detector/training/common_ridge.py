"""Ridge regression on many samples without holding them: sums over blocks, then any number of penalties.

One regression for the boxes of all classes is fitted so; see :mod:`detector.training.box_regression` for each class's
own. Whitening the targets, as R-CNN does, would change nothing here: all four share one penalty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class RidgeSums:
    """What ridge regression needs to know of features ``(n, D)`` and targets ``(n, T)``.

    Args:
        num_features: D. num_targets: T.
    """

    def __init__(self, num_features: int, num_targets: int) -> None:
        self.count = 0
        self.x, self.y = np.zeros(num_features), np.zeros(num_targets)
        self.xx, self.xy = np.zeros((num_features, num_features)), np.zeros((num_features, num_targets))

    def add(self, features: NDArray[np.floating], targets: Matrix, block: int = 1024) -> None:
        """Take samples in; summed in float64, ``block`` of them at a time."""
        for start in range(0, len(features), block):
            x = features[start : start + block].astype(np.float64)
            y = targets[start : start + block]
            self.count += len(x)
            self.x += x.sum(axis=0)
            self.y += y.sum(axis=0)
            self.xx += x.T @ x
            self.xy += x.T @ y

    def __add__(self, other: RidgeSums) -> RidgeSums:
        """The sums over the samples of both."""
        both = RidgeSums(len(self.x), len(self.y))
        both.count = self.count + other.count
        both.x, both.y, both.xx, both.xy = (
            mine + theirs
            for mine, theirs in zip(
                (self.x, self.y, self.xx, self.xy), (other.x, other.y, other.xx, other.xy), strict=True
            )
        )
        return both

    @property
    def mean_square(self) -> float:
        """The mean squared length of the features."""
        return float(np.trace(self.xx)) / max(self.count, 1)

    def solve(self, penalty: float) -> tuple[Matrix, Matrix]:
        """Weights ``(T, D)`` and bias ``(T,)``; ``penalty`` is on the weights alone.

        Raises:
            ValueError: nothing was added, or ``penalty`` is not positive.
        """
        if not self.count or not penalty > 0:
            raise ValueError("ridge regression needs samples and a positive penalty")
        centre, mean = self.x / self.count, self.y / self.count
        gram = self.xx - self.count * np.outer(centre, centre)
        gram[np.diag_indices_from(gram)] += penalty
        weights = np.asarray(np.linalg.solve(gram, self.xy - self.count * np.outer(centre, mean)).T, np.float64)
        return weights, mean - weights @ centre
