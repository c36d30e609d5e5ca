"""The gallery: which mistakes are shown, in which order, in which pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from detector.evaluation.analysis_types import ErrorExample, Evaluation, PictureInfo
from detector.report.content import Case


def gallery(
    evaluation: Evaluation, *, max_cases: int, max_pictures: int
) -> tuple[dict[str, PictureInfo], tuple[Case, ...]]:
    """The pictures that are shown, by image id, and the mistakes in them, the worst first.

    The kinds of error take turns, so that the first cases are the worst of every kind; within a kind the order is that
    of the analysis. A case whose picture would be one too many is left out, the others go on.

    Args:
        max_cases, max_pictures: upper limits; a picture may show several cases.
    """
    labels = {name: label for label, name in enumerate(evaluation.result.class_names)}
    pictures: dict[str, PictureInfo] = {}
    cases: list[Case] = []
    for example in _in_turns(evaluation.errors.examples):
        if len(cases) == max_cases:
            break
        box = example.box or example.truth_box
        if example.class_name not in labels or box is None:
            continue
        if example.image_id not in pictures:
            if len(pictures) == max_pictures:
                continue
            pictures[example.image_id] = _picture(example, evaluation.images.get(example.image_id))
        cases.append(_case(example, box, labels))
    return pictures, tuple(cases)


def kind_of(example: ErrorExample) -> str:
    """The key of an error's kind; a missed object is told apart by who missed it, where that is known."""
    return f"{example.kind}_by_{example.missed_by}" if example.missed_by else example.kind


def _in_turns(examples: Sequence[ErrorExample]) -> Iterator[ErrorExample]:
    by_kind: dict[str, list[ErrorExample]] = {}
    for example in examples:
        by_kind.setdefault(kind_of(example), []).append(example)
    for rank in zip_longest(*by_kind.values()):
        yield from (example for example in rank if example is not None)


def _case(example: ErrorExample, box: tuple[float, ...], labels: dict[str, int]) -> Case:
    return Case(
        picture=example.image_id,
        kind=kind_of(example),
        label=labels[example.class_name],
        box=box,
        score=0.0 if math.isnan(example.score) else example.score,
        iou=None if math.isnan(example.iou) else example.iou,
        other=labels.get(example.truth_class or ""),
        note=_note(example),
    )


def _note(example: ErrorExample) -> str:
    if math.isnan(example.iou):
        return ""
    if example.box is None:
        return f"the best proposal overlaps it with IoU {example.iou:.2f}"
    if example.truth_box is None:
        return ""
    return f"IoU {example.iou:.2f} with the object “{example.truth_class}”"


def _picture(example: ErrorExample, info: PictureInfo | None) -> PictureInfo:
    if info is not None and info.height > 0 and info.width > 0:
        return info
    # No file is known; the boxes alone say how large the picture must be at least.
    boxes = [box for box in (example.box, example.truth_box) if box]
    height, width = (max(1, math.ceil(max(box[i] for box in boxes))) for i in (3, 2))
    return PictureInfo("", height, width)
