"""Whether probabilities mean what they say, and the temperature that makes them (Guo et al., On Calibration of Modern
Neural Networks, 2017).

A classifier is calibrated if of the answers it gives with probability p a share of p are right. The expected
calibration error is the mean difference of the two over bins of equal width, weighted by the answers in each.

Glossary: n answers, C classes, background included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15  # as in the paper
COLDEST, HOTTEST = 0.05, 20.0


def reliability(
    confidences: ArrayLike, correct: ArrayLike, bins: int = BINS
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Answers by the bin of their confidence: the first holds those in [0, 1/B], the next those in (1/B, 2/B], ...

    Args:
        confidences: ``(n,)`` in [0, 1], of each answer. correct: ``(n,)`` bool. bins: B, of equal width.

    Returns:
        ``(B,)`` answers in each; ``(B,)`` their mean confidence; ``(B,)`` their accuracy; NaN where there are none.

    Raises:
        ValueError: other shapes, a confidence that is not in [0, 1], or no bins.
    """
    sure, right = np.asarray(confidences, np.float64), np.asarray(correct, np.bool_)
    if sure.ndim != 1 or right.shape != sure.shape or bins < 1:
        raise ValueError(f"confidences and correct must both be (n,), bins positive; not {sure.shape}, {right.shape}")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("confidences must be in [0, 1]")
    which = np.maximum(np.searchsorted(np.linspace(0, 1, bins + 1), sure, side="left") - 1, 0)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence, accuracy = (np.bincount(which, values, bins) / count for values in (sure, right))
    return count, confidence, accuracy


def expected_calibration_error(confidences: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """The mean of |accuracy - confidence| of :func:`reliability` over the answers, in [0, 1]; NaN without answers."""
    count, confidence, accuracy = reliability(confidences, correct, bins)
    total = int(count.sum())
    return float(np.nansum(count * np.abs(accuracy - confidence)) / total) if total else float("nan")


def checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """``scores`` ``(n, C)`` of answers and the right ones, ``labels`` ``(n,)``, as arrays.

    Raises:
        ValueError: other shapes, NaN scores, labels that are not in [0, C).
    """
    table, wanted = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    if table.ndim != 2 or wanted.shape != table.shape[:1]:
        raise ValueError(f"scores must be (n, C) and labels (n,), not {table.shape} and {wanted.shape}")
    if np.isnan(table).any():
        raise ValueError("scores must not be NaN")
    if len(wanted) and not 0 <= wanted.min() <= wanted.max() < table.shape[1]:
        raise ValueError(f"labels must be in [0, {table.shape[1]})")
    return table, wanted


def tempered(log_probs: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Logarithms ``(n, C)`` of the probabilities p^(1/T), made to sum to one, for ``log_probs`` ``(n, C)`` of p."""
    result: NDArray[np.float64] = log_softmax(np.asarray(log_probs, np.float64) / temperature, axis=1)
    return result


def negative_log_likelihood(log_probs: NDArray[np.floating], labels: NDArray[np.int64], temperature: float) -> float:
    """The mean of -log p of the right answers ``labels`` ``(n,)`` at a temperature; infinite if one has no chance."""
    return float(-tempered(log_probs, temperature)[np.arange(len(labels)), labels].mean())


def fit_temperature(log_probs: ArrayLike, labels: ArrayLike) -> float:
    """The temperature at which the right answers are likeliest, between ``COLDEST`` and ``HOTTEST``.

    Args:
        log_probs: ``(n, C)``; -inf for what has no chance. labels: ``(n,)`` in [0, C), the right answers.

    Answers whose right one has no chance at all say nothing about the temperature and are left out.

    Raises:
        ValueError: other shapes, labels out of range, NaN, or no answer is left.
    """
    table, wanted = checked(log_probs, labels)
    possible = np.isfinite(table[np.arange(len(table)), wanted])
    table, wanted = table[possible], wanted[possible]
    if not len(wanted):
        raise ValueError("a temperature needs answers of which the right one has a chance")
    # In 1 / T the likelihood has a single maximum, in log T as well, for a monotonous change of variable keeps it.
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(table, wanted, float(np.exp(log_t))),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))
