"""From a scored result to everything that a report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.data.faults import BOX_LEFT_OUT, IMAGE_LEFT_OUT, Fault
from detector.evaluation.analysis import calibration, confusion_matrix, recall_by_aspect, recall_by_size
from detector.evaluation.analysis_types import ErrorAnalysis, Evaluation, PictureBox, PictureInfo
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.error_analysis import analyse_errors, detection_kinds
from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det
from detector.evaluation.matches import Matches
from detector.evaluation.prepare import DetectionInput, TruthInput
from detector.evaluation.result import LEFT_OUT, METRICS, EvaluationResult
from detector.evaluation.voc import evaluate_voc
from proposals.errors import UserError
from proposals.types import Proposals

# Of a picture that a report shows.
MOST_DETECTIONS = 50
MOST_PROPOSALS = 60


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
    protocols: dict[str, Callable[..., EvaluationResult]] = {
        "voc07": partial(evaluate_voc, year=2007),
        "voc10": partial(evaluate_voc, year=2010),
        "coco": evaluate_coco,
        "ilsvrc_det": partial(evaluate_ilsvrc_det, blacklist=list(blacklist)),
    }
    if metric not in protocols:
        raise UserError(f"metric {metric!r} is unknown; choose one of {', '.join(METRICS)}")
    result = protocols[metric](detections, truth, class_names, bootstrap_samples=bootstrap_samples, seed=seed)
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


def gallery_pictures(
    matches: Matches, errors: ErrorAnalysis, picture_of: Callable[[str], PictureInfo | None]
) -> dict[str, PictureInfo]:
    """The pictures of ``errors.examples`` with their objects and best detections, by image id.

    Args:
        matches: of the evaluation. errors: their analysis.
        picture_of: file, size and proposals of an image by its id, or None: its examples get no picture.
    """
    table, truth, names = matches.detections, matches.truth, matches.class_names
    kinds = detection_kinds(matches)
    found_in = _rows_by_image(table.image, -table.scores)
    truths_in = _rows_by_image(truth.image, np.arange(len(truth), dtype=np.float64))
    position = {image_id: i for i, image_id in enumerate(truth.image_ids)}

    def object_(row: int) -> PictureBox:
        note = "crowd" if truth.crowd[row] else "difficult" if truth.ignore[row] else ""
        return PictureBox(short_box(truth.boxes[row]), names[truth.labels[row]], float("nan"), note)

    def detection(row: int) -> PictureBox:
        score = round(float(table.scores[row]), 5)
        return PictureBox(short_box(table.boxes[row]), names[table.labels[row]], score, str(kinds[row]))

    filled = {}
    for image_id in dict.fromkeys(example.image_id for example in errors.examples):
        picture, image = picture_of(image_id), position[image_id]
        if picture is not None:
            truths = tuple(map(object_, truths_in.get(image, ())))
            detections = tuple(map(detection, found_in.get(image, ())[:MOST_DETECTIONS]))
            filled[image_id] = replace(picture, truths=truths, detections=detections)
    return filled


def proposal_rows(proposals: Proposals, most: int = MOST_PROPOSALS) -> tuple[tuple[float, ...], ...]:
    """The best ``most`` proposals as :attr:`PictureInfo.proposals` has them."""
    best = proposals.select(slice(0, most))
    rows = zip(best.boxes, best.scores.tolist(), best.source.tolist(), strict=True)
    return tuple((*short_box(box), round(score, 5), float(source)) for box, score, source in rows)


def short_box(box: Iterable[SupportsFloat]) -> tuple[float, ...]:
    """Tenths of a pixel are more than anyone can see."""
    return tuple(round(float(value), 1) for value in box)


def _rows_by_image(image: NDArray[np.int64], key: NDArray[np.float64]) -> dict[int, list[int]]:
    """The rows of each image, by ascending ``key`` ``(N,)``."""
    order = np.lexsort((key, image))
    rows: dict[int, list[int]] = {}
    for row, where in zip(order.tolist(), image[order].tolist(), strict=True):
        rows.setdefault(where, []).append(row)
    return rows
