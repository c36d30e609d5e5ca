"""The gallery: which mistakes are shown, in which order, in which pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from detector.evaluation.analysis_types import ErrorExample, Evaluation, PictureInfo

Gallery = tuple[dict[str, PictureInfo], list[ErrorExample]]
"""The pictures that are shown, by image id, and the mistakes in them, the worst first."""


def gallery(evaluation: Evaluation, *, max_cases: int, max_pictures: int) -> Gallery:
    """The mistakes that are shown, and their pictures.

    The kinds of error take turns, so that the first cases are the worst of every kind; within a kind the order is that
    of the analysis. A case whose picture would be one too many is left out, the others go on.

    Args:
        max_cases, max_pictures: upper limits; a picture may show several cases.
    """
    known = set(evaluation.result.class_names)
    pictures: dict[str, PictureInfo] = {}
    cases: list[ErrorExample] = []
    for example in _in_turns(evaluation.errors.examples):
        if len(cases) == max_cases:
            break
        if example.class_name not in known or not (example.box or example.truth_box):
            continue
        if example.image_id not in pictures:
            if len(pictures) == max_pictures:
                continue
            pictures[example.image_id] = _picture(example, evaluation.images.get(example.image_id))
        cases.append(example)
    return pictures, cases


def kind_of(example: ErrorExample) -> str:
    """The key of an error's kind; a missed object is told apart by who missed it, where that is known."""
    return f"{example.kind}_by_{example.missed_by}" if example.missed_by else example.kind


def _in_turns(examples: Sequence[ErrorExample]) -> Iterator[ErrorExample]:
    by_kind: dict[str, list[ErrorExample]] = {}
    for example in examples:
        by_kind.setdefault(kind_of(example), []).append(example)
    for rank in zip_longest(*by_kind.values()):
        yield from (example for example in rank if example is not None)


def _picture(example: ErrorExample, info: PictureInfo | None) -> PictureInfo:
    if info is not None and info.height > 0 and info.width > 0:
        return info
    # No file is known; the boxes alone say how large the picture must be at least.
    boxes = [box for box in (example.box, example.truth_box) if box]
    height, width = (max(1, math.ceil(max(box[i] for box in boxes))) for i in (3, 2))
    return PictureInfo("", height, width)
