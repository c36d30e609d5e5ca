"""How unsure a detector is of an image, which decides what is labelled next (active learning)."""

from __future__ import annotations

import numpy as np

from detector.types import Detections

LEAST_SCORE = 0.05
"""Detections below it are background that an image has more of the more proposals it has."""


def uncertainty(found: Detections) -> float:
    """The entropies, in bits, of the scores of ``found``, summed: each is a yes or no, of which 0.5 knows least.

    Detections should go down to a score of ``LEAST_SCORE``; lower ones do not count. Entropy of binary outputs: E.
    Haussmann et al., *Scalable active learning for object detection*, IV 2020. The sum over detections, which did best
    among sum, mean and maximum: C.-A. Brust et al., *Active learning for deep object detection*, VISAPP 2019.
    """
    p = found.scores[found.scores >= LEAST_SCORE].astype(np.float64).clip(1e-9, 1 - 1e-9)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum())
