"""From an evaluation to what the report says about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.analysis_types import (
    ERROR_KINDS,
    MISSED_KINDS,
    ClassErrors,
    ErrorAnalysis,
    Evaluation,
)
from detector.evaluation.average_precision import envelope
from detector.evaluation.metrics import METRICS
from detector.evaluation.result import CURVE_POINTS, LEFT_OUT, ClassResult, Counts, EvaluationResult, Interval
from detector.report.cases import gallery
from detector.report.content import ClassRow, Counted, Curve, ErrorKind, Headline, Number, Report, known
from detector.report.sections import points

NUMBER_NAMES = {
    "ap": "AP",
    "ap50": "AP at IoU 0.50",
    "ap75": "AP at IoU 0.75",
    "ap_small": "AP, small objects",
    "ap_medium": "AP, medium objects",
    "ap_large": "AP, large objects",
    "ar_1": "Recall, 1 detection",
    "ar_10": "Recall, 10 detections",
    "ar_100": "Recall, 100 detections",
    "ar_small": "Recall, small objects",
    "ar_medium": "Recall, medium objects",
    "ar_large": "Recall, large objects",
}
KINDS = {
    "classification": ("Classification", "The place is right, the class is wrong."),
    "localisation": ("Localisation", "The class is right, the box is too far off."),
    "both": ("Class and place", "The class is wrong and the box is off."),
    "duplicate": ("Duplicate", "The object had been found already."),
    "background": ("Background", "There is no such object."),
    "missed": ("Missed", "No detection was at the object."),
    "missed_by_proposals": ("Missed: no proposal", "No proposal covered the object, so it was never looked at."),
    "missed_by_classifier": ("Missed: scored low", "A proposal covered the object, but its class was scored too low."),
}
DRAWN_POINTS = 120


def collect(evaluation: Evaluation, *, config: str = "", max_cases: int = 400, max_pictures: int = 200) -> Report:
    """The report on ``evaluation``.

    Args:
        config: of the run, as YAML text. max_cases, max_pictures: limits of the gallery.
    """
    result, errors, info = evaluation.result, evaluation.errors, evaluation.info
    # As a file keeps them, so that the page is the same before the evaluation is saved and after it was read.
    rows = [row.thinned(CURVE_POINTS) for row in result.classes]
    kinds = _kinds(errors)
    at_iou = f" at IoU {errors.iou_threshold:.2f}"
    pictures, cases = gallery(evaluation, max_cases=max_cases, max_pictures=max_pictures)
    lost = {row.name: row for row in errors.classes}
    return Report(
        title=info.get("data", "") or "Evaluation",
        subtitle=info.get("model") or info.get("detections") or "",
        headlines=_headlines(result),
        classes=tuple(_class_row(row, lost.get(row.name), [k.key for k in kinds]) for row in rows),
        mean_curve=mean_curve(rows),
        curve_note=f"The best precision at each recall or beyond,{at_iou}.",
        kinds=kinds,
        error_note=f"Judged{at_iou}, where the mean AP is {points(known(errors.mean_ap))}.",
        sizes=evaluation.recall_by_size,
        aspects=evaluation.recall_by_aspect,
        calibration=evaluation.calibration,
        confusion=evaluation.confusion,
        counted=_counted(result.counts),
        pictures=pictures,
        cases=cases,
        cases_in_all=sum(kind.count for kind in kinds),
        facts=_facts(result, info),
        command=info.get("command", ""),
        config=config,
    )


def interpolated(row: ClassResult) -> Curve:
    """The curve that AP is the area of: at each recall that is reached, the best precision from there on."""
    return _thinned(*_steps(row))


def mean_curve(rows: Iterable[ClassResult]) -> Curve:
    """The mean of the interpolated curves at recall 0, 0.01, ... 1; beyond its last recall, a class counts 0."""
    levels = np.linspace(0, 1, 101)
    curves = []
    for row in rows:
        if not row.truths:
            continue
        recall, precision, _ = _steps(row)
        padded = np.append(precision, 0.0)
        curves.append(padded[np.searchsorted(recall, levels - 1e-9, side="left")])
    if not curves:
        return Curve()
    return Curve(tuple(levels.tolist()), tuple(np.mean(curves, axis=0).tolist()), (None,) * len(levels))


def _steps(row: ClassResult) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, best precision from there on, and score, where the recall rises."""
    if not row.truths or not len(row.recall):
        return (np.zeros(0),) * 3
    rises = np.diff(row.recall, prepend=0.0) > 0
    return row.recall[rises], envelope(row.precision)[rises], row.scores[rises]


def _thinned(recall: NDArray[np.float64], precision: NDArray[np.float64], scores: NDArray[np.float64]) -> Curve:
    keep = np.unique(np.linspace(0, max(len(recall) - 1, 0), DRAWN_POINTS).round().astype(np.int64))[: len(recall)]
    score = tuple(known(v) for v in scores[keep].tolist())
    return Curve(tuple(recall[keep].tolist()), tuple(precision[keep].tolist()), score)


def _number(value: float, interval: Interval | None) -> Number:
    if interval is None or not math.isfinite(value):
        return Number(known(value))
    return Number(float(value), interval.low, interval.high)


def _headlines(result: EvaluationResult) -> tuple[Headline, ...]:
    name, note = METRICS.get(result.metric, (result.metric, ""))
    lines = [Headline(name, _number(result.mean_ap, result.interval), note)]
    for key, value in result.numbers.items():
        if key not in ("mean_ap", "ap"):
            lines.append(Headline(NUMBER_NAMES.get(key, key.replace("_", " ")), Number(known(value))))
    recalls = [row.max_recall for row in result.classes if row.truths]
    if result.metric != "coco" and recalls:
        lines.append(Headline("Recall", Number(float(np.mean(recalls))), "of all detections, mean of the classes"))
    return tuple(lines)


def _class_row(row: ClassResult, errors: ClassErrors | None, keys: list[str]) -> ClassRow:
    losses = {} if errors is None else {key: errors.cost[key] for key in keys if key in errors.cost}
    return ClassRow(
        name=row.name,
        ap=_number(row.ap, row.interval),
        truths=row.truths,
        detections=row.detections,
        recall=known(row.max_recall),
        losses={key: 100 * cost for key, cost in losses.items() if math.isfinite(cost)},
        curve=interpolated(row),
    )


def _kinds(errors: ErrorAnalysis) -> tuple[ErrorKind, ...]:
    keys: Iterable[str] = ERROR_KINDS
    if errors.proposals_known:
        keys = [key for key in ERROR_KINDS if key != "missed"] + list(MISSED_KINDS)
    return tuple(
        ErrorKind(key, *KINDS[key], _points(errors.cost.get(key, math.nan)), errors.counts.get(key, 0)) for key in keys
    )


def _points(cost: float) -> float | None:
    return 100 * cost if math.isfinite(cost) else None


def _counted(counts: Counts) -> tuple[Counted, ...]:
    pictures = (
        f"{counts.images_without_truth} without an object, {counts.images_without_detections} without a detection"
    )
    return (
        Counted("Pictures", counts.images, 0, pictures),
        _counted_row("Objects", counts.truths_counted, counts.truths_ignored),
        _counted_row("Detections", counts.detections_counted, counts.detections_ignored),
        *(_note(what, n) for what, n in counts.notes.items()),
    )


def _note(what: str, n: int) -> Counted:
    name = what[:1].upper() + what[1:]
    if what.startswith(LEFT_OUT):
        return Counted(name, 0, n, "left out while the data set was read")
    return Counted(name, n, 0, "counted, but worth a look")


def _counted_row(what: str, counted: int, ignored: Mapping[str, int]) -> Counted:
    why = ", ".join(f"{n} {reason}" for reason, n in ignored.items() if n)
    return Counted(what, counted, sum(ignored.values()), why)


def _facts(result: EvaluationResult, info: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    counts = result.counts
    facts = [
        ("Pictures", f"{counts.images:,}"),
        ("Objects", f"{counts.truths_counted:,}"),
        ("Detections", f"{counts.detections_counted:,}"),
        ("Classes", f"{len(result.classes):,}"),
        ("Measured by", METRICS.get(result.metric, ("", result.metric))[1].split(":")[0]),
        ("Made", info.get("created", "")),
    ]
    return tuple((name, value) for name, value in facts if value)
