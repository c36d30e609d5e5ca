"""Detections and truths sorted into the order of evaluation, and counted.

The protocols share all of this; only how they match differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import average_precision, precision_recall
from detector.evaluation.bootstrap import DEFAULT_LEVEL, bootstrap, corrected_interval, mean_of_classes
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
    sorted_truth = wanted.arranged(order, truth_image, np.lexsort((truth_image, wanted.labels)))

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
    return Prepared(tuple(class_names), sorted_found, sorted_truth, rows, first, last, rejected, given)


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
    matches = matches_of(prepared, outcome[None], matched, counted, truth_iou, np.array([iou_threshold]), style)
    positives = matches.positives()

    def ap(label: int, recall: NDArray[np.float64], precision: NDArray[np.float64]) -> dict[str, float]:
        return {"ap": average_precision(recall, precision, style) if positives[label] else float("nan")}

    return result_of(metric, matches, ap, counts=counts, settings=settings, samples=samples, seed=seed)


def matches_of(
    prepared: Prepared,
    outcome: NDArray[np.int8],
    matched: NDArray[np.int64],
    counted: NDArray[np.bool_],
    truth_iou: NDArray[np.float64],
    iou_thresholds: NDArray[np.float64],
    style: ApStyle,
) -> Matches:
    """The tables of ``prepared`` with what became of them; see :class:`Matches`."""
    names, found, truth, rows = prepared.class_names, prepared.detections, prepared.truth, prepared.rows
    return Matches(names, found, truth, rows, outcome, matched, counted, truth_iou, iou_thresholds, style)


def result_of(
    metric: str,
    matches: Matches,
    numbers_of: Callable[[int, NDArray[np.float64], NDArray[np.float64]], dict[str, float]],
    numbers: dict[str, float] | None = None,
    *,
    counts: Counts,
    settings: dict[str, object],
    samples: int,
    seed: int,
) -> EvaluationResult:
    """The result of any protocol, with its intervals.

    Args:
        numbers_of: the numbers of a class, ``ap`` among them, from its label and the recall and precision ``(P,)`` of
            its counted detections at the first IoU threshold.
        numbers: the headline numbers, the mean AP first; None: the mean AP of the classes that have a counted truth.
    """
    positives = matches.positives()
    (spread,) = bootstrap([matches], samples=samples, seed=seed) if samples else (None,)
    classes = []
    for label, name in enumerate(matches.class_names):
        part = matches.class_slice(label)
        kept = matches.outcome[0, part] != Outcome.IGNORED
        true = matches.outcome[0, part][kept] == Outcome.TRUE_POSITIVE
        recall, precision = precision_recall(true, int(positives[label]))
        own = numbers_of(label, recall, precision)
        ap, found = own.pop("ap"), int(true.sum())
        classes.append(
            ClassResult(
                label=label,
                name=name,
                ap=ap,
                interval=None if spread is None else corrected_interval(spread[:, label], ap),
                truths=int(positives[label]),
                detections=len(true),
                true_positives=found,
                false_positives=len(true) - found,
                max_recall=found / positives[label] if positives[label] else float("nan"),
                recall=recall,
                precision=precision,
                scores=matches.detections.scores[part][kept],
                numbers=own,
            )
        )
    if numbers is None:
        defined = [row.ap for row in classes if row.truths]
        numbers = {"mean_ap": float(np.mean(defined)) if defined else float("nan")}
    mean_ap = next(iter(numbers.values()))
    if samples:
        settings = {**settings, "bootstrap_samples": samples, "bootstrap_seed": seed, "level": DEFAULT_LEVEL}
    return EvaluationResult(
        metric=metric,
        mean_ap=mean_ap,
        interval=None if spread is None else corrected_interval(mean_of_classes(spread), mean_ap),
        numbers=numbers,
        classes=tuple(classes),
        counts=counts,
        settings=settings,
        matches=matches,
    )


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
