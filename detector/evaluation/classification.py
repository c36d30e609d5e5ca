"""Top-1 and top-5 accuracy with 1, 10 or 144 crops (GoogLeNet paper, section 7).

A *window* is a box in the picture's own pixels together with whether it is mirrored, so that any classifier that takes
boxes can look through it: for whole pictures the windows are of the picture, for regions of the region.

- 1: the centre square, 224/256 of the shorter side.
- 10: four corners and centre of the centre square, that size, and their mirror images.
- 144: shorter side 256, 288, 320, 352; three squares along the longer side; in each the four corners, the centre and
  the whole square; and their mirror images: 4 x 3 x 6 x 2.

Probabilities are averaged over the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.evaluation.bootstrap import draw_weights, percentile_interval
from detector.evaluation.confidence import checked, expected_calibration_error
from detector.evaluation.result import Interval
from proposals.boxes import flip_horizontal

CROP_COUNTS = (1, 10, 144)
CROP = 224
SCALES = (256, 288, 320, 352)

Probabilities = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """How often the right class was among the best.

    Attributes:
        top1, top5: shares of the pictures or regions; NaN where there are none. The papers' error is 1 minus this.
        top1_interval, top5_interval: bootstrap intervals over the pictures; None where there are none.
        count: pictures or regions. crops: windows of each.
        calibration_error: the expected one of the best answers' probabilities, NaN where there are none; see
            :mod:`detector.evaluation.confidence`.
        by_class: top-1 accuracy by class name, NaN for a class without any.
    """

    top1: float
    top5: float
    top1_interval: Interval | None
    top5_interval: Interval | None
    count: int
    crops: int
    calibration_error: float
    by_class: dict[str, float]


def in_top_k(scores: ArrayLike, labels: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Whether each label is among the ``k`` highest scores; of equal scores the lower class goes first.

    Args:
        scores: ``(N, K)``, higher is better. labels: ``(N,)`` in [0, K). k: at least 1; all are if k >= K.

    Returns:
        ``(N,)`` bool.

    Raises:
        ValueError: other shapes, NaN scores, labels out of range.
    """
    table, wanted = checked(scores, labels)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    own = table[np.arange(len(table)), wanted][:, None]
    before = np.arange(table.shape[1])[None] < wanted[:, None]
    ahead = (table > own) | ((table == own) & before)
    result: NDArray[np.bool_] = ahead.sum(axis=1) < k
    return result


def topk_accuracy(scores: ArrayLike, labels: ArrayLike, k: int) -> float:
    """The share of labels among the ``k`` highest scores, NaN for none; see :func:`in_top_k`."""
    return _share(in_top_k(scores, labels, k))


def crop_windows(box: Sequence[float], crops: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Windows into ``box``, a picture or region ``x1 y1 x2 y2``.

    Returns:
        ``(crops, 4)`` float32 squares in the pixels of ``box``, and ``(crops,)`` bool, which of them are mirrored.
        Every mirrored window follows right after the same one upright.

    Raises:
        ValueError: ``crops`` is none of ``CROP_COUNTS``.
    """
    if crops not in CROP_COUNTS:
        raise ValueError(f"crops must be one of {CROP_COUNTS}, not {crops}")
    x1, y1, x2, y2 = (float(value) for value in box)
    side = min(x2 - x1, y2 - y1)
    middle = (x1 + (x2 - x1 - side) / 2, y1 + (y2 - y1 - side) / 2)
    if crops == 1:
        return np.array([_five(*middle, side, CROP / SCALES[0])[4]], np.float32), np.zeros(1, np.bool_)
    if crops == 10:
        windows = _five(*middle, side, CROP / SCALES[0])
    else:
        squares = ((x1, y1), middle, (x2 - side, y2 - side))
        windows = []
        for scale in SCALES:
            for left, top in squares:
                windows += [*_five(left, top, side, CROP / scale), (left, top, left + side, top + side)]
    return np.repeat(np.array(windows, np.float32), 2, axis=0), np.tile([False, True], len(windows))


def _five(left: float, top: float, side: float, share: float) -> list[tuple[float, float, float, float]]:
    """Four corners and the centre of a square, each ``share`` of its side."""
    part = side * share
    rest = side - part
    corners = [(left, top), (left + rest, top), (left, top + rest), (left + rest, top + rest)]
    return [(x, y, x + part, y + part) for x, y in [*corners, (left + rest / 2, top + rest / 2)]]


def region_probabilities(
    probabilities: Probabilities, image: NDArray[np.uint8], boxes: NDArray[np.floating], crops: int, whole: bool = True
) -> NDArray[np.float64]:
    """Probabilities ``(R, C)`` of regions, averaged over their windows.

    Args:
        probabilities: called with a picture and ``(N, 4)`` float32 boxes in it, returns ``(N, C)``.
        image: ``(H, W, 3)`` uint8 RGB. boxes: ``(R, 4)`` in its pixels. crops: one of ``CROP_COUNTS``.
        whole: with one crop, look at the region itself and not at its centre square, as detection does.
    """
    if not len(boxes):
        return np.zeros((0, 0))
    if crops == 1 and whole:
        return np.asarray(probabilities(image, np.asarray(boxes, np.float32)), np.float64)
    pairs = [crop_windows(box, crops) for box in boxes.tolist()]
    windows = np.concatenate([pair[0] for pair in pairs])
    mirrored = np.concatenate([pair[1] for pair in pairs])
    upright = probabilities(image, windows[~mirrored])
    table = np.empty((len(windows), upright.shape[1]))
    table[~mirrored] = upright
    if mirrored.any():
        flipped = flip_horizontal(windows[mirrored], image.shape[1])
        table[mirrored] = probabilities(np.ascontiguousarray(image[:, ::-1]), flipped)
    mean: NDArray[np.float64] = table.reshape(len(boxes), crops, -1).mean(axis=1)
    return mean


def evaluate_classification(
    probabilities: Probabilities,
    samples: Iterable[tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.int64]]],
    class_names: Sequence[str],
    *,
    crops: int = 1,
    whole: bool = True,
    bootstrap_samples: int = 1000,
    seed: int = 0,
) -> ClassificationResult:
    """Accuracy over pictures (one box around each) or over their regions.

    Args:
        probabilities: see :func:`region_probabilities`; columns beyond the class names (the background) are wrong
            answers.
        samples: picture ``(H, W, 3)`` uint8 RGB, boxes ``(R, 4)``, labels ``(R,)``.
        class_names: one per label. crops, whole: see :func:`region_probabilities`. bootstrap_samples: resamples of the
            pictures for the intervals. seed: of the resampling.
    """
    # One row a region: whether the right class is the best answer, whether it is among the five best, the best's
    # probability. One entry an image: how many regions it has.
    parts: list[NDArray[np.float64]] = []
    wanted: list[NDArray[np.int64]] = []
    for image, boxes, labels in samples:
        if len(boxes):
            scores = region_probabilities(probabilities, image, boxes, crops, whole)
            hits = [in_top_k(scores, labels, k).astype(np.float64) for k in (1, 5)]
            parts.append(np.stack([*hits, scores.max(axis=1)], axis=1))
            wanted.append(labels)
    table = np.concatenate([np.zeros((0, 3)), *parts])
    every = np.concatenate([np.zeros(0, np.int64), *wanted])
    top1, top5 = table[:, 0] > 0, table[:, 1] > 0
    # The regions of an image are no draws apart, so images are drawn: their hits and how many regions they have.
    sums = np.array([[*part[:, :2].sum(axis=0), len(part)] for part in parts]).reshape(-1, 3)
    weights = draw_weights(len(sums), bootstrap_samples if parts else 0, seed)
    drawn = np.concatenate([np.zeros((0, 3)), *(block @ sums for block in weights)])
    top1_interval, top5_interval = (percentile_interval(drawn[:, k] / drawn[:, 2]) for k in (0, 1))
    return ClassificationResult(
        top1=_share(top1),
        top5=_share(top5),
        top1_interval=top1_interval,
        top5_interval=top5_interval,
        count=len(every),
        crops=crops,
        # A mean of float32 softmaxes may exceed 1 by rounding.
        calibration_error=expected_calibration_error(np.clip(table[:, 2], 0, 1), top1),
        by_class={name: _share(top1[every == i]) for i, name in enumerate(class_names)},
    )


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")
