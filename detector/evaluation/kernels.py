"""The matching loops, compiled once by numba and cached on disk.

Every loop states its protocol's rule as plainly as the official kit does; the tables they run on are made by
:mod:`detector.evaluation.prepare`. Shapes: N detections, M truths, T IoU thresholds, A area ranges, R recall levels.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2


@njit(cache=True, nogil=True)
def corner_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """IoU of two half-open corner boxes; 0 when they do not overlap, as in the VOC devkit."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    iou: float = shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
    return iou


@njit(cache=True, nogil=True)
def match_voc(
    boxes: NDArray[np.float64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    truth_boxes: NDArray[np.float64],
    counted: NDArray[np.bool_],
    iou_threshold: float,
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """VOC: each detection takes its best-IoU truth, taken or not; the first of equals.

    Args:
        boxes: ``(N, 4)`` in order of evaluation. first, last: ``(N,)``, each detection's range of ``truth_boxes``.
        truth_boxes: ``(M, 4)``. counted: ``(M,)``; the others absorb a detection without reward or punishment.

    Returns:
        ``(N,)`` outcomes; ``(N,)`` the truth that made it a true positive or ignored, else -1.
    """
    outcome = np.zeros(len(boxes), np.int8)
    matched = np.full(len(boxes), -1, np.int64)
    taken = np.zeros(len(truth_boxes), np.bool_)
    for d in range(len(boxes)):
        best, best_iou = -1, -1.0
        for g in range(first[d], last[d]):
            iou = corner_iou(boxes[d], truth_boxes[g])
            if iou > best_iou:
                best, best_iou = g, iou
        if best >= 0 and best_iou >= iou_threshold:
            if not counted[best]:
                outcome[d], matched[d] = IGNORED, best
            elif not taken[best]:
                taken[best] = True
                outcome[d], matched[d] = TRUE_POSITIVE, best
    return outcome, matched


@njit(cache=True, nogil=True)
def match_ilsvrc(
    boxes: NDArray[np.float64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    truth_boxes: NDArray[np.float64],
    counted: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """ILSVRC DET: the best truth not yet taken whose own threshold the IoU reaches; the first of equals.

    A truth that does not count is tried last and absorbs any number of detections (the kit knows none of these).
    Arguments and results as for :func:`match_voc`; ``thresholds`` ``(M,)`` is per truth.
    """
    outcome = np.zeros(len(boxes), np.int8)
    matched = np.full(len(boxes), -1, np.int64)
    taken = np.zeros(len(truth_boxes), np.bool_)
    for d in range(len(boxes)):
        best, best_iou, spare = -1, -1.0, -1
        for g in range(first[d], last[d]):
            if taken[g]:
                continue
            iou = corner_iou(boxes[d], truth_boxes[g])
            if iou > 0 and iou >= thresholds[g]:
                if not counted[g]:
                    spare = g
                elif iou > best_iou:
                    best, best_iou = g, iou
        if best >= 0:
            taken[best] = True
            outcome[d], matched[d] = TRUE_POSITIVE, best
        elif spare >= 0:
            outcome[d], matched[d] = IGNORED, spare
    return outcome, matched


@njit(cache=True, nogil=True)
def _coco_iou(d: NDArray[np.float64], g: NDArray[np.float64], crowd: bool) -> float:
    """IoU of two ``x y w h`` boxes; with a crowd, the share of the detection inside it."""
    width = min(d[2] + d[0], g[2] + g[0]) - max(d[0], g[0])
    if width <= 0:
        return 0.0
    height = min(d[3] + d[1], g[3] + g[1]) - max(d[1], g[1])
    if height <= 0:
        return 0.0
    shared = width * height
    union = d[2] * d[3] if crowd else d[2] * d[3] + g[2] * g[3] - shared
    return shared / union if union != 0 else np.inf


@njit(cache=True, nogil=True)
def match_coco(
    boxes: NDArray[np.float64],
    groups: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    truth_boxes: NDArray[np.float64],
    areas: NDArray[np.float64],
    ignore: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    iou_thresholds: NDArray[np.float64],
    area_ranges: NDArray[np.float64],
    max_detections: int,
) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int64]]:
    """COCO: the best truth not yet taken, counted ones before ignored ones, the last of equals.

    Args:
        boxes: ``(N, 4)`` ``x y w h``, the detections of one image and class together, by descending score.
        groups: ``(G + 1,)`` where each such group starts. first, last: ``(G,)`` its range of ``truth_boxes``.
        truth_boxes: ``(M, 4)`` ``x y w h``. areas, ignore, crowd: ``(M,)``; a crowd is always ignored.
        iou_thresholds: ``(T,)``. area_ranges: ``(A, 2)``, both ends inside.
        max_detections: the best so many of a group take part; the others are ignored.

    Returns:
        ``(A, T, N)`` outcomes; ``(N,)`` rank within the group; ``(N,)`` truth matched in the first range at the first
        threshold, else -1.
    """
    n_areas, n_thresholds = len(area_ranges), len(iou_thresholds)
    outcome = np.full((n_areas, n_thresholds, len(boxes)), IGNORED, np.int8)
    matched = np.full(len(boxes), -1, np.int64)
    rank = np.zeros(len(boxes), np.int64)
    for i in range(len(groups) - 1):
        start, stop, g0, g1 = groups[i], groups[i + 1], first[i], last[i]
        n = min(stop - start, max_detections)
        m = g1 - g0
        for d in range(start, stop):
            rank[d] = d - start
        ious = np.empty((n, m))
        for d in range(n):
            for g in range(m):
                ious[d, g] = _coco_iou(boxes[start + d], truth_boxes[g0 + g], crowd[g0 + g])
        skip = np.empty(m, np.bool_)
        order = np.empty(m, np.int64)
        taken = np.empty(m, np.bool_)
        for a in range(n_areas):
            low, high = area_ranges[a]
            k = 0
            for g in range(m):
                skip[g] = crowd[g0 + g] or ignore[g0 + g] or areas[g0 + g] < low or areas[g0 + g] > high
                if not skip[g]:
                    order[k] = g
                    k += 1
            for g in range(m):
                if skip[g]:
                    order[k] = g
                    k += 1
            for t in range(n_thresholds):
                taken[:] = False
                for d in range(n):
                    best, best_iou = -1, min(iou_thresholds[t], 1 - 1e-10)
                    for j in range(m):
                        g = order[j]
                        if taken[g] and not crowd[g0 + g]:
                            continue
                        if best >= 0 and not skip[best] and skip[g]:
                            break
                        if ious[d, g] >= best_iou:
                            best, best_iou = g, ious[d, g]
                    if best >= 0:
                        taken[best] = True
                        outcome[a, t, start + d] = IGNORED if skip[best] else TRUE_POSITIVE
                        if a == 0 and t == 0:
                            matched[start + d] = g0 + best
                    else:
                        area = boxes[start + d, 2] * boxes[start + d, 3]
                        outcome[a, t, start + d] = IGNORED if area < low or area > high else FALSE_POSITIVE
    return outcome, rank, matched


@njit(cache=True, nogil=True)
def interpolated_precision(
    outcome: NDArray[np.int8],
    rank: NDArray[np.int64],
    max_rank: int,
    positives: int,
    recall_levels: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """COCO's precision ``(R,)`` at the recall levels ``(R,)``, and the final recall.

    ``outcome`` and ``rank`` ``(N,)`` are those of one class by descending score; ``positives`` must not be 0.
    """
    precision = np.empty(len(outcome))
    true = false = 0
    for d in range(len(outcome)):
        if rank[d] >= max_rank:
            continue
        if outcome[d] == TRUE_POSITIVE:
            true += 1
            # The reference adds the spacing of doubles at 1 so as not to divide by zero.
            precision[true - 1] = true / (false + true + 2.220446049250313e-16)
        elif outcome[d] == FALSE_POSITIVE:
            false += 1
    for i in range(true - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    i = 0
    out = np.zeros(len(recall_levels))
    for r in range(len(recall_levels)):
        # Only a true positive raises recall, so the first row that reaches a level is one.
        while i < true and (i + 1) / positives < recall_levels[r]:
            i += 1
        if i < true:
            out[r] = precision[i]
    return out, true / positives


@njit(cache=True, nogil=True)
def resampled_ap(
    outcome: NDArray[np.int8],
    image: NDArray[np.int64],
    truth_image: NDArray[np.int64],
    weights: NDArray[np.int32],
    recall_levels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """AP ``(B,)`` of one class in resamples where image ``i`` occurs ``weights[b, i]`` times.

    Args:
        outcome: ``(N,)`` by descending score. image: ``(N,)``. truth_image: ``(P,)``, the image of each counted truth.
        weights: ``(B, I)``. recall_levels: where precision is averaged; empty for the area under the curve.

    Returns:
        AP of each resample; NaN where it has no counted truth.
    """
    result = np.full(len(weights), np.nan)
    n_true = 0
    end = 0
    for d in range(len(outcome)):
        if outcome[d] == TRUE_POSITIVE:
            n_true += 1
            end = d + 1  # false positives below the last true one cost nothing
    reached = np.empty(n_true)
    precision = np.empty(n_true)
    for b in range(len(weights)):
        w = weights[b]
        positives = 0
        for g in range(len(truth_image)):
            positives += w[truth_image[g]]
        if positives == 0:
            continue
        true = false = 0
        rows = 0
        for d in range(end):
            weight = w[image[d]]
            if weight == 0:
                continue
            if outcome[d] == TRUE_POSITIVE:
                true += weight
                reached[rows] = true / positives
                precision[rows] = true / (true + false)
                rows += 1
            elif outcome[d] == FALSE_POSITIVE:
                false += weight
        total = 0.0
        best = 0.0
        level = len(recall_levels) - 1
        while level >= 0 and (rows == 0 or recall_levels[level] > reached[rows - 1]):
            level -= 1
        for i in range(rows - 1, -1, -1):
            before = reached[i - 1] if i > 0 else 0.0
            best = max(best, precision[i])
            if len(recall_levels) == 0:
                total += (reached[i] - before) * best
            else:
                while level >= 0 and (i == 0 or recall_levels[level] > before):
                    total += best
                    level -= 1
        result[b] = total if len(recall_levels) == 0 else total / len(recall_levels)
    return result


@njit(cache=True, nogil=True)
def nearest_truths(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    truth_boxes: NDArray[np.float64],
    truth_labels: NDArray[np.int64],
    truth_iou: NDArray[np.float64],
    taken: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The truths of its image that matter to each detection.

    Args:
        boxes, labels: ``(N, 4)``, ``(N,)``. first, last: ``(N,)``, the range of truths of each detection's image.
        truth_boxes, truth_labels, truth_iou, taken: ``(M, ...)`` counted truths, sorted by image; the IoU that each
            asks for, and whether a true positive has it.

    Returns:
        ``(N, 4)`` truths, -1 for none, and ``(N, 4)`` IoUs: the nearest of the class; the nearest of another class that
        is covered; the nearest of the class that is covered and taken; the nearest of all.
    """
    truth = np.full((len(boxes), 4), -1, np.int64)
    iou = np.zeros((len(boxes), 4))
    for d in range(len(boxes)):
        for g in range(first[d], last[d]):
            value = corner_iou(boxes[d], truth_boxes[g])
            own = truth_labels[g] == labels[d]
            covered = value >= truth_iou[g]
            wanted = (own, not own and covered, own and covered and taken[g], True)
            for k in range(4):
                if wanted[k] and (truth[d, k] < 0 or value > iou[d, k]):
                    truth[d, k], iou[d, k] = g, value
    return truth, iou
