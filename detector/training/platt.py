"""From margins to probabilities: Platt's sigmoid, with smoothed targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from proposals.calibration import fit_calibration, sigmoid

Margins = NDArray[np.float64]
SMALLEST_SLOPE = 1e-3  # so that a sigmoid never turns the order of the margins round, nor makes all of them equal


class Sigmoid(NamedTuple):
    """``probability = 1 / (1 + exp(-(slope * margin + offset)))``; the slope is positive."""

    slope: float
    offset: float

    def __call__(self, margins: Margins) -> Margins:
        """Probabilities of margins of any shape."""
        return sigmoid(self.slope * margins + self.offset)


def fit_sigmoid(margins: Margins, positive: NDArray[np.bool_]) -> Sigmoid:
    """The sigmoid of greatest likelihood for ``margins`` ``(n,)`` of which some are ``positive`` ``(n,)``.

    Without a positive or without a negative it is that of the smoothed share of positives at a margin of 0.
    """
    count, ones = len(margins), int(positive.sum())
    if ones in (0, count):
        return Sigmoid(1.0, float(np.log((ones + 1) / (count - ones + 1))))
    found = fit_calibration(margins, positive)
    return Sigmoid(max(found.slope, SMALLEST_SLOPE), found.offset)
