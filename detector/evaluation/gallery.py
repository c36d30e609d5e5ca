"""The pictures behind the examples of an error analysis: what lies in them, small enough to keep in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.analysis_types import ErrorAnalysis, PictureBox, PictureInfo
from detector.evaluation.error_analysis import detection_kinds
from detector.evaluation.matches import Matches
from detector.types import ImageRecord
from proposals.types import Proposals

MOST_DETECTIONS = 50
MOST_PROPOSALS = 100


def gallery_pictures(
    matches: Matches,
    errors: ErrorAnalysis,
    records: Iterable[ImageRecord],
    *,
    proposals: Mapping[str, Proposals] | None = None,
    most_detections: int = MOST_DETECTIONS,
    most_proposals: int = MOST_PROPOSALS,
) -> dict[str, PictureInfo]:
    """The pictures of ``errors.examples`` by image id, for :attr:`Evaluation.images`.

    Args:
        matches: of the evaluation. errors: their analysis. records: the images of the data set; an example of any other
            image gets no picture.
        proposals: of each image by id, best first.
        most_detections, most_proposals: how many of the best are kept of each picture; the detections and the
            proposals that an example is about lie mostly among them.
    """
    table, truth = matches.detections, matches.truth
    position = {name: i for i, name in enumerate(truth.image_ids)}
    wanted = {example.image_id for example in errors.examples}
    kinds = detection_kinds(matches, errors.background_threshold)
    found_by_image = _rows_by_image(table.image, -table.scores)
    truth_by_image = _rows_by_image(truth.image, np.arange(len(truth), dtype=np.float64))
    pictures = {}
    for record in records:
        name = record.image_id
        if name not in wanted or name not in position:
            continue
        image, (height, width) = position[name], record.image_size
        given = None if proposals is None else proposals.get(name)
        pictures[name] = PictureInfo(
            path=str(record.path),
            height=height,
            width=width,
            proposals=() if given is None else _proposal_rows(given, most_proposals),
            truths=tuple(
                PictureBox(
                    _short(truth.boxes[row]),
                    matches.class_names[truth.labels[row]],
                    float("nan"),
                    "crowd" if truth.crowd[row] else "difficult" if truth.ignore[row] else "",
                )
                for row in truth_by_image.get(image, ())
            ),
            detections=tuple(
                PictureBox(
                    _short(table.boxes[row]),
                    matches.class_names[table.labels[row]],
                    round(float(table.scores[row]), 5),
                    str(kinds[row]),
                )
                for row in found_by_image.get(image, ())[:most_detections]
            ),
        )
    return pictures


def _rows_by_image(image: NDArray[np.int64], key: NDArray[np.float64]) -> dict[int, list[int]]:
    """The rows of each image, by ascending ``key`` ``(N,)``."""
    order = np.lexsort((key, image))
    rows: dict[int, list[int]] = {}
    for row, where in zip(order.tolist(), image[order].tolist(), strict=True):
        rows.setdefault(where, []).append(row)
    return rows


def _proposal_rows(given: Proposals, most: int) -> tuple[tuple[float, ...], ...]:
    best = given.select(slice(0, most))
    rows = zip(best.boxes, best.scores.tolist(), best.source.tolist(), strict=True)
    return tuple((*_short(box), round(score, 5), float(source)) for box, score, source in rows)


def _short(box: Iterable[np.floating]) -> tuple[float, ...]:
    """Tenths of a pixel are more than anyone can see."""
    return tuple(round(float(value), 1) for value in box)
