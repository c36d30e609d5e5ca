"""What an evaluation returns: headline numbers, one row per class, and what was counted.

Glossary. A *counted* detection is a true or a false positive; an *ignored* one is neither, for a stated reason. A
*counted* truth is an object that should be found. All scores are fractions in [0, 1], not per cent. NaN means "not
defined" (a class without a counted truth has no AP) and is written to JSON as null.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matches import Matches
from detector.evaluation.plain import IN_MEMORY

METRICS = {
    "voc07": ("mAP", "PASCAL VOC 2007: eleven points, IoU 0.5"),
    "voc10": ("mAP", "PASCAL VOC 2010 and later: area under the curve, IoU 0.5"),
    "coco": ("AP", "COCO: mean over IoU 0.50 to 0.95"),
    "ilsvrc_det": ("mAP", "ILSVRC DET: IoU 0.5, lower for small objects"),
}
"""By name: what the headline number is called, and what it is."""
# What a data set is measured by where nothing else is asked for, by its format.
DEFAULT_METRIC = {"voc": "voc07", "coco": "coco", "ilsvrc_det": "ilsvrc_det", "yolo": "coco"}
CURVE_POINTS = 200
"""Points of a class's curve that a file keeps."""
LEFT_OUT = "data set: "
"""How a note of :class:`Counts` begins that says what was not counted: images and boxes left out while reading."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval over images (percentiles; for an AP moved by the bias of the resamples).

    Attributes:
        low, high: its ends, fractions. level: the share of resamples inside it, e.g. 0.95.
        samples: how many resamples of the images were drawn.
    """

    low: float
    high: float
    level: float
    samples: int

    def points(self, sign: str = "") -> str:
        """Its ends in points of 100, as ``48.1 to 53.9``; with the sign "+" as ``-0.3 to +1.2``."""
        return f"{100 * self.low:{sign}.1f} to {100 * self.high:{sign}.1f}"


@dataclass(frozen=True, slots=True)
class Counts:
    """What took part. ``detections == detections_counted + sum(detections_ignored.values())``; truths likewise.

    Attributes:
        images: images of the data set.
        images_without_truth: of these, those with no annotated object at all; their false positives count.
        images_without_detections: of these, those for which nothing was detected.
        truths, truths_counted: annotated objects, and those that should be found.
        truths_ignored: the others, by reason, e.g. ``{"difficult": 12, "crowd": 3}``.
        detections, detections_counted: detections given, and those that became a true or a false positive.
        detections_ignored: the others, by reason, e.g. ``{"image not in the data set": 7}``.
        notes: things that were counted all the same but deserve a look, e.g. ``{"detections outside the image": 2}``;
            those that begin with ``LEFT_OUT`` were left out before anything was counted.
    """

    images: int
    images_without_truth: int
    images_without_detections: int
    truths: int
    truths_counted: int
    truths_ignored: dict[str, int]
    detections: int
    detections_counted: int
    detections_ignored: dict[str, int]
    notes: dict[str, int] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """The counts as lines for a person."""
        lines = [
            f"{self.images} images ({self.images_without_truth} without an object, "
            f"{self.images_without_detections} without a detection)",
            f"{self.truths} objects, {self.truths_counted} counted" + _reasons(self.truths_ignored),
            f"{self.detections} detections, {self.detections_counted} counted" + _reasons(self.detections_ignored),
        ]
        return lines + [f"note: {n} {what}" for what, n in self.notes.items()]


def _reasons(ignored: dict[str, int]) -> str:
    return "".join(f"; {n} ignored ({reason})" for reason, n in ignored.items())


@dataclass(frozen=True, slots=True, eq=False)
class ClassResult:
    """The result of one class.

    Attributes:
        label: its index. name: its name.
        ap: average precision by the protocol, NaN where no truth of the class counts.
        interval: of ``ap``; None where no bootstrap was asked for or the AP is not defined.
        truths: counted truths. detections: counted detections.
        true_positives, false_positives: their split (COCO: at IoU 0.5).
        max_recall: recall when every detection is kept, NaN without truth.
        recall, precision, scores: ``(P,)`` float64, the curve: one point per counted detection, by descending score
            (COCO: at IoU 0.5). ``scores[i]`` is the threshold at which recall and precision are reached.
        numbers: further numbers of the protocol (COCO: ``ap50``, ``ap75``, ``ap_small``, ``ar_100``, ...).
    """

    label: int
    name: str
    ap: float
    interval: Interval | None
    truths: int
    detections: int
    true_positives: int
    false_positives: int
    max_recall: float
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]
    numbers: dict[str, float]

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or {self.recall.shape, self.precision.shape} != {self.scores.shape}:
            raise ValueError("ClassResult: recall, precision and scores must be of one length")

    def thinned(self, points: int = CURVE_POINTS) -> ClassResult:
        """The same with at most ``points`` points of the curve: its ends, and those where the recall rises.

        Of more true positives than that, every so many: all that AP is made of lies at them.
        """
        if len(self.scores) <= points:
            return self
        rises = np.flatnonzero(np.diff(self.recall, prepend=0.0) > 0)
        every = np.linspace(0, max(len(rises) - 1, 0), max(points - 2, 0)).round().astype(np.int64)
        keep = np.unique([0, *(rises[every] if len(rises) else []), len(self.scores) - 1]).astype(np.int64)
        return replace(self, recall=self.recall[keep], precision=self.precision[keep], scores=self.scores[keep])


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationResult:
    """The result of one protocol on one data set.

    Attributes:
        metric: ``voc07``, ``voc10``, ``coco`` or ``ilsvrc_det``.
        mean_ap: the protocol's headline number: the mean AP of the classes that have a counted truth; NaN if none has.
        interval: of ``mean_ap``; None where no bootstrap was asked for.
        numbers: every headline number of the protocol by name, ``mean_ap`` included (COCO: the official twelve, as
            ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large``, ``ar_1``, ``ar_10``, ``ar_100``,
            ``ar_small``, ``ar_medium``, ``ar_large``).
        classes: one row per class, by label.
        counts: what took part.
        settings: the protocol's parameters, e.g. ``{"iou_threshold": 0.5, "year": 2007}``.
        matches: which detection matched which truth; in memory only, never in the JSON.
    """

    metric: str
    mean_ap: float
    interval: Interval | None
    numbers: dict[str, float]
    classes: tuple[ClassResult, ...]
    counts: Counts
    settings: dict[str, Any]
    matches: Matches | None = field(default=None, metadata={IN_MEMORY: True})

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by label."""
        return tuple(row.name for row in self.classes)

    def need_matches(self) -> Matches:
        """The matches.

        Raises:
            ValueError: there are none, as in a result that was read from a file.
        """
        if self.matches is None:
            raise ValueError("a result without matches can be neither analysed nor compared; evaluate it anew")
        return self.matches

    def thinned(self) -> EvaluationResult:
        """The same with the curves as a file keeps them."""
        return replace(self, classes=tuple(row.thinned() for row in self.classes))

    def to_csv(self) -> str:
        """One line per class and a last one for the mean, with a header."""
        names = ("truths", "detections", "true_positives", "false_positives")
        extra = sorted({key for row in self.classes for key in row.numbers})
        rows: list[dict[str, object]] = [
            {"class": row.name, "ap": row.ap, **ends(row.interval, "ap_")}
            | {name: getattr(row, name) for name in names}
            | {"max_recall": row.max_recall, **{key: row.numbers.get(key) for key in extra}}
            for row in self.classes
        ]
        rows.append(
            {"class": "mean", "ap": self.mean_ap, **ends(self.interval, "ap_")}
            | {name: sum(getattr(row, name) for row in self.classes) for name in names}
            | {"max_recall": None, **{key: self.numbers.get(key) for key in extra}}
        )
        return csv_text(rows)


def ends(interval: Interval | None, prefix: str = "") -> dict[str, object]:
    """The ends of an interval, as columns of a table."""
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {f"{prefix}low": low, f"{prefix}high": high}


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of the same columns as CSV with a header; None and NaN are empty cells. Of no rows nothing."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: None if value != value else value for key, value in row.items()} for row in rows)
    return out.getvalue()
