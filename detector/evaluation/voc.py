"""PASCAL VOC detection: 2007's 11-point AP, and the area of 2010 and later.

Boxes are half-open here and inclusive in the devkit; since only ``xmin`` and ``ymin`` were shifted on reading, every
width, height and overlap equals the devkit's with its ``+ 1``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detector.evaluation.kernels import match_voc
from detector.evaluation.matches import ApStyle, Outcome
from detector.evaluation.prepare import DetectionInput, TruthInput, prepare, result_of
from detector.evaluation.result import EvaluationResult


def evaluate_voc(
    detections: DetectionInput,
    truth: TruthInput,
    class_names: Sequence[str],
    *,
    year: int = 2007,
    iou_threshold: float = 0.5,
    bootstrap_samples: int = 0,
    seed: int = 0,
) -> EvaluationResult:
    """AP of each class and their mean, as the devkit computes them.

    Each detection, by descending score over the whole set, takes the object of its class and image with the highest
    IoU. At ``iou_threshold`` or more it is a true positive, unless that object was taken before (false positive) or
    does not count (difficult or crowd: neither). Equal scores keep the order of images, then of detections.

    Args:
        detections: :class:`~detector.types.Detections` by image id, or a table. Images that are absent have none.
        truth: :class:`~detector.types.GroundTruth` by image id, or a table; every image of the data set.
        class_names: one per label.
        year: 2007 for the 11-point AP, 2010 or later for the area.
        iou_threshold: in (0, 1].
        bootstrap_samples: resamples of the images for the intervals; 0 for none. seed: of the resampling.

    Returns:
        The result; ``metric`` is "voc07" or "voc10". A class without a counted object has AP NaN and is not in the
        mean.

    Raises:
        ValueError: a year that never was; a threshold outside (0, 1]; a truth whose label has no name.
    """
    if year != 2007 and not 2010 <= year <= 2012:
        raise ValueError(f"year must be 2007 (11-point AP) or 2010 to 2012 (area), not {year}")
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], not {iou_threshold}")
    ready = prepare(detections, truth, class_names)
    counted = ~(ready.truth.ignore | ready.truth.crowd)
    outcome, matched = match_voc(
        ready.detections.boxes, ready.first, ready.last, ready.truth.boxes, counted, iou_threshold
    )
    truth_iou = np.full(len(counted), float(iou_threshold))
    style: ApStyle = "11 point" if year == 2007 else "area"
    return result_of(
        "voc07" if year == 2007 else "voc10",
        ready,
        ready.matches(outcome, matched, counted, truth_iou, [iou_threshold], style),
        ignored={"matched a difficult or crowd object": int((outcome == Outcome.IGNORED).sum())},
        truths_ignored={
            "difficult": int((ready.truth.ignore & ~ready.truth.crowd).sum()),
            "crowd": int(ready.truth.crowd.sum()),
        },
        settings={"year": year, "iou_threshold": iou_threshold},
        samples=bootstrap_samples,
        seed=seed,
    )
