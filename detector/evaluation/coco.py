"""COCO detection: AP over ten IoU thresholds, four area ranges and three limits on detections.

pycocotools is the reference: the numbers are its own for every input that it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import COCO_LEVELS
from detector.evaluation.kernels import IGNORED, interpolated_precision, match_coco
from detector.evaluation.prepare import DetectionInput, Prepared, TruthInput, prepare, result_of
from detector.evaluation.result import EvaluationResult

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
AREA_NAMES = ("all", "small", "medium", "large")
AREA_RANGES: NDArray[np.float64] = np.array([[0, 1e10], [0, 32.0**2], [32.0**2, 96.0**2], [96.0**2, 1e10]])
MAX_DETECTIONS = (1, 10, 100)


def evaluate_coco(
    detections: DetectionInput,
    truth: TruthInput,
    class_names: Sequence[str],
    *,
    max_detections: tuple[int, int, int] = MAX_DETECTIONS,
    bootstrap_samples: int = 0,
    seed: int = 0,
) -> EvaluationResult:
    """The official twelve numbers, and the same per class.

    Args:
        detections, truth, class_names, bootstrap_samples, seed: as for :func:`detector.evaluation.voc.evaluate_voc`.
            A truth that is ``crowd`` may take up many detections; one that is ``ignore`` takes up one. Neither counts.
            (pycocotools overwrites an annotation's own "ignore" with its "iscrowd"; annotations of COCO have none.)
        max_detections: how many detections of an image and class take part, ascending; AP uses the last.

    Returns:
        The result; ``metric`` is "coco", ``mean_ap`` is COCO's AP. Numbers that COCO prints as -1 (no such truth) are
        NaN. Curves, true and false positives of the classes are those at IoU 0.5, all areas.

    Raises:
        ValueError: a truth whose label has no name; limits that do not ascend.
    """
    if list(max_detections) != sorted(set(max_detections)) or len(max_detections) != 3 or max_detections[0] < 1:
        raise ValueError(f"max_detections must be three ascending numbers from 1, not {max_detections}")
    ready = prepare(detections, truth, class_names)
    limits = np.array(max_detections, np.int64)
    outcome, rank, matched = _match(ready, int(limits[-1]))
    uncounted = ready.truth.ignore | ready.truth.crowd
    counted = _counted(ready, uncounted)
    positives = [np.bincount(ready.truth.labels[each], minlength=len(class_names)) for each in counted]
    bounds = np.searchsorted(ready.detections.labels, np.arange(len(class_names) + 1))
    precision, recall = _accumulate(outcome, rank, bounds, np.stack(positives, axis=1), limits)
    truth_iou = np.full(len(uncounted), IOU_THRESHOLDS[0])
    beyond, hit = rank >= limits[-1], matched >= 0
    ignored = (outcome[0, 0] == IGNORED) & ~beyond
    return result_of(
        "coco",
        ready,
        ready.matches(outcome[0], matched, counted[0], truth_iou, IOU_THRESHOLDS, "101 point"),
        ignored={
            f"beyond the best {limits[-1]} of its image and class": int(beyond.sum()),
            "matched a crowd or ignored object": int((ignored & hit).sum()),
            "area out of range": int((ignored & ~hit).sum()),
        },
        truths_ignored={
            "crowd": int(ready.truth.crowd.sum()),
            "ignored": int((ready.truth.ignore & ~ready.truth.crowd).sum()),
            "area out of range": int((~uncounted & ~counted[0]).sum()),
        },
        settings={"max_detections": list(max_detections)},
        samples=bootstrap_samples,
        seed=seed,
        numbers=_numbers(precision, recall, limits),
        numbers_of=lambda label: _numbers(precision[:, :, label : label + 1], recall[:, label : label + 1], limits),
    )


def _match(ready: Prepared, limit: int) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int64]]:
    """Outcomes ``(A, T, N)``, ranks and matches ``(N,)`` in the order of ``ready``."""
    found, truth = ready.detections, ready.truth
    n = len(found)
    key = found.labels * max(len(truth.image_ids), 1) + found.image
    together = np.argsort(key, kind="stable")  # one image and class at a time, still by descending score
    sorted_key = key[together]
    starts = np.flatnonzero(np.diff(sorted_key, prepend=-1))
    outcome, rank, matched = match_coco(
        np.concatenate([found.boxes[:, :2], found.sides], axis=1)[together],
        np.append(starts, n),
        ready.first[together][starts],
        ready.last[together][starts],
        np.concatenate([truth.boxes[:, :2], truth.sides], axis=1),
        truth.area,
        truth.ignore,
        truth.crowd,
        IOU_THRESHOLDS,
        AREA_RANGES,
        limit,
    )
    back = np.empty(n, np.int64)
    back[together] = np.arange(n)
    for row in outcome.reshape(len(AREA_RANGES) * len(IOU_THRESHOLDS), n):  # a copy of all would double the memory
        row[:] = row[back]
    return outcome, rank[back], matched[back]


def _accumulate(
    outcome: NDArray[np.int8],
    rank: NDArray[np.int64],
    bounds: NDArray[np.int64],
    positives: NDArray[np.int64],
    limits: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision ``(T, R, K, A, D)`` and recall ``(T, K, A, D)`` of ``outcome`` ``(A, T, N)``; -1 without positives.

    ``bounds`` ``(K + 1,)``: where each class starts. ``positives``: ``(K, A)``. ``limits``: ``(D,)``, of the rank.
    """
    n_thresholds, (n_classes, n_areas) = len(IOU_THRESHOLDS), positives.shape
    precision = np.full((n_thresholds, len(COCO_LEVELS), n_classes, n_areas, len(limits)), -1.0)
    recall = np.full((n_thresholds, n_classes, n_areas, len(limits)), -1.0)
    for k, a in np.argwhere(positives):
        part = slice(bounds[k], bounds[k + 1])
        for t in range(n_thresholds):
            for d, limit in enumerate(limits):
                precision[t, :, k, a, d], recall[t, k, a, d] = interpolated_precision(
                    outcome[a, t, part], rank[part], limit, positives[k, a], COCO_LEVELS
                )
    return precision, recall


def _counted(ready: Prepared, uncounted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The truths that count in each area range, ``(A, M)``."""
    low, high = AREA_RANGES.T[:, :, None]
    counted: NDArray[np.bool_] = ~uncounted & (ready.truth.area >= low) & (ready.truth.area <= high)
    return counted


def _numbers(
    precision: NDArray[np.float64], recall: NDArray[np.float64], limits: NDArray[np.int64]
) -> dict[str, float]:
    """COCO's numbers: means over arrays whose cells are -1 where no truth counts.

    Args:
        precision: ``(T, R, K, A, D)`` by IoU threshold, recall level, class, area range and limit on detections.
        recall: ``(T, K, A, D)``. limits: ``(D,)``.
    """
    numbers = {"ap": _mean(precision[:, :, :, 0, -1])}
    for name, threshold in (("ap50", 0.5), ("ap75", 0.75)):
        line = int(np.argmin(np.abs(IOU_THRESHOLDS - threshold)))
        numbers[name] = _mean(precision[line, :, :, 0, -1])
    for area, name in enumerate(AREA_NAMES[1:], start=1):
        numbers[f"ap_{name}"] = _mean(precision[:, :, :, area, -1])
    for i, limit in enumerate(limits):
        numbers[f"ar_{limit}"] = _mean(recall[:, :, 0, i])
    for area, name in enumerate(AREA_NAMES[1:], start=1):
        numbers[f"ar_{name}"] = _mean(recall[:, :, area, -1])
    return numbers


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")
