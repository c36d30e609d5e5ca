"""Calibration, confusion, and recall by size and shape, from the matches of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.analysis_types import Calibration, ConfusionMatrix, RecallBin
from detector.evaluation.confidence import expected_calibration_error, reliability
from detector.evaluation.matches import Matches, Outcome
from proposals.boxes import FloatArray, iou

SCORE_BINS = 10
# COCO's borders between small, medium and large are 32 and 96.
SIZE_EDGES = (0.0, 16.0, 32.0, 64.0, 96.0, 128.0, 256.0, float("inf"))
ASPECT_EDGES = (0.0, 1 / 3, 2 / 3, 3 / 2, 3.0, float("inf"))
ASPECT_NAMES = ("very tall", "tall", "about square", "wide", "very wide")


def calibration(matches: Matches) -> Calibration:
    """How far scores are from the share of true positives, in equal bins of [0, 1].

    Counted detections at the first IoU threshold.
    """
    kept = matches.outcome[0] != Outcome.IGNORED
    scores, labels = matches.detections.scores[kept], matches.detections.labels[kept]
    true = matches.outcome[0][kept] == Outcome.TRUE_POSITIVE
    inside = (scores >= 0) & (scores <= 1)
    count, mean_score, precision = reliability(scores[inside], true[inside], SCORE_BINS)
    by_class = {}
    for label, name in enumerate(matches.class_names):
        own = inside & (labels == label)
        by_class[name] = expected_calibration_error(scores[own], true[own], SCORE_BINS)
    gap = np.abs(mean_score - precision)[count > 0]
    return Calibration(
        edges=np.linspace(0, 1, SCORE_BINS + 1),
        count=count,
        mean_score=mean_score,
        precision=precision,
        expected_error=expected_calibration_error(scores[inside], true[inside], SCORE_BINS),
        max_error=float(gap.max()) if len(gap) else float("nan"),
        by_class=by_class,
        outside=int((~inside).sum()),
    )


def best_f1_threshold(matches: Matches) -> float:
    """The score from which detections of all classes together have the best F1; 0 where nothing is true."""
    kept = matches.outcome[0] != Outcome.IGNORED
    scores = matches.detections.scores[kept]
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum((matches.outcome[0][kept] == Outcome.TRUE_POSITIVE)[order])
    if not len(true) or true[-1] == 0:
        return 0.0
    f1 = 2 * true / (np.arange(1, len(true) + 1) + int(matches.counted.sum()))
    # Detections of one score stand or fall together, so only the last of equals is a place to cut.
    f1[:-1][np.diff(scores[order]) == 0] = -1
    return float(scores[order][np.argmax(f1)])


def confusion_matrix(
    matches: Matches, *, score_threshold: float | None = None, iou_threshold: float = 0.5
) -> ConfusionMatrix:
    """Which class is taken for which; ignored detections and truths take no part.

    Args:
        score_threshold: least score; by default :func:`best_f1_threshold`. iou_threshold: least IoU of a pair.
    """
    if score_threshold is None:
        score_threshold = best_f1_threshold(matches)
    n_classes = len(matches.class_names)
    rows = np.flatnonzero((matches.outcome[0] != Outcome.IGNORED) & (matches.detections.scores >= score_threshold))
    rows = rows[np.lexsort((-matches.detections.scores[rows], matches.detections.image[rows]))]
    truths = np.flatnonzero(matches.counted)
    truths = truths[np.argsort(matches.truth.image[truths], kind="stable")]
    labels, truth_labels = matches.detections.labels[rows], matches.truth.labels[truths]
    image, truth_image = matches.detections.image[rows], matches.truth.image[truths]
    partner = np.full(len(rows), -1)
    for each in np.intersect1d(image, truth_image):
        (d0, d1), (g0, g1) = (np.searchsorted(column, (each, each + 1)) for column in (image, truth_image))
        ious = iou(matches.detections.boxes[rows[d0:d1]], matches.truth.boxes[truths[g0:g1]])
        partner[d0:d1] = _pair_by_iou(ious, labels[d0:d1, None] == truth_labels[g0:g1], iou_threshold)
        partner[d0:d1][partner[d0:d1] >= 0] += g0
    matrix = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    paired = partner >= 0
    np.add.at(matrix, (truth_labels[partner[paired]], labels[paired]), 1)
    np.add.at(matrix[n_classes], labels[~paired], 1)
    alone = np.ones(len(truths), np.bool_)
    alone[partner[paired]] = False
    np.add.at(matrix[:, n_classes], truth_labels[alone], 1)
    return ConfusionMatrix(matches.class_names, matrix, float(score_threshold), iou_threshold)


def _pair_by_iou(ious: FloatArray, alike: NDArray[np.bool_], iou_threshold: float) -> NDArray[np.int64]:
    """The truth ``(N,)`` of each detection of an image, or -1: pairs one to one, the highest IoU first.

    Of equal IoUs a pair of one class goes first, then the earlier detection, then the earlier truth.

    Args:
        ious, alike: ``(N, M)``, of detections with truths; whether they are of one class. iou_threshold: the least.
    """
    partner: NDArray[np.int64] = np.full(len(ious), -1)
    free = np.ones(ious.shape[1], np.bool_)
    found, truth = np.nonzero(ious >= iou_threshold)
    for i in np.lexsort((~alike[found, truth], -ious[found, truth])):
        if partner[found[i]] < 0 and free[truth[i]]:
            partner[found[i]], free[truth[i]] = truth[i], False
    return partner


def recall_by_size(matches: Matches) -> tuple[RecallBin, ...]:
    """Recall by the side in pixels of a square of the truth's area."""
    side = np.sqrt(np.maximum(matches.truth.area, 0))
    middle = [f"{low:.0f} to {high:.0f} px" for low, high in pairwise(SIZE_EDGES[1:-1])]
    names = [f"under {SIZE_EDGES[1]:.0f} px", *middle, f"{SIZE_EDGES[-2]:.0f} px and more"]
    return _recall_bins(matches, side, SIZE_EDGES, names)


def recall_by_aspect(matches: Matches) -> tuple[RecallBin, ...]:
    """Recall by width / height of the truth's box."""
    sides = matches.truth.sides
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = np.nan_to_num(sides[:, 0] / sides[:, 1], nan=1.0, posinf=1e300, neginf=0.0)
    return _recall_bins(matches, np.maximum(aspect, 0), ASPECT_EDGES, ASPECT_NAMES)


def _recall_bins(
    matches: Matches, values: NDArray[np.float64], edges: Sequence[float], names: Sequence[str]
) -> tuple[RecallBin, ...]:
    found = matches.taken()
    index = np.digitize(values, edges) - 1
    bins = []
    for i, name in enumerate(names):
        inside = matches.counted & (index == i)
        n, hits = int(inside.sum()), int((inside & found).sum())
        high = edges[i + 1] if np.isfinite(edges[i + 1]) else float("nan")
        bins.append(RecallBin(name, edges[i], high, n, hits, hits / n if n else float("nan")))
    return tuple(bins)
