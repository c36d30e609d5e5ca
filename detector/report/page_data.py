"""The data that the page's scripts read: compact lists, rounded to what can be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from detector.report.content import Curve, Report, calibration_bins, confusion_cells, ends
from detector.report.palette import SOURCE_COLOURS, SOURCE_NAMES, hex_colour
from detector.report.pictures import Sources


def page_data(report: Report) -> dict[str, Any]:
    """Everything but the pictures."""
    background = len(report.classes)
    places = {image_id: place for place, image_id in enumerate(report.pictures)}
    return {
        "classes": [
            {"name": row.name, "ap": _short(row.ap.value), "truths": row.truths, "curve": _curve(row.curve)}
            for row in report.classes
        ],
        "mean": _curve(report.mean_curve),
        "kinds": [{"key": kind.key, "name": kind.name} for kind in report.kinds],
        "sources": {
            int(code): {"name": SOURCE_NAMES[code], "colour": hex_colour(colour)}
            for code, colour in SOURCE_COLOURS.items()
        },
        "sizes": [[b.name, b.found, b.truths, ends(b)] for b in report.sizes],
        "aspects": [[b.name, b.found, b.truths, b.name] for b in report.aspects],
        "calibration": [
            [_short(b["low"]), _short(b["high"]), b["count"], _short(b["mean_score"]), _short(b["precision"])]
            for b in calibration_bins(report.calibration)
        ],
        "calibrationError": _short(report.calibration.expected_error),
        "confusion": {
            "background": background,
            "cells": confusion_cells(report.confusion),
        },
        "cases": [
            {
                "picture": places[case.picture],
                "kind": case.kind,
                "label": case.label,
                "other": case.other,
                "box": _box(case.box),
                "score": _short(case.score),
                "iou": _short(case.iou),
                "note": case.note,
            }
            for case in report.cases
        ],
        "casesInAll": max(report.cases_in_all, len(report.cases)),
    }


def picture_data(report: Report, sources: Sequence[Sources]) -> list[dict[str, Any]]:
    """The pictures with their boxes of known classes; parsed by the page only when the gallery is about to be seen."""
    labels = {row.name: label for label, row in enumerate(report.classes)}
    return [
        {
            "id": image_id,
            "path": picture.path,
            "w": picture.width,
            "h": picture.height,
            "src": source.small,
            "large": source.large or source.small,
            "truths": [[*_box(t.box), labels[t.class_name], t.note] for t in picture.truths if t.class_name in labels],
            "detections": [
                [*_box(d.box), labels[d.class_name], _short(d.score), d.note]
                for d in picture.detections
                if d.class_name in labels
            ],
            # Whole pixels do for lines this thin, and there are many of them.
            "proposals": [[*(round(v) for v in row[:4]), int(row[5])] for row in picture.proposals],
        }
        for (image_id, picture), source in zip(report.pictures.items(), sources, strict=True)
    ]


def _curve(curve: Curve) -> dict[str, list[float | None]]:
    return {
        "r": [_short(v) for v in curve.recall],
        "p": [_short(v) for v in curve.precision],
        "s": [_short(v) for v in curve.score],
    }


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)


def _box(box: Sequence[float]) -> list[float]:
    return [round(float(v), 1) for v in box]
