"""Scores into probabilities: Platt's scaling.

A calibrated score is the share of detections of that score that are right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from proposals.errors import UserError

ITERATIONS = 100
TOLERANCE = 1e-9


class Calibration(BaseModel):
    """score = sigmoid(slope * logit + offset); the default leaves the confidence as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)

    def __call__(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores in [0, 1] of ``logits``, of the same shape; the order of the logits is kept."""
        return sigmoid(self.slope * logits.astype(np.float64) + self.offset).astype(np.float32)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def fit_calibration(logits: NDArray[np.floating], hits: NDArray[np.bool_]) -> Calibration:
    """The calibration of greatest likelihood (Platt 1999, with his smoothed targets, so that it always exists).

    Args:
        logits: ``(N,)`` of boxes in images that were not trained on. hits: ``(N,)``, which boxes are on an object.

    Raises:
        UserError: no boxes, logits that are not finite, or none or all of them hits. ValueError: lengths differ.
    """
    if logits.shape != hits.shape or logits.ndim != 1:
        raise ValueError(f"logits {logits.shape} and hits {hits.shape} must be of one length")
    good, bad = int(hits.sum()), int((~hits).sum())
    if not good or not bad or not np.isfinite(logits).all():
        raise UserError(f"no calibration from {good} boxes on objects and {bad} others: both are needed, and finite")
    # In units of the logits' spread, so that the steps below are well scaled.
    centre, unit = float(np.mean(logits)), float(np.std(logits)) or 1.0
    x = np.stack([(logits.astype(np.float64) - centre) / unit, np.ones(len(logits))], axis=1)
    target = np.where(hits, (good + 1) / (good + 2), 1 / (bad + 2))

    def loss(w: NDArray[np.float64]) -> float:
        z = x @ w
        return float(np.sum(np.logaddexp(0, z) - target * z))

    weights = np.array([0.0, np.log((good + 1) / (bad + 1))])
    for _ in range(ITERATIONS):  # Newton's method, halving the step where it overshoots
        p = sigmoid(x @ weights)
        gradient = x.T @ (p - target)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        share = 1.0
        while share > TOLERANCE and loss(weights - share * step) > loss(weights):
            share /= 2
        weights = weights - share * step
        if np.abs(share * step).max() < TOLERANCE:
            break
    slope = float(weights[0] / unit)
    if slope <= 0:  # the confidences say nothing of where objects are: keep their order, at the rate of hits
        slope = 1e-6
        return Calibration(slope=slope, offset=float(np.log((good + 1) / (bad + 1))))
    return Calibration(slope=slope, offset=float(weights[1] - weights[0] * centre / unit))
