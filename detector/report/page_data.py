"""The data that the page's scripts read: compact lists, rounded to what can be seen.

The gallery shows the worst mistakes, in their pictures. The curves are those that AP is the area of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.analysis_types import ErrorExample, Evaluation, PictureInfo, RecallBin
from detector.evaluation.assemble import short_box
from detector.evaluation.average_precision import envelope
from detector.evaluation.result import ClassResult
from detector.report.palette import SOURCE_COLOURS, SOURCE_NAMES, hex_colour
from detector.report.pictures import Sources
from detector.report.sections import error_kinds

DRAWN_POINTS = 120
Gallery = tuple[dict[str, PictureInfo], list[ErrorExample]]
"""The pictures that are shown, by image id, and the mistakes in them, the worst first."""


class Curve(NamedTuple):
    """Precision against recall, by ascending recall, and the score from which each point is reached; float64 ``(P,)``.

    The scores of a mean of curves are NaN.
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]


def page_data(evaluation: Evaluation, shown: Gallery) -> dict[str, Any]:
    """Everything but the pictures; ``label`` is an index into ``classes``, the label after the last the background."""
    pictures, cases = shown
    # As a file keeps them, so that the page is the same before the evaluation is saved and after it was read.
    rows = evaluation.result.thinned().classes
    labels = {row.name: label for label, row in enumerate(rows)}
    places = {image_id: place for place, image_id in enumerate(pictures)}
    kinds = error_kinds(evaluation.errors)
    found, matrix = evaluation.calibration, evaluation.confusion.matrix
    bins = (found.edges[:-1], found.edges[1:], found.count, found.mean_score, found.precision)
    return {
        "classes": [{"name": row.name, "ap": _short(row.ap), "curve": _curve(interpolated(row))} for row in rows],
        "mean": _curve(mean_curve(rows)),
        "kinds": [{"key": kind.key, "name": kind.name} for kind in kinds],
        "sources": {
            int(code): {"name": SOURCE_NAMES[code], "colour": hex_colour(colour)}
            for code, colour in SOURCE_COLOURS.items()
        },
        "sizes": [[b.name, b.found, b.truths, _ends(b)] for b in evaluation.recall_by_size],
        "aspects": [[b.name, b.found, b.truths, b.name] for b in evaluation.recall_by_aspect],
        "calibration": [
            [_short(value) for value in row] for row in zip(*(each.tolist() for each in bins), strict=True)
        ],
        "confusion": {
            "background": len(rows),
            "cells": np.column_stack([*np.nonzero(matrix), matrix[matrix != 0]]).tolist(),
        },
        "cases": [_case(example, places, labels) for example in cases],
        "casesInAll": max(sum(kind.cases for kind in kinds), len(cases)),
    }


def picture_data(
    evaluation: Evaluation, pictures: dict[str, PictureInfo], sources: Sequence[Sources]
) -> list[dict[str, Any]]:
    """The pictures with their boxes of known classes; parsed by the page only when the gallery is about to be seen."""
    labels = {name: label for label, name in enumerate(evaluation.result.class_names)}
    return [
        {
            "id": image_id,
            "w": picture.width,
            "h": picture.height,
            "src": source.small,
            "large": source.large or source.small,
            "truths": [
                [*short_box(t.box), labels[t.class_name], t.note] for t in picture.truths if t.class_name in labels
            ],
            "detections": [
                [*short_box(d.box), labels[d.class_name], _short(d.score), d.note]
                for d in picture.detections
                if d.class_name in labels
            ],
            # Whole pixels do for lines this thin, and there are many of them.
            "proposals": [[*(round(v) for v in row[:4]), int(row[5])] for row in picture.proposals],
        }
        for (image_id, picture), source in zip(pictures.items(), sources, strict=True)
    ]


def gallery(evaluation: Evaluation, *, max_cases: int, max_pictures: int) -> Gallery:
    """The mistakes that are shown, and their pictures.

    The kinds of error take turns, so that the first cases are the worst of every kind; within a kind the order is that
    of the analysis. A case whose picture would be one too many is left out, the others go on.

    Args:
        max_cases, max_pictures: upper limits; a picture may show several cases.
    """
    known = set(evaluation.result.class_names)
    pictures: dict[str, PictureInfo] = {}
    cases: list[ErrorExample] = []
    for example in _in_turns(evaluation.errors.examples):
        if len(cases) == max_cases:
            break
        if example.class_name not in known or not (example.box or example.truth_box):
            continue
        if example.image_id not in pictures:
            if len(pictures) == max_pictures:
                continue
            pictures[example.image_id] = _picture(example, evaluation.images.get(example.image_id))
        cases.append(example)
    return pictures, cases


def kind_of(example: ErrorExample) -> str:
    """The key of an error's kind; a missed object is told apart by who missed it, where that is known."""
    return f"{example.kind}_by_{example.missed_by}" if example.missed_by else example.kind


def _in_turns(examples: Sequence[ErrorExample]) -> Iterator[ErrorExample]:
    by_kind: dict[str, list[ErrorExample]] = {}
    for example in examples:
        by_kind.setdefault(kind_of(example), []).append(example)
    for rank in zip_longest(*by_kind.values()):
        yield from (example for example in rank if example is not None)


def _picture(example: ErrorExample, info: PictureInfo | None) -> PictureInfo:
    if info is not None and info.height > 0 and info.width > 0:
        return info
    # No file is known; the boxes alone say how large the picture must be at least.
    boxes = [box for box in (example.box, example.truth_box) if box]
    height, width = (max(1, math.ceil(max(box[i] for box in boxes))) for i in (3, 2))
    return PictureInfo("", height, width)


def _case(example: ErrorExample, places: dict[str, int], labels: dict[str, int]) -> dict[str, Any]:
    """A mistake: the detection, or the object that was missed, whose score is 0."""
    note = ""
    if example.box is None and not math.isnan(example.iou):
        note = f"the best proposal overlaps it with IoU {example.iou:.2f}"
    elif example.truth_box is not None and not math.isnan(example.iou):
        note = f"IoU {example.iou:.2f} with the object “{example.truth_class}”"
    return {
        "picture": places[example.image_id],
        "kind": kind_of(example),
        "label": labels[example.class_name],
        "other": labels.get(example.truth_class or ""),
        "box": short_box(example.box or example.truth_box or ()),
        "score": _short(example.score) or 0.0,
        "note": note,
    }


def interpolated(row: ClassResult) -> Curve:
    """At each recall that is reached, the best precision from there on; at most ``DRAWN_POINTS`` points."""
    steps = _steps(row)
    count = len(steps.recall)
    keep = np.unique(np.linspace(0, max(count - 1, 0), DRAWN_POINTS).round().astype(np.int64))[:count]
    return Curve(*(values[keep] for values in steps))


def mean_curve(rows: Iterable[ClassResult]) -> Curve:
    """The mean of the interpolated curves at recall 0, 0.01, ... 1; beyond its last recall, a class counts 0."""
    levels = np.linspace(0, 1, 101)
    curves = []
    for row in rows:
        if row.truths:
            recall, precision, _ = _steps(row)
            curves.append(np.append(precision, 0.0)[np.searchsorted(recall, levels - 1e-9, side="left")])
    if not curves:
        return Curve(*(np.zeros(0),) * 3)
    return Curve(levels, np.mean(curves, axis=0), np.full(len(levels), np.nan))


def _steps(row: ClassResult) -> Curve:
    """The whole curve: the points where the recall rises."""
    rises = np.diff(row.recall, prepend=0.0) > 0  # nowhere where it is not defined
    return Curve(row.recall[rises], envelope(row.precision)[rises], row.scores[rises])


def _curve(curve: Curve) -> dict[str, list[float | None]]:
    return {key: [_short(v) for v in values.tolist()] for key, values in zip("rps", curve, strict=True)}


def _ends(group: RecallBin) -> str:
    """The ends of a group of sizes, short enough for under a column, where they say more than words."""
    low, high = f"{group.low:g}", "" if math.isnan(group.high) else f"{group.high:g}"
    return f"≥{low}" if not high else f"<{high}" if group.low <= 0 else f"{low}–{high}"


def _short(value: float) -> float | None:
    """Four digits of a number, None where it is not defined."""
    return round(value, 4) if math.isfinite(value) else None
