"""The gallery: which mistakes are shown, in which order, in which pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from detector.evaluation.analysis_types import ErrorExample, Evaluation, PictureBox, PictureInfo
from detector.report.content import Box, Case, DetectionBox, PictureEntry, ProposalBox, TruthBox


def gallery(
    evaluation: Evaluation, *, max_cases: int, max_pictures: int
) -> tuple[tuple[PictureEntry, ...], tuple[Case, ...]]:
    """The pictures that are shown, and the mistakes in them, the worst first.

    The kinds of error take turns, so that the first cases are the worst of every kind; within a kind the order is that
    of the analysis. A case whose picture would be one too many is left out, the others go on.

    Args:
        max_cases, max_pictures: upper limits; a picture may show several cases.
    """
    labels = {name: label for label, name in enumerate(evaluation.result.class_names)}
    places: dict[str, int] = {}
    pictures: list[PictureEntry] = []
    cases: list[Case] = []
    for example in _in_turns(evaluation.errors.examples):
        if len(cases) == max_cases:
            break
        if example.class_name not in labels or _box_of(example) is None:
            continue
        if example.image_id not in places:
            if len(pictures) == max_pictures:
                continue
            places[example.image_id] = len(pictures)
            pictures.append(_picture(example, evaluation.images.get(example.image_id), labels))
        cases.append(_case(example, places[example.image_id], labels))
    return tuple(pictures), tuple(cases)


def kind_of(example: ErrorExample) -> str:
    """The key of an error's kind; a missed object is told apart by who missed it, where that is known."""
    return f"{example.kind}_by_{example.missed_by}" if example.missed_by else example.kind


def _in_turns(examples: Sequence[ErrorExample]) -> Iterator[ErrorExample]:
    by_kind: dict[str, list[ErrorExample]] = {}
    for example in examples:
        by_kind.setdefault(kind_of(example), []).append(example)
    for rank in zip_longest(*by_kind.values()):
        yield from (example for example in rank if example is not None)


def _box_of(example: ErrorExample) -> Box | None:
    box = example.box or example.truth_box
    return None if box is None else _four(box)


def _four(values: Sequence[float]) -> Box:
    x1, y1, x2, y2 = (float(v) for v in values[:4])
    return x1, y1, x2, y2


def _case(example: ErrorExample, picture: int, labels: dict[str, int]) -> Case:
    box = _box_of(example)
    assert box is not None
    return Case(
        picture=picture,
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


def _picture(example: ErrorExample, info: PictureInfo | None, labels: dict[str, int]) -> PictureEntry:
    if info is None:
        # No file is known; the boxes alone say how large the picture must be at least.
        ends = [box for box in (example.box, example.truth_box) if box]
        height, width = (max(1, math.ceil(max(box[i] for box in ends))) for i in (3, 2))
        return PictureEntry(example.image_id, "", (height, width))
    return PictureEntry(
        image_id=example.image_id,
        path=str(Path(info.path)),
        image_size=(info.height, info.width),
        truths=tuple(TruthBox(_four(t.box), labels[t.class_name], t.note) for t in _known(info.truths, labels)),
        detections=tuple(
            DetectionBox(_four(d.box), labels[d.class_name], d.score, d.note) for d in _known(info.detections, labels)
        ),
        proposals=tuple(
            # Rows of four numbers are boxes whose source and score are not known.
            ProposalBox(_four(row), int(row[5]) if len(row) > 5 else 0, row[4] if len(row) > 4 else 0.0)
            for row in info.proposals
        ),
    )


def _known(boxes: Sequence[PictureBox], labels: dict[str, int]) -> list[PictureBox]:
    return [box for box in boxes if box.class_name in labels]
