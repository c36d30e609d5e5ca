"""The report's numbers as JSON and as one CSV table, for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from detector.evaluation.analysis_types import RecallBin
from detector.report.content import Report, calibration_bins, confusion_cells, ends, known

CSV_COLUMNS = ("section", "name", "number", "value", "low", "high")
Row = tuple[str, str, str, float | int | None, float | None, float | None]


def numbers(report: Report, *, curves: bool = True) -> dict[str, Any]:
    """Every number of the report, ready for JSON; fractions in [0, 1], losses in points of 100."""
    names = [*(row.name for row in report.classes), "background"]
    rows = [asdict(row) for row in report.classes]
    if not curves:
        for row in rows:
            del row["curve"]
    return {
        "title": report.title,
        "subtitle": report.subtitle,
        "headlines": [asdict(line) for line in report.headlines],
        "classes": rows,
        **({"mean_curve": asdict(report.mean_curve)} if curves else {}),
        "errors": [asdict(kind) for kind in report.kinds],
        "recall_by_size": [_share(b, ends(b)) for b in report.sizes],
        "recall_by_aspect": [_share(b, "") for b in report.aspects],
        "calibration": calibration_bins(report.calibration),
        "calibration_error": known(report.calibration.expected_error),
        "calibration_outside": report.calibration.outside,
        "confusion": [
            {"truth": names[true], "detected": names[predicted], "count": count}
            for true, predicted, count in confusion_cells(report.confusion)
        ],
        "counted": [asdict(row) for row in report.counted],
        "command": report.command,
        "config": report.config,
    }


def _share(group: RecallBin, short: str) -> dict[str, Any]:
    return {"name": group.name, "found": group.found, "total": group.truths, "short": short}


def csv_text(report: Report) -> str:
    """The same numbers without the curves, one a line, under the head ``CSV_COLUMNS``.

    A name that begins like a formula of a spreadsheet (``= + - @``) gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for section, name, number, *values in _rows(report):
        writer.writerow([section, _harmless(name), _harmless(number), *("" if v is None else repr(v) for v in values)])
    return out.getvalue()


def _rows(report: Report) -> Iterator[Row]:
    for line in report.headlines:
        yield "headline", line.name, "value", line.number.value, line.number.low, line.number.high
    for row in report.classes:
        yield "class", row.name, "ap", row.ap.value, row.ap.low, row.ap.high
        yield "class", row.name, "recall", row.recall, None, None
        yield "class", row.name, "objects", row.truths, None, None
        yield "class", row.name, "detections", row.detections, None, None
        for key, points in row.losses.items():
            yield "class", row.name, f"points lost, {key}", points, None, None
    for kind in report.kinds:
        yield "errors", kind.key, "points", kind.points, None, None
        yield "errors", kind.key, "count", kind.count, None, None
    for section, shares in (("recall by size", report.sizes), ("recall by aspect", report.aspects)):
        for share in shares:
            yield section, share.name, "found", share.found, None, None
            yield section, share.name, "objects", share.truths, None, None
    for b in calibration_bins(report.calibration):
        name = f"scores {b['low']:g} to {b['high']:g}"
        yield "calibration", name, "detections", b["count"], None, None
        yield "calibration", name, "mean score", b["mean_score"], None, None
        yield "calibration", name, "precision", b["precision"], None, None
    yield "calibration", "all", "expected error", known(report.calibration.expected_error), None, None
    yield "calibration", "all", "scores outside 0 to 1", report.calibration.outside, None, None
    names = [*(row.name for row in report.classes), "background"]
    for true, predicted, count in confusion_cells(report.confusion):
        yield "confusion", names[true], names[predicted], count, None, None
    for counted in report.counted:
        yield "counted", counted.what, "counted", counted.counted, None, None
        yield "counted", counted.what, "not counted", counted.ignored, None, None


def _harmless(text: str) -> str:
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") and text.strip() else text
