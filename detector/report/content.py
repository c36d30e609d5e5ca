"""What a report says: plain numbers and words, already computed, ready to be shown or written to a file.

Glossary: *points* are mean-average-precision points of 100; fractions are in [0, 1]; ``None`` stands for
a number that is not defined (the AP of a class without objects). Boxes are ``x1 y1 x2 y2`` in pixels of the original
image. ``label`` is an index into ``Report.classes``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detector.evaluation.analysis_types import Calibration, ConfusionMatrix, PictureInfo, RecallBin


@dataclass(frozen=True, slots=True)
class Number:
    """A fraction in [0, 1] and the ends of its 95 % interval, where one was computed."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Headline:
    """One number of the overview; the first of a report is its main one."""

    name: str
    number: Number
    note: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision against recall, by ascending recall; ``score`` is the threshold that reaches the point.

    The three have one length, at most a few hundred points.
    """

    recall: tuple[float, ...] = ()
    precision: tuple[float, ...] = ()
    score: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: counts of all images, AP, the recall of all its detections, and points lost by error kind."""

    name: str
    ap: Number
    truths: int
    detections: int
    recall: float | None
    losses: Mapping[str, float] = field(default_factory=dict)
    curve: Curve = field(default_factory=Curve)


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A way to be wrong. ``key`` is a short word; ``points`` is what mending all of them would give, where known."""

    key: str
    name: str
    explanation: str
    points: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of something were counted, how many were not, and why not."""

    what: str
    counted: int
    ignored: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One mistake: a missed object or a false detection.

    Attributes:
        picture: a key of ``Report.pictures``. kind: key of its error. label: the class it counts against.
        box: of the detection, or of the missed object. score: of the detection; 0 for a missed object.
        iou: overlap with the truth concerned, where there is one.
        other: label of the truth that was taken for ``label``, where that is the mistake.
        note: one sentence more.
    """

    picture: str
    kind: str
    label: int
    box: tuple[float, ...]
    score: float
    iou: float | None = None
    other: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report shows; what an evaluation holds as a page needs it stays as it is there.

    ``pictures`` are those of the gallery by image id; ``facts`` are (name, value) pairs for the report's head, and
    ``config`` is YAML text.
    """

    title: str
    subtitle: str
    headlines: tuple[Headline, ...]
    classes: tuple[ClassRow, ...]
    mean_curve: Curve
    curve_note: str
    kinds: tuple[ErrorKind, ...]
    error_note: str
    sizes: tuple[RecallBin, ...]
    aspects: tuple[RecallBin, ...]
    calibration: Calibration
    confusion: ConfusionMatrix
    counted: tuple[Counted, ...]
    pictures: Mapping[str, PictureInfo]
    cases: tuple[Case, ...]
    cases_in_all: int
    facts: tuple[tuple[str, str], ...]
    command: str = ""
    config: str = ""


def known(value: float) -> float | None:
    """``value``, None where it is not defined."""
    return float(value) if math.isfinite(value) else None


def ends(group: RecallBin) -> str:
    """The ends of a group of sizes, short enough for under a column, where they say more than words."""
    low, high = f"{group.low:g}", "" if math.isnan(group.high) else f"{group.high:g}"
    return f"≥{low}" if not high else f"<{high}" if group.low <= 0 else f"{low}–{high}"


def calibration_bins(calibration: Calibration) -> list[dict[str, Any]]:
    """One a bin of the score: its ends, how many detections it holds, their mean score and precision."""
    edges, means = calibration.edges.tolist(), map(known, calibration.mean_score.tolist())
    columns = (edges[:-1], edges[1:], calibration.count.tolist(), means, map(known, calibration.precision.tolist()))
    names = ("low", "high", "count", "mean_score", "precision")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def confusion_cells(confusion: ConfusionMatrix) -> list[tuple[int, int, int]]:
    """True label, predicted label and count of each cell that is not 0; label K is the background."""
    rows, columns = np.nonzero(confusion.matrix)
    return list(zip(rows.tolist(), columns.tolist(), confusion.matrix[rows, columns].tolist(), strict=True))
