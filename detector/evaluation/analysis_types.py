"""What the analyses behind a report return; all of it goes to JSON and back.

Fractions everywhere: a cost of 0.031 is 3.1 mAP points. NaN means "not defined" and is null in JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.plain import from_plain, to_plain
from detector.evaluation.result import EvaluationResult
from detector.shown import JSON_FAULTS, json_fault, json_text

# The kinds of error of a detection, and that of a truth.
ERROR_KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
# "missed" split in two, known where proposals were given; and the two totals of TIDE.
MISSED_KINDS = ("missed_by_proposals", "missed_by_classifier")
TOTALS = ("false_positive", "false_negative")


@dataclass(frozen=True, slots=True)
class ErrorExample:
    """One error to look at.

    Attributes:
        kind: one of ``ERROR_KINDS``. For "missed", ``missed_by`` says why where proposals were given.
        missed_by: "proposals", "classifier", or None.
        image_id: its image.
        class_name: the class of the detection, or of the missed truth.
        score: the detection's score; NaN for a missed truth.
        box: the detection's ``(x1, y1, x2, y2)`` in pixels; None for a missed truth.
        truth_box, truth_class: the truth that the error is about (the nearest one, the one already found by another
            detection, the missed one); None where there is none.
        iou: IoU of the two boxes; for a missed truth that of the best proposal, NaN where proposals are not known.
    """

    kind: str
    missed_by: str | None
    image_id: str
    class_name: str
    score: float
    box: tuple[float, ...] | None
    truth_box: tuple[float, ...] | None
    truth_class: str | None
    iou: float

    def __post_init__(self) -> None:
        if any(box is not None and len(box) != 4 for box in (self.box, self.truth_box)):
            raise ValueError("ErrorExample: a box has four numbers")


@dataclass(frozen=True, slots=True)
class ClassErrors:
    """The errors of one class.

    Attributes:
        label, name: the class. ap: its AP at the analysis' IoU threshold, NaN without counted truth.
        counts: errors by kind (``ERROR_KINDS``, and ``MISSED_KINDS`` where proposals are known).
        cost: AP that this class would gain if every error of the kind, of whatever class, were mended; same keys and
            ``TOTALS``. NaN without counted truth, or where mending would leave the class neither truth nor detection.
            May be negative: a detection moved to its right class can still stand above a true one.
    """

    label: int
    name: str
    ap: float
    counts: dict[str, int]
    cost: dict[str, float]


@dataclass(frozen=True, slots=True)
class ErrorAnalysis:
    """Where the missing points went.

    Attributes:
        iou_threshold: IoU from which a detection covers an object; background_threshold: IoU up to which it covers
            nothing.
        mean_ap: the mean AP that the costs refer to (COCO: at ``iou_threshold``, not the headline number).
        proposals_known: whether "missed" could be split.
        counts: errors of all classes by kind; keys as in :class:`ClassErrors`.
        cost: mAP gained if every error of the kind were mended, at least 0; keys as in :class:`ClassErrors`. The costs
            do not add up to 1 - mAP: mending two kinds together gains more or less than the two apart.
        classes: one row per class, by label.
        examples: the errors that hurt most, by descending score, at most so many per class and kind as were asked for;
            missed truths by descending area.
    """

    iou_threshold: float
    background_threshold: float
    mean_ap: float
    proposals_known: bool
    counts: dict[str, int]
    cost: dict[str, float]
    classes: tuple[ClassErrors, ...]
    examples: tuple[ErrorExample, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Whether a score of 0.8 means right eight times in ten.

    Attributes:
        edges: ``(B + 1,)`` float64, the bins of the score, from 0 to 1; a score on an edge is in the lower bin.
        count: ``(B,)`` int64 counted detections in each bin.
        mean_score, precision: ``(B,)`` float64, NaN where the bin is empty.
        expected_error: mean of ``|mean_score - precision|`` over detections (ECE). max_error: its maximum over bins.
        by_class: the expected error of each class by name, NaN for a class without counted detections.
        outside: counted detections whose score is not in [0, 1]; in no bin. If there are any, scores are no
            probabilities and the errors describe the others only.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    mean_score: NDArray[np.float64]
    precision: NDArray[np.float64]
    expected_error: float
    max_error: float
    by_class: dict[str, float]
    outside: int

    def __post_init__(self) -> None:
        bins = self.count.shape
        if (
            len(bins) != 1
            or self.edges.shape != (bins[0] + 1,)
            or {self.mean_score.shape, self.precision.shape} != {bins}
        ):
            raise ValueError("Calibration: edges, count, mean_score and precision must be of B + 1, B, B and B numbers")


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionMatrix:
    """Which class is taken for which.

    Detections at or above ``score_threshold`` and truths are paired one to one within an image by descending IoU,
    whatever their classes, down to ``iou_threshold``.

    Attributes:
        class_names: by label; the matrix has one more row and column for the background.
        matrix: ``(K + 1, K + 1)`` int64; ``matrix[t, d]`` truths of class t detected as d; the last column counts
            truths that no detection covers, the last row detections that cover no truth; the corner is 0.
        score_threshold, iou_threshold: as above.
    """

    class_names: tuple[str, ...]
    matrix: NDArray[np.int64]
    score_threshold: float
    iou_threshold: float

    def __post_init__(self) -> None:
        if self.matrix.shape != (len(self.class_names) + 1,) * 2:
            raise ValueError(f"ConfusionMatrix: {len(self.class_names)} classes, but a matrix of {self.matrix.shape}")


@dataclass(frozen=True, slots=True)
class RecallBin:
    """Recall of the truths of one size or shape.

    Attributes:
        name: e.g. "small" or "wide". low, high: the bin's ends, half-open (high is NaN where there is none).
        truths: counted truths in it. found: those matched by a true positive. recall: their share, NaN without truths.
    """

    name: str
    low: float
    high: float
    truths: int
    found: int
    recall: float


@dataclass(frozen=True, slots=True)
class PictureBox:
    """A truth or a detection of a picture of the gallery.

    Attributes:
        box: ``(x1, y1, x2, y2)`` in pixels. class_name: its class. score: NaN for a truth.
        note: of a truth "difficult", "crowd" or ""; of a detection the kind of its error, "" for a correct one,
            "ignored" for one that did not count.
    """

    box: tuple[float, ...]
    class_name: str
    score: float
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.box) != 4:
            raise ValueError("PictureBox: a box has four numbers")


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """Where a picture of the gallery is, and what is drawn in it.

    Attributes:
        path: its file. height, width: its size in pixels.
        proposals: ``[x1, y1, x2, y2, score, source]`` (source: code of :class:`proposals.types.Source`) of its best
            proposals where known, else empty.
        truths: its annotated objects. detections: its best detections, by descending score.
    """

    path: str
    height: int
    width: int
    proposals: tuple[tuple[float, ...], ...] = ()
    truths: tuple[PictureBox, ...] = ()
    detections: tuple[PictureBox, ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != 6 for row in self.proposals):
            raise ValueError("PictureInfo: a proposal has six numbers")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that a report shows; saved as ``evaluation.json`` in a run folder.

    Attributes:
        result: the protocol's numbers. errors: where the missing points went. calibration: of the scores.
        confusion: classes taken for one another.
        recall_by_size: by the square root of the area in pixels. recall_by_aspect: by width / height.
        images: the pictures of ``errors.examples``, by image id; those whose file is known.
        info: what was evaluated, for the reader: ``model`` or ``detections``, ``data``, ``command``, ``created``.
    """

    result: EvaluationResult
    errors: ErrorAnalysis
    calibration: Calibration
    confusion: ConfusionMatrix
    recall_by_size: tuple[RecallBin, ...]
    recall_by_aspect: tuple[RecallBin, ...]
    images: dict[str, PictureInfo]
    info: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the curves thinned."""
        plain: dict[str, Any] = to_plain(replace(self, result=self.result.thinned()))
        return plain

    def save(self, folder: Path) -> None:
        """Write ``evaluation.json`` and ``per_class.csv`` into ``folder``."""
        (folder / "evaluation.json").write_text(json_text(self.to_dict()), encoding="utf-8")
        table = self.result.to_csv().encode("utf-8", "backslashreplace")  # a name may hold a lone surrogate
        (folder / "per_class.csv").write_bytes(table)

    @classmethod
    def load(cls, file: Path) -> Evaluation:
        """Read an ``evaluation.json``.

        Raises:
            ValueError: not such a file, with the reason. OSError: not readable.
        """
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
        except JSON_FAULTS as error:
            raise ValueError(f"not JSON: {json_fault(error)}") from None
        return from_plain(cls, content)
