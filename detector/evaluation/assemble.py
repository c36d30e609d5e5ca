"""From a scored result to everything that a report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from numpy.typing import ArrayLike

from detector.data.faults import BOX_LEFT_OUT, IMAGE_LEFT_OUT, Fault
from detector.evaluation.analysis import calibration, confusion_matrix, recall_by_aspect, recall_by_size
from detector.evaluation.analysis_types import Evaluation, PictureInfo
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.error_analysis import analyse_errors
from detector.evaluation.gallery import gallery_pictures
from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det
from detector.evaluation.metrics import METRICS
from detector.evaluation.prepare import DetectionInput, TruthInput
from detector.evaluation.result import LEFT_OUT, EvaluationResult
from detector.evaluation.voc import evaluate_voc
from proposals.errors import UserError


def score(
    metric: str,
    detections: DetectionInput,
    truth: TruthInput,
    class_names: tuple[str, ...],
    *,
    blacklist: Iterable[tuple[str, int]] = (),
    bootstrap_samples: int = 0,
    seed: int = 0,
    faults: Iterable[Fault] = (),
) -> EvaluationResult:
    """Score by the metric's name; what the data set left out while it was read goes into the result's notes.

    Raises:
        UserError: the metric is unknown.
    """
    if metric == "coco":
        result = evaluate_coco(detections, truth, class_names, bootstrap_samples=bootstrap_samples, seed=seed)
    elif metric == "ilsvrc_det":
        result = evaluate_ilsvrc_det(
            detections, truth, class_names, blacklist=list(blacklist), bootstrap_samples=bootstrap_samples, seed=seed
        )
    elif metric in ("voc07", "voc10"):
        year = 2007 if metric == "voc07" else 2010
        result = evaluate_voc(detections, truth, class_names, year=year, bootstrap_samples=bootstrap_samples, seed=seed)
    else:
        raise UserError(f"metric {metric!r} is unknown; choose one of {', '.join(METRICS)}")
    left_out = (fault for fault in faults if fault.effect in (IMAGE_LEFT_OUT, BOX_LEFT_OUT))
    noted = Counter(f"{LEFT_OUT}{fault.effect} ({fault.kind})" for fault in left_out)
    return replace(result, counts=replace(result.counts, notes={**result.counts.notes, **noted}))


def assemble(
    result: EvaluationResult,
    *,
    proposals: Mapping[str, ArrayLike] | None = None,
    picture_of: Callable[[str], PictureInfo | None] = lambda image_id: None,
    info: Mapping[str, str] | None = None,
    examples: int = 20,
) -> Evaluation:
    """Add the analyses.

    Args:
        result: with its matches. proposals: boxes ``(P, 4)`` by image id, where known.
        picture_of: an image's file by its id, asked for those of the examples; kept with their objects and detections.
        info: see :class:`Evaluation`. examples: errors to keep of each class and kind.

    Raises:
        ValueError: the result carries no matches.
    """
    matches = result.need_matches()
    errors = analyse_errors(matches, proposals=proposals, examples=examples)
    return Evaluation(
        result=result,
        errors=errors,
        calibration=calibration(matches),
        confusion=confusion_matrix(matches),
        recall_by_size=recall_by_size(matches),
        recall_by_aspect=recall_by_aspect(matches),
        images=gallery_pictures(matches, errors, picture_of),
        info=dict(info or {}),
    )
