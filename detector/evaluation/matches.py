"""Which detection matched which truth: the common ground of AP, intervals, calibration and error analysis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.tables import DetectionTable, TruthTable

ApStyle = Literal["11 point", "area", "101 point"]


class Outcome(IntEnum):
    """What became of a detection."""

    FALSE_POSITIVE = 0
    TRUE_POSITIVE = 1
    IGNORED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Detections and truths in the order of evaluation, with what became of them.

    Detections are sorted by label, then by descending score, then by image and given order; truths by label and image.
    Detections that could not take part (unknown image or class) are not here.

    Attributes:
        class_names: by label.
        detections, truth: the sorted tables; their image indices agree and follow the canonical order.
        rows: ``(N,)`` int64, each detection's row in the table that was given.
        outcome: ``(T, N)`` int8 codes of :class:`Outcome`, one line per IoU threshold (VOC and ILSVRC: one line).
        matched: ``(N,)`` int64, the truth that made it a true positive or ignored at the first threshold, else -1.
        counted: ``(M,)`` bool, the truths that should be found.
        truth_iou: ``(M,)`` float64, the IoU that each truth asks of a detection at the first threshold.
        iou_thresholds: ``(T,)`` float64.
        ap_style: how precision and recall become AP.
    """

    class_names: tuple[str, ...]
    detections: DetectionTable
    truth: TruthTable
    rows: NDArray[np.int64]
    outcome: NDArray[np.int8]
    matched: NDArray[np.int64]
    counted: NDArray[np.bool_]
    truth_iou: NDArray[np.float64]
    iou_thresholds: NDArray[np.float64]
    ap_style: ApStyle

    def class_slice(self, label: int) -> slice:
        """The detections of one class."""
        start, stop = np.searchsorted(self.detections.labels, [label, label + 1])
        return slice(int(start), int(stop))

    def taken(self) -> NDArray[np.bool_]:
        """The truths ``(M,)`` that a true positive has at the first threshold."""
        taken = np.zeros(len(self.truth), np.bool_)
        taken[self.matched[self.outcome[0] == Outcome.TRUE_POSITIVE]] = True
        return taken

    def positives(self) -> NDArray[np.int64]:
        """Counted truths of each class, ``(K,)``."""
        return np.bincount(self.truth.labels[self.counted], minlength=len(self.class_names)).astype(np.int64)
