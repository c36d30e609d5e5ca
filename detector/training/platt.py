"""From margins to probabilities: Platt's sigmoid, fitted as Lin, Lin and Weng say (A note on Platt's probabilistic
outputs for support vector machines, Machine Learning 2007): smoothed targets, Newton's method with backtracking.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Margins = NDArray[np.float64]
STEPS = 100
SMALLEST_SLOPE = 1e-3  # so that a sigmoid never turns the order of the margins round, nor makes all of them equal


class Sigmoid(NamedTuple):
    """``probability = 1 / (1 + exp(-(slope * margin + offset)))``; the slope is positive."""

    slope: float
    offset: float

    def __call__(self, margins: Margins) -> Margins:
        """Probabilities of margins of any shape."""
        return np.asarray(0.5 * (1 + np.tanh(0.5 * (self.slope * margins + self.offset))))


def fit_sigmoid(margins: Margins, positive: NDArray[np.bool_]) -> Sigmoid:
    """The sigmoid of greatest likelihood for ``margins`` ``(n,)`` of which some are ``positive`` ``(n,)``.

    Without a positive or without a negative it is that of the smoothed share of positives at a margin of 0.
    """
    count, ones = len(margins), int(positive.sum())
    high, low = (ones + 1) / (ones + 2), 1 / (count - ones + 2)
    target = np.where(positive, high, low)
    slope, offset = 0.0, float(np.log((ones + 1) / (count - ones + 1)))
    if ones in (0, count):
        return Sigmoid(1.0, offset)

    def loss(slope: float, offset: float) -> float:
        z = slope * margins + offset
        return float(np.sum(np.logaddexp(0, z) - target * z))

    value = loss(slope, offset)
    for _ in range(STEPS):
        p = Sigmoid(slope, offset)(margins)
        gradient = np.array([np.dot(p - target, margins), np.sum(p - target)])
        if np.abs(gradient).max() < 1e-5:
            break
        w = p * (1 - p)
        cross = np.dot(w, margins)
        hessian = np.array([[np.dot(w, margins**2) + 1e-12, cross], [cross, w.sum() + 1e-12]])
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size >= 1e-10:
            trial = loss(slope - size * step[0], offset - size * step[1])
            if trial < value - 1e-4 * size * float(gradient @ step):
                break
            size /= 2
        else:
            break
        slope, offset, value = slope - size * step[0], offset - size * step[1], trial
    return Sigmoid(max(float(slope), SMALLEST_SLOPE), float(offset))
