"""Compile the loops of the evaluation now: ``python -m detector.evaluation.warmup``. Later runs load them from disk."""

from __future__ import annotations

import numpy as np

from detector.evaluation.coco import evaluate_coco
from detector.evaluation.error_analysis import analyse_errors
from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det
from detector.evaluation.voc import evaluate_voc
from detector.types import Detections, GroundTruth


def warmup() -> None:
    """Measure one picture by every protocol, so that every loop is compiled for the arrays it will meet.

    Some ten seconds the first time.
    """
    box, label = np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int64)
    found = {"a": Detections(box, np.ones(1, np.float32), label, (9, 9))}
    truth = {"a": GroundTruth.of(box, label)}
    evaluate_ilsvrc_det(found, truth, ["a"])
    evaluate_coco(found, truth, ["a"])
    matches = evaluate_voc(found, truth, ["a"], bootstrap_samples=1).need_matches()
    analyse_errors(matches)


if __name__ == "__main__":
    warmup()
