"""The data that the page's scripts read: compact lists, rounded to what can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detector.report.content import Box, Curve, PictureEntry, Report
from detector.report.palette import SOURCE_COLOURS, SOURCE_NAMES, hex_colour
from detector.report.pictures import Sources


def page_data(report: Report) -> dict[str, Any]:
    """Everything but the pictures."""
    background = len(report.classes)
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
        "sizes": [[share.name, share.found, share.total, share.short or share.name] for share in report.sizes],
        "aspects": [[share.name, share.found, share.total, share.short or share.name] for share in report.aspects],
        "calibration": [
            [_short(b.low), _short(b.high), b.count, _short(b.mean_score), _short(b.precision)]
            for b in report.calibration
        ],
        "calibrationError": _short(report.calibration_error),
        "confusion": {
            "background": background,
            "cells": [[true, predicted, count] for (true, predicted), count in sorted(report.confusion.counts.items())],
        },
        "cases": [
            {
                "picture": case.picture,
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


def picture_data(pictures: Sequence[PictureEntry], sources: Sequence[Sources]) -> list[dict[str, Any]]:
    """The pictures with their boxes; parsed by the page only when the gallery is about to be seen."""
    return [
        {
            "id": picture.image_id,
            "path": picture.path,
            "w": picture.image_size[1],
            "h": picture.image_size[0],
            "src": source.small,
            "large": source.large or source.small,
            "truths": [[*_box(t.box), t.label, t.note] for t in picture.truths],
            "detections": [[*_box(d.box), d.label, _short(d.score), d.kind] for d in picture.detections],
            # Whole pixels do for lines this thin, and there are many of them.
            "proposals": [[*(round(v) for v in p.box), p.source] for p in picture.proposals],
        }
        for picture, source in zip(pictures, sources, strict=True)
    ]


def _curve(curve: Curve) -> dict[str, list[float | None]]:
    return {
        "r": [_short(v) for v in curve.recall],
        "p": [_short(v) for v in curve.precision],
        "s": [_short(v) for v in curve.score],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def _box(box: Box) -> list[float]:
    return [round(float(v), 1) for v in box]
