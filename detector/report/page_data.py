"""The data that the page's scripts read: compact lists, rounded to what can be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detector.evaluation.analysis_types import ErrorExample, Evaluation, PictureInfo, RecallBin
from detector.evaluation.gallery import short_box
from detector.report.cases import Gallery, kind_of
from detector.report.curves import Curve, interpolated, mean_curve
from detector.report.palette import SOURCE_COLOURS, SOURCE_NAMES, hex_colour
from detector.report.pictures import Sources
from detector.report.sections import error_kinds


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


def _ends(group: RecallBin) -> str:
    """The ends of a group of sizes, short enough for under a column, where they say more than words."""
    low, high = f"{group.low:g}", "" if math.isnan(group.high) else f"{group.high:g}"
    return f"≥{low}" if not high else f"<{high}" if group.low <= 0 else f"{low}–{high}"


def _curve(curve: Curve) -> dict[str, list[float | None]]:
    return {key: [_short(v) for v in values.tolist()] for key, values in zip("rps", curve, strict=True)}


def _short(value: float) -> float | None:
    """Four digits of a number, None where it is not defined."""
    return round(value, 4) if math.isfinite(value) else None
