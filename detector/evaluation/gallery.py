"""The pictures behind the examples of an error analysis: what lies in them, small enough to keep in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import SupportsFloat

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.analysis_types import ErrorAnalysis, PictureBox, PictureInfo
from detector.evaluation.error_analysis import detection_kinds
from detector.evaluation.matches import Matches
from proposals.types import Proposals

MOST_DETECTIONS = 50
MOST_PROPOSALS = 60


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
