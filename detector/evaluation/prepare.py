"""Detections and truths sorted into the order of evaluation, and counted.

The protocols share all of this; only how they match differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import average_precision, mean_ap, precision_recall
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

    def matches(
        self,
        outcome: NDArray[np.int8],
        matched: NDArray[np.int64],
        counted: NDArray[np.bool_],
        truth_iou: NDArray[np.float64],
        iou_thresholds: Sequence[float] | NDArray[np.float64],
        style: ApStyle,
    ) -> Matches:
        """The tables with what became of them, see :class:`Matches`; ``outcome`` may be ``(N,)`` of one threshold."""
        lines, thresholds = np.atleast_2d(outcome), np.array(iou_thresholds, np.float64)
        tables = self.class_names, self.detections, self.truth, self.rows
        return Matches(*tables, lines, matched, counted, truth_iou, thresholds, style)


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
    truth_image = np.argsort(order)[wanted.image]
    sorted_truth = wanted.arranged(order, truth_image, np.lexsort((truth_image, wanted.labels)))

    join = np.array([position.get(name, -1) for name in found.image_ids], np.int64)
    image = join[found.image]
    known_image = image >= 0
    known_class = (found.labels >= 0) & (found.labels < n_classes)
    unknown = {
        "image not in the data set": int((~known_image).sum()),
        "class not in the data set": int((known_image & ~known_class).sum()),
    }
    rows = np.flatnonzero(known_image & known_class)
    rows = rows[np.lexsort((image[rows], -found.scores[rows], found.labels[rows]))]
    sorted_found = found.arranged(image_ids, image, rows)

    n_images = max(len(image_ids), 1)
    key = sorted_found.labels * n_images + sorted_found.image
    truth_key = sorted_truth.labels * n_images + sorted_truth.image
    first = np.searchsorted(truth_key, key, side="left")
    last = np.searchsorted(truth_key, key, side="right")
    given = len(found) + sum(found.rejected.values())
    rejected = _summed(found.rejected, unknown)
    return Prepared(tuple(class_names), sorted_found, sorted_truth, rows, first, last, rejected, given)


def result_of(
    metric: str,
    prepared: Prepared,
    matches: Matches,
    *,
    ignored: dict[str, int],
    truths_ignored: dict[str, int],
    settings: dict[str, object],
    samples: int,
    seed: int,
    numbers: dict[str, float] | None = None,
    numbers_of: Callable[[int], dict[str, float]] | None = None,
) -> EvaluationResult:
    """The result of any protocol, with its intervals.

    Args:
        ignored: detections that took part but were ignored, by reason. truths_ignored: truths, by reason.
        settings: of the protocol. samples, seed: of the bootstrap; 0 samples for none.
        numbers: the headline numbers, the mean AP first; None: the mean AP of the classes that have a counted truth.
        numbers_of: the numbers of a class by its label, ``ap`` among them; None: AP at the first IoU threshold.
    """
    positives = matches.positives()
    (spread,) = bootstrap([matches], samples=samples, seed=seed) if samples else (None,)
    classes = []
    for label, name in enumerate(matches.class_names):
        part = matches.class_slice(label)
        kept = matches.outcome[0, part] != Outcome.IGNORED
        true = matches.outcome[0, part][kept] == Outcome.TRUE_POSITIVE
        recall, precision = precision_recall(true, int(positives[label]))
        if numbers_of is not None:
            own = numbers_of(label)
        else:
            own = {"ap": average_precision(recall, precision, matches.ap_style) if positives[label] else float("nan")}
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
        numbers = {"mean_ap": mean_ap(np.array([row.ap for row in classes if row.truths]))}
    main = next(iter(numbers.values()))
    if samples:
        settings = {**settings, "bootstrap_samples": samples, "bootstrap_seed": seed, "level": DEFAULT_LEVEL}
    return EvaluationResult(
        metric=metric,
        mean_ap=main,
        interval=None if spread is None else corrected_interval(mean_of_classes(spread), main),
        numbers=numbers,
        classes=tuple(classes),
        counts=_counts(prepared, matches, ignored, truths_ignored),
        settings=settings,
        matches=matches,
    )


def _counts(prepared: Prepared, matches: Matches, ignored: dict[str, int], truths_ignored: dict[str, int]) -> Counts:
    found, truth = prepared.detections, prepared.truth
    notes = {
        "detections without area (they match nothing)": int((found.sides <= 0).any(axis=1).sum()),
        "detections outside their image": _outside(found, truth.image_sizes),
        "detections that repeat another exactly": _repeated(found),
        "objects without area": int((truth.sides <= 0).any(axis=1).sum()),
        "objects outside their image": _outside(truth, truth.image_sizes),
    }
    n_images = len(truth.image_ids)
    return Counts(
        images=n_images,
        images_without_truth=n_images - len(np.unique(truth.image)),
        images_without_detections=n_images - len(np.unique(found.image)),
        truths=len(truth) + sum(truth.rejected.values()),
        truths_counted=int(matches.counted.sum()),
        truths_ignored=_summed(truth.rejected, truths_ignored),
        detections=prepared.given,
        detections_counted=int((matches.outcome[0] != Outcome.IGNORED).sum()),
        detections_ignored=_summed(prepared.rejected, ignored),
        notes=_summed(notes),
    )


def _summed(*reasons: Mapping[str, int]) -> dict[str, int]:
    """The numbers of each reason together, those of none left out."""
    return dict(sum(map(Counter, reasons), Counter[str]()))


def _outside(table: DetectionTable | TruthTable, sizes: NDArray[np.int64]) -> int:
    """How many boxes lie outside their images, whose (height, width) ``sizes`` ``(I, 2)`` has, or 0 if unknown."""
    boxes, size = table.boxes, sizes[table.image]
    outside = (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0) | (boxes[:, 0] >= size[:, 1]) | (boxes[:, 1] >= size[:, 0])
    return int((outside & (size > 0).all(axis=1)).sum())


def _repeated(table: DetectionTable) -> int:
    if len(table) < 2:
        return 0
    same = (table.labels[1:] == table.labels[:-1]) & (table.image[1:] == table.image[:-1])
    same &= (table.scores[1:] == table.scores[:-1]) & (table.boxes[1:] == table.boxes[:-1]).all(axis=1)
    return int(same.sum())
