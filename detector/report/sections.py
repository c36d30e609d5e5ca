"""What a report's page says, section by section, as far as an evaluation does not say it itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import NamedTuple

import numpy as np

from detector.evaluation.analysis_types import ERROR_KINDS, MISSED_KINDS, ErrorAnalysis
from detector.evaluation.result import LEFT_OUT, METRICS, ClassResult, Counts, EvaluationResult, Interval

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
DASH = "–"


class Headline(NamedTuple):
    """One number of the overview, a fraction; the first of a report is its main one."""

    name: str
    value: float
    interval: Interval | None = None
    note: str = ""


class ErrorKind(NamedTuple):
    """A way to be wrong: the mean AP that mending all of them would give, NaN where it is not known.

    ``share`` is the cost's of the highest, in [0, 1].
    """

    key: str
    name: str
    explanation: str
    cost: float
    cases: int
    share: float


class ClassRow(NamedTuple):
    """A class, and what each kind of error costs it, NaN where that is not known.

    ``loss`` is the highest of the costs, ``kind`` the name of its kind of error.
    """

    result: ClassResult
    costs: list[float]
    loss: float
    kind: str


class Counted(NamedTuple):
    """How many of something were counted, how many were not, and why not."""

    what: str
    counted: int
    ignored: int
    why: str


def points(fraction: float | None) -> str:
    """A fraction as points of 100 with one decimal; a dash where it is not defined."""
    return DASH if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}"


def headlines(result: EvaluationResult) -> list[Headline]:
    """The protocol's number with its interval, then the further ones."""
    name, note = METRICS.get(result.metric, (result.metric, ""))
    lines = [Headline(name, result.mean_ap, result.interval, note)]
    for key, value in result.numbers.items():
        if key not in ("mean_ap", "ap"):
            lines.append(Headline(NUMBER_NAMES.get(key, key.replace("_", " ")), value))
    recalls = [row.max_recall for row in result.classes if row.truths]
    if result.metric != "coco" and recalls:
        lines.append(Headline("Recall", float(np.mean(recalls)), note="of all detections, mean of the classes"))
    return lines


def summary(main: Headline, classes: Iterable[ClassResult], kinds: Iterable[ErrorKind]) -> list[str]:
    """One to three plain sentences: the score, the best and the worst class, the largest loss."""
    sentences = [f"{main.name} is {points(main.value)}."]
    known = [row for row in classes if math.isfinite(row.ap)]
    if len(known) > 1:
        best, worst = max(known, key=attrgetter("ap")), min(known, key=attrgetter("ap"))
        sentences.append(
            f"The best class is {best.name} ({points(best.ap)}), the hardest {worst.name} ({points(worst.ap)})."
        )
    largest = max(kinds, key=attrgetter("share"))
    if largest.share:
        sentences.append(f"The largest loss is “{largest.name}” with {points(largest.cost)} points.")
    return sentences


def error_kinds(errors: ErrorAnalysis) -> list[ErrorKind]:
    """The kinds of error in the order of the analysis, "missed" in two where the proposals are known."""
    keys: tuple[str, ...] = ERROR_KINDS
    if errors.proposals_known:
        keys = (*(key for key in ERROR_KINDS if key != "missed"), *MISSED_KINDS)
    costs = {key: errors.cost.get(key, math.nan) for key in keys}
    most = max((cost for cost in costs.values() if cost > 0), default=1.0)
    return [
        ErrorKind(key, *KINDS[key], cost, errors.counts.get(key, 0), cost / most if cost > 0 else 0.0)
        for key, cost in costs.items()
    ]


def class_rows(result: EvaluationResult, errors: ErrorAnalysis, kinds: Sequence[ErrorKind]) -> list[ClassRow]:
    """The classes, and what each kind of error costs them."""
    costs_of = {row.name: row.cost for row in errors.classes}
    rows = []
    for row in result.classes:
        costs = [costs_of.get(row.name, {}).get(kind.key, math.nan) for kind in kinds]
        named = [(cost, kind.name) for cost, kind in zip(costs, kinds, strict=True) if math.isfinite(cost)]
        rows.append(ClassRow(row, costs, *max(named, key=itemgetter(0), default=(0.0, ""))))
    return rows


def counted(counts: Counts) -> list[Counted]:
    """What was counted and what was left out, with the reason."""
    without = f"{counts.images_without_truth} without an object, {counts.images_without_detections} without a detection"
    rows = [Counted("Pictures", counts.images, 0, without)]
    for what, number, ignored in (
        ("Objects", counts.truths_counted, counts.truths_ignored),
        ("Detections", counts.detections_counted, counts.detections_ignored),
    ):
        why = ", ".join(f"{n} {reason}" for reason, n in ignored.items() if n)
        rows.append(Counted(what, number, sum(ignored.values()), why))
    for what, n in counts.notes.items():
        name = what[:1].upper() + what[1:]
        if what.startswith(LEFT_OUT):
            rows.append(Counted(name, 0, n, "left out while the data set was read"))
        else:
            rows.append(Counted(name, n, 0, "counted, but worth a look"))
    return rows


def facts(result: EvaluationResult, info: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and value of what the head of the report says."""
    counts = result.counts
    lines = [
        ("Pictures", f"{counts.images:,}"),
        ("Objects", f"{counts.truths_counted:,}"),
        ("Detections", f"{counts.detections_counted:,}"),
        ("Classes", f"{len(result.classes):,}"),
        ("Measured by", METRICS.get(result.metric, ("", result.metric))[1].split(":")[0]),
        ("Made", info.get("created", "")),
    ]
    return [(name, value) for name, value in lines if value]
