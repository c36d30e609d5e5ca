"""ILSVRC detection: lenient thresholds for small objects, the best object not yet taken, the blacklist."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.kernels import IGNORED, match_ilsvrc
from detector.evaluation.prepare import DetectionInput, Prepared, TruthInput, prepare, result_of
from detector.evaluation.result import EvaluationResult

# The kit's names: defaultIOUthr and pixelTolerance.
IOU_THRESHOLD = 0.5
PIXEL_TOLERANCE = 10.0


def object_thresholds(sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoU ``(M,)`` that each object of width and height ``sides`` ``(M, 2)`` asks for.

    ``min(0.5, w h / ((w + 10)(h + 10)))``: a box 5 pixels off on every side still finds a small object. Below 0.5 for
    a square of up to 24 pixels.
    """
    width, height = sides[:, 0], sides[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        lenient = width * height / ((width + PIXEL_TOLERANCE) * (height + PIXEL_TOLERANCE))
    return np.minimum(IOU_THRESHOLD, lenient)


def evaluate_ilsvrc_det(
    detections: DetectionInput,
    truth: TruthInput,
    class_names: Sequence[str],
    *,
    blacklist: Collection[tuple[str, int]] = (),
    bootstrap_samples: int = 0,
    seed: int = 0,
) -> EvaluationResult:
    """AP of each class and their mean, as the ILSVRC 2014 kit computes them.

    Each detection, by descending score, takes the object of its class and image that has the highest IoU among those
    that nothing has taken yet and whose own threshold (:func:`object_thresholds`) the IoU reaches; otherwise it is a
    false positive. AP is the area under the envelope.

    Args:
        detections, truth, class_names, bootstrap_samples, seed: as for :func:`detector.evaluation.voc.evaluate_voc`.
            The kit knows no difficult objects; where a truth is ``ignore`` or ``crowd`` it does not count, and takes up
            the detections that reach its threshold and no counted object's.
        blacklist: (image id, label) pairs whose objects and detections are left out.

    Returns:
        The result; ``metric`` is "ilsvrc_det". A class without a counted object has AP NaN and is not in the mean.

    Raises:
        ValueError: a truth whose label has no name; a blacklisted pair whose label has none.
    """
    ready = prepare(detections, truth, class_names)
    listed, truth_listed = _blacklisted(ready, blacklist)
    counted = ~(ready.truth.ignore | ready.truth.crowd | truth_listed)
    thresholds = object_thresholds(ready.truth.sides)
    outcome, matched = match_ilsvrc(
        ready.detections.boxes,
        ready.first,
        # A blacklisted detection sees no object, so it takes none from the others.
        np.where(listed, ready.first, ready.last),
        ready.truth.boxes,
        counted,
        thresholds,
    )
    matched_ignored = int(((outcome == IGNORED) & ~listed).sum())
    outcome[listed] = IGNORED
    return result_of(
        "ilsvrc_det",
        ready,
        ready.matches(outcome, matched, counted, thresholds, [IOU_THRESHOLD], "area"),
        ignored={
            "image and class blacklisted": int(listed.sum()),
            "matched an ignored object": matched_ignored,
        },
        truths_ignored={
            "image and class blacklisted": int(truth_listed.sum()),
            "ignored or crowd": int(((ready.truth.ignore | ready.truth.crowd) & ~truth_listed).sum()),
        },
        settings={
            "iou_threshold": IOU_THRESHOLD,
            "pixel_tolerance": PIXEL_TOLERANCE,
            "blacklisted_pairs": len(blacklist),
        },
        samples=bootstrap_samples,
        seed=seed,
    )


def _blacklisted(
    ready: Prepared, blacklist: Collection[tuple[str, int]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections ``(N,)`` and truths ``(M,)`` belong to a blacklisted pair."""
    n_classes = len(ready.class_names)
    position = {name: i for i, name in enumerate(ready.truth.image_ids)}
    keys = []
    for image_id, label in blacklist:
        if not 0 <= label < n_classes:
            raise ValueError(f"blacklisted pair ({image_id!r}, {label}): there are {n_classes} class names")
        if image_id in position:
            keys.append(position[image_id] * n_classes + label)
    found, truth = ready.detections, ready.truth
    return (
        np.isin(found.image * n_classes + found.labels, keys),
        np.isin(truth.image * n_classes + truth.labels, keys),
    )
