"""Detections and truths sorted into the order of evaluation, and counted.

The protocols share all of this; only how they match differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import average_precision, precision_recall
from detector.evaluation.bootstrap import DEFAULT_LEVEL, bootstrap
from detector.evaluation.matches import ApStyle, Matches, Outcome
from detector.evaluation.result import ClassResult, Counts, EvaluationResult
from detector.evaluation.tables import DetectionTable, TruthTable, canonical_order
from detector.types import Detections, GroundTruth

DetectionInput = Mapping[str, Detections] | DetectionTable
TruthInput = Mapping[str, GroundTruth] | TruthTable


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Tables in the order of evaluation; see :class:`detector.evaluation.matches.Matches` for the order.

    Attributes:
        first, last: ``(N,)`` int64, the range of truths of each detection's image and class.
        rejected: detections left out, by reason.
        given: how many detections were given in all.
    """

    class_names: tuple[str, ...]
    detections: DetectionTable
    truth: TruthTable
    rows: NDArray[np.int64]
    truth_rows: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    rejected: dict[str, int]
    given: int


def prepare(detections: DetectionInput, truth: TruthInput, class_names: Sequence[str]) -> Prepared:
    """Join, filter and sort.

    Args:
        detections: by image id, or a table. Those of an image or class that the data set lacks are counted, not used.
        truth: by image id, or a table. class_names: one per label.

    Raises:
        ValueError: a truth's label has no class name; an image id occurs twice.
    """
    found, wanted = DetectionTable.of(detections), TruthTable.of(truth)
    n_classes = len(class_names)
    if len(wanted.labels) and wanted.labels.max() >= n_classes:
        raise ValueError(f"a truth has label {wanted.labels.max()}, but there are {n_classes} class names")
    order = canonical_order(wanted.image_ids)
    image_ids = tuple(wanted.image_ids[i] for i in order)
    position = {name: i for i, name in enumerate(image_ids)}
    to_position = np.empty(len(order), np.int64)
    to_position[order] = np.arange(len(order))

    truth_image = to_position[wanted.image] if len(wanted) else wanted.image
    truth_rows = np.lexsort((truth_image, wanted.labels))
    sorted_truth = wanted.arranged(order, truth_image, truth_rows)

    join = np.array([position.get(name, -1) for name in found.image_ids], np.int64)
    image = join[found.image] if len(found) else found.image
    known_image = image >= 0
    known_class = (found.labels >= 0) & (found.labels < n_classes)
    rejected = dict(found.rejected)
    _add(rejected, "image not in the data set", int((~known_image).sum()))
    _add(rejected, "class not in the data set", int((known_image & ~known_class).sum()))
    rows = np.flatnonzero(known_image & known_class)
    rows = rows[np.lexsort((image[rows], -found.scores[rows], found.labels[rows]))]
    sorted_found = found.arranged(image_ids, image, rows)

    n_images = max(len(image_ids), 1)
    key = sorted_found.labels * n_images + sorted_found.image
    truth_key = sorted_truth.labels * n_images + sorted_truth.image
    first = np.searchsorted(truth_key, key, side="left")
    last = np.searchsorted(truth_key, key, side="right")
    given = len(found) + sum(found.rejected.values())
    return Prepared(tuple(class_names), sorted_found, sorted_truth, rows, truth_rows, first, last, rejected, given)


def count(
    prepared: Prepared,
    outcome: NDArray[np.int8],
    counted: NDArray[np.bool_],
    ignored: dict[str, int],
    truths_ignored: dict[str, int],
) -> Counts:
    """The counts of an evaluation whose ``outcome`` ``(N,)`` and ``counted`` ``(M,)`` are known.

    Args:
        ignored: detections that took part but were ignored, by reason. truths_ignored: truths, by reason.
    """
    found, truth = prepared.detections, prepared.truth
    reasons = dict(prepared.rejected)
    for reason, n in ignored.items():
        _add(reasons, reason, n)
    notes: dict[str, int] = {}
    _add(notes, "detections without area (they match nothing)", int((found.sides <= 0).any(axis=1).sum()))
    _add(notes, "detections outside their image", _outside(found.boxes, found.image, truth.image_sizes))
    _add(notes, "detections that repeat another exactly", _repeated(found))
    _add(notes, "objects without area", int((truth.sides <= 0).any(axis=1).sum()))
    _add(notes, "objects outside their image", _outside(truth.boxes, truth.image, truth.image_sizes))
    n_images = len(truth.image_ids)
    return Counts(
        images=n_images,
        images_without_truth=n_images - len(np.unique(truth.image)),
        images_without_detections=n_images - len(np.unique(found.image)),
        truths=len(truth) + sum(truth.rejected.values()),
        truths_counted=int(counted.sum()),
        truths_ignored={**truth.rejected, **{reason: n for reason, n in truths_ignored.items() if n}},
        detections=prepared.given,
        detections_counted=int((outcome != Outcome.IGNORED).sum()),
        detections_ignored=reasons,
        notes=notes,
    )


def single_threshold_result(
    metric: str,
    prepared: Prepared,
    outcome: NDArray[np.int8],
    matched: NDArray[np.int64],
    counted: NDArray[np.bool_],
    *,
    style: ApStyle,
    iou_threshold: float,
    truth_iou: NDArray[np.float64],
    counts: Counts,
    settings: dict[str, object],
    samples: int,
    seed: int,
) -> EvaluationResult:
    """The result of a protocol with one line of outcomes (VOC, ILSVRC)."""
    matches = Matches(
        prepared.class_names,
        prepared.detections,
        prepared.truth,
        prepared.rows,
        prepared.truth_rows,
        outcome[None],
        matched,
        counted,
        truth_iou,
        np.array([iou_threshold]),
        style,
    )
    spread = bootstrap(matches, samples=samples, seed=seed) if samples else None
    positives = matches.positives()
    classes = []
    for label, name in enumerate(prepared.class_names):
        curve = class_curve(matches, label)
        ap = average_precision(curve.recall, curve.precision, style) if positives[label] else float("nan")
        classes.append(
            ClassResult(
                label=label,
                name=name,
                ap=ap,
                interval=spread.class_interval(label, ap) if spread else None,
                truths=int(positives[label]),
                detections=len(curve.scores),
                true_positives=curve.true,
                false_positives=len(curve.scores) - curve.true,
                max_recall=curve.true / positives[label] if positives[label] else float("nan"),
                recall=curve.recall,
                precision=curve.precision,
                scores=curve.scores,
                numbers={},
            )
        )
    defined = [row.ap for row in classes if row.truths]
    mean_ap = float(np.mean(defined)) if defined else float("nan")
    if samples:
        settings = {**settings, "bootstrap_samples": samples, "bootstrap_seed": seed, "level": DEFAULT_LEVEL}
    return EvaluationResult(
        metric=metric,
        mean_ap=mean_ap,
        interval=spread.interval(mean_ap) if spread else None,
        numbers={"mean_ap": mean_ap},
        classes=tuple(classes),
        counts=counts,
        settings=settings,
        matches=matches,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Recall, precision and scores ``(P,)`` of the counted detections of a class, and how many are true."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]
    true: int


def class_curve(matches: Matches, label: int) -> Curve:
    """The curve of one class at the first IoU threshold."""
    part = matches.class_slice(label)
    outcome = matches.outcome[0, part]
    kept = outcome != Outcome.IGNORED
    true = outcome[kept] == Outcome.TRUE_POSITIVE
    recall, precision = precision_recall(true, int(matches.positives()[label]))
    return Curve(recall, precision, matches.detections.scores[part][kept], int(true.sum()))


def _add(reasons: dict[str, int], reason: str, n: int) -> None:
    if n:
        reasons[reason] = reasons.get(reason, 0) + n


def _outside(boxes: NDArray[np.float64], image: NDArray[np.int64], sizes: NDArray[np.int64]) -> int:
    if not len(boxes):
        return 0
    size = sizes[image]
    outside = (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0) | (boxes[:, 0] >= size[:, 1]) | (boxes[:, 1] >= size[:, 0])
    return int((outside & (size > 0).all(axis=1)).sum())


def _repeated(table: DetectionTable) -> int:
    if len(table) < 2:
        return 0
    same = (table.labels[1:] == table.labels[:-1]) & (table.image[1:] == table.image[:-1])
    same &= (table.scores[1:] == table.scores[:-1]) & (table.boxes[1:] == table.boxes[:-1]).all(axis=1)
    return int(same.sum())
