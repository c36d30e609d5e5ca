"""How sure is an mAP? Intervals by resampling images, and whether one model beats another.

Images are drawn with replacement, because the boxes of one image are not independent. Matching never crosses images,
so a resample needs no new matching: an image drawn three times counts its detections and objects three times.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import RECALL_LEVELS
from detector.evaluation.kernels import resampled_ap
from detector.evaluation.matches import Matches, Outcome
from detector.evaluation.result import Interval

DEFAULT_LEVEL = 0.95
_BLOCK = 1 << 25


def percentile_interval(values: NDArray[np.float64], level: float = DEFAULT_LEVEL) -> Interval | None:
    """The middle ``level`` of ``values`` ``(B,)``, NaN left out; None if nothing is left."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, len(values))


def corrected_interval(values: NDArray[np.float64], estimate: float, level: float = DEFAULT_LEVEL) -> Interval | None:
    """The percentile interval of resamples ``values`` ``(B,)``, moved by their bias onto ``estimate``, within [0, 1].

    A resample lacks over a third of the images, and with them whole rare classes, and it doubles others, so its mAP is
    off to one side of the true one. With many classes that bias can be several times the spread; Efron's
    bias-corrected quantiles then shrink to a point beside the estimate, a plain shift keeps the spread. NaN resamples
    are left out; None if nothing is left.
    """
    plain = percentile_interval(values, level)
    if plain is None or np.isnan(estimate):
        return None
    bias = float(np.nanmean(values)) - estimate
    low, high = (float(np.clip(end - bias, 0.0, 1.0)) for end in (plain.low, plain.high))
    return Interval(low, high, level, plain.samples)


def draw_weights(n_images: int, samples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """How often each image occurs in each resample: blocks ``(b, I)`` int32 of 128 MB, ``samples`` lines in all.

    Every line sums to ``n_images``.
    """
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK // max(n_images, 1))
    for start in range(0, samples, size):
        block = np.zeros((min(size, samples - start), n_images), np.int32)
        for line in block:
            # As many uniform draws as images: a multinomial, and faster than numpy's for many images.
            line += np.bincount(rng.integers(0, max(n_images, 1), n_images), minlength=n_images)
        yield block


def bootstrap(several: Sequence[Matches], *, samples: int, seed: int) -> list[NDArray[np.float64]]:
    """AP ``(B, K)`` of every class in ``samples`` resamples of the images, drawn from ``seed``, of each evaluation.

    All are of one data set, and every resample is the same images for all of them. NaN where a resample has no counted
    truth of the class.
    """
    n_images = len(several[0].truth.image_ids)
    parts: list[list[NDArray[np.float64]]] = [[] for _ in several]
    for weights in draw_weights(n_images, samples, seed):
        for matches, part in zip(several, parts, strict=True):
            part.append(weighted_aps(matches, weights))
    return [np.concatenate(part) for part in parts]


def weighted_aps(matches: Matches, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """AP ``(B, K)`` where image ``i`` counts ``weights[b, i]`` times, ``weights`` being ``(B, I)`` int32.

    NaN where a class has no counted truth. COCO: the mean over the IoU thresholds.
    """
    levels = RECALL_LEVELS[matches.ap_style]
    n_classes = len(matches.class_names)
    by_class = np.full((len(weights), n_classes), np.nan)
    truth_labels, truth_image = matches.truth.labels[matches.counted], matches.truth.image[matches.counted]
    for label in range(n_classes):
        wanted = truth_image[truth_labels == label]
        if not len(wanted):
            continue
        part, lines = matches.class_slice(label), []
        for outcome in matches.outcome[:, part]:
            kept = outcome != Outcome.IGNORED
            image = matches.detections.image[part][kept]
            lines.append(resampled_ap(outcome[kept], image, wanted, weights, levels))
        by_class[:, label] = np.mean(lines, axis=0)
    return by_class


def mean_of_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """mAP ``(B,)`` of each resample, over the classes that it has, from APs ``(B, K)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any class gives NaN, as it should
        return np.asarray(np.nanmean(values, axis=1))
