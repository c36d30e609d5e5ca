"""What a report says: plain numbers and words, already computed, ready to be shown or written to a file.

Glossary: *points* are mean-average-precision points of 100; fractions are in [0, 1]; ``None`` stands for
a number that is not defined (the AP of a class without objects). Boxes are ``x1 y1 x2 y2`` in pixels of the original
image. ``label`` is an index into ``Report.classes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Box = tuple[float, float, float, float]


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
class Share:
    """Objects of one group (of a size, of a shape) and how many of them were found; ``short`` fits under a column."""

    name: str
    found: int
    total: int
    short: str = ""


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Detections with scores in [``low``, ``high``): their mean score and the fraction that is correct."""

    low: float
    high: float
    count: int
    mean_score: float | None
    precision: float | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts by (true label, predicted label); label K is the background: missed objects and false alarms."""

    counts: Mapping[tuple[int, int], int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of something were counted, how many were not, and why not."""

    what: str
    counted: int
    ignored: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class TruthBox:
    """An annotated object; ``note`` says "difficult" or "crowd"."""

    box: Box
    label: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class DetectionBox:
    """A detection; ``kind`` is the key of its error, "" for a correct one, "ignored" if it did not count."""

    box: Box
    label: int
    score: float
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ProposalBox:
    """A proposal; ``source`` is its code in :class:`proposals.types.Source`."""

    box: Box
    source: int
    score: float


@dataclass(frozen=True, slots=True)
class PictureEntry:
    """One image of the gallery. ``path`` is where its file lies; an image whose file is missing is still listed."""

    image_id: str
    path: str
    image_size: tuple[int, int]
    truths: tuple[TruthBox, ...] = ()
    detections: tuple[DetectionBox, ...] = ()
    proposals: tuple[ProposalBox, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One mistake: a missed object or a false detection.

    Attributes:
        picture: index into ``Report.pictures``. kind: key of its error. label: the class it counts against.
        box: of the detection, or of the missed object. score: of the detection; for a missed object the best score
            that its class got on it, 0 for none. iou: overlap with the truth concerned, where there is one.
        other: label of the truth that was taken for ``label``, where that is the mistake.
        note: one sentence more.
    """

    picture: int
    kind: str
    label: int
    box: Box
    score: float
    iou: float | None = None
    other: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report shows.

    ``facts`` are (name, value) pairs for its head, ``config`` is YAML text; ``calibration_outside`` counts detections
    whose score is not in [0, 1], which are in no bin.
    """

    title: str
    subtitle: str
    headlines: tuple[Headline, ...]
    classes: tuple[ClassRow, ...]
    mean_curve: Curve = field(default_factory=Curve)
    curve_note: str = ""
    kinds: tuple[ErrorKind, ...] = ()
    error_note: str = ""
    sizes: tuple[Share, ...] = ()
    aspects: tuple[Share, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()
    calibration_error: float | None = None
    calibration_outside: int = 0
    confusion: Confusion = field(default_factory=Confusion)
    counted: tuple[Counted, ...] = ()
    pictures: tuple[PictureEntry, ...] = ()
    cases: tuple[Case, ...] = ()
    cases_in_all: int = 0
    facts: tuple[tuple[str, str], ...] = ()
    command: str = ""
    config: str = ""
