"""Is B better than A? Both are scored on the same resamples of the images (paired bootstrap)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.bootstrap import DEFAULT_LEVEL, bootstrap, mean_of_classes, percentile_interval
from detector.evaluation.result import EvaluationResult, Interval

# The least p-value is 2 / (samples + 1), and Holm multiplies it by the number of classes.
LEAST_SAMPLES, SAMPLES_PER_CLASS = 2000, 100


@dataclass(frozen=True, slots=True)
class Difference:
    """B minus A of one class, or of the mean.

    Attributes:
        name: the class, or "mean". a, b: the two APs. difference: ``b - a``; NaN where either is not defined.
        interval: of the difference over resamples; None where no resample has it.
        p_value: two-sided, of the difference being 0; never below ``2 / (samples + 1)``; NaN without interval.
        adjusted_p: of a class, after Holm's correction for all classes together; of the mean, ``p_value``.
        verdict: "B is better", "A is better", or "no difference shown", at the interval's level, by ``adjusted_p``.
    """

    name: str
    a: float
    b: float
    difference: float
    interval: Interval | None
    p_value: float
    adjusted_p: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations of one data set.

    Attributes:
        metric: the protocol. images: how many both were scored on. samples, seed, level: of the bootstrap.
        mean: of the mAPs. classes: by label.
    """

    metric: str
    images: int
    samples: int
    seed: int
    level: float
    mean: Difference
    classes: tuple[Difference, ...]


def compare(
    a: EvaluationResult, b: EvaluationResult, *, samples: int | None = None, seed: int = 0, level: float = DEFAULT_LEVEL
) -> Comparison:
    """Compare two results of one protocol on one data set.

    Args:
        a, b: with their matches. seed: of the draws. level: of the intervals and verdicts.
        samples: resamples; by default so many that one class of all can be told apart after the correction.

    Raises:
        ValueError: they differ in protocol, images, truths or classes, or carry no matches.
    """
    of_a, of_b = a.need_matches(), b.need_matches()
    if a.metric != b.metric or a.class_names != b.class_names:
        raise ValueError(f"different metrics or classes: {a.metric} and {b.metric}")
    truth, other = of_a.truth, of_b.truth
    same = truth.image_ids == other.image_ids and np.array_equal(truth.labels, other.labels)
    if not (same and np.array_equal(truth.boxes, other.boxes) and np.array_equal(of_a.counted, of_b.counted)):
        raise ValueError("the two results are not of the same images and objects")
    if samples is None:
        samples = max(LEAST_SAMPLES, SAMPLES_PER_CLASS * len(a.classes))
    spread_a, spread_b = bootstrap([of_a, of_b], samples=samples, seed=seed)
    drawn = spread_b - spread_a
    p_values = np.array([_p_value(drawn[:, label]) for label in range(drawn.shape[1])])
    adjusted = holm(p_values)
    classes = tuple(
        _difference(row.name, row.ap, other.ap, drawn[:, label], p_values[label], adjusted[label], level)
        for label, (row, other) in enumerate(zip(a.classes, b.classes, strict=True))
    )
    mean_drawn = mean_of_classes(spread_b) - mean_of_classes(spread_a)
    p_mean = _p_value(mean_drawn)
    mean = _difference("mean", a.mean_ap, b.mean_ap, mean_drawn, p_mean, p_mean, level)
    return Comparison(a.metric, len(truth.image_ids), samples, seed, level, mean, classes)


def _difference(
    name: str, a: float, b: float, drawn: NDArray[np.float64], p_value: float, adjusted: float, level: float
) -> Difference:
    verdict = "no difference shown"
    if adjusted < 1 - level:
        verdict = "B is better" if b > a else "A is better"
    interval = percentile_interval(drawn, level)
    return Difference(name, a, b, b - a, interval, float(p_value), float(adjusted), verdict)


def _p_value(drawn: NDArray[np.float64]) -> float:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return float("nan")
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(drawn) + 1))


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down correction of p-values ``(K,)``; NaN stays NaN and is not counted."""
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values, kind="stable")  # NaN last
    order = order[~np.isnan(p_values[order])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
