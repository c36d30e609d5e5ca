"""The gallery's pictures carry what lies in them; the example goes the whole way from pictures to a page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from boxes import found_of, truth_of
from example_report import CLASS_NAMES, example_evaluation

from detector.evaluation.analysis_types import Evaluation, PictureInfo
from detector.evaluation.assemble import assemble, proposal_rows
from detector.evaluation.voc import evaluate_voc
from detector.report.page_data import gallery, kind_of
from detector.report.sections import error_kinds
from proposals.types import Proposals, Source


def test_picture_holds_its_objects_and_the_verdict_on_each_detection() -> None:
    boxes = np.array([[0, 0, 20, 20], [50, 50, 80, 80], [60, 0, 90, 30]], np.float32)
    truth = truth_of(boxes, [0, 1, 0], ignore=[False, False, True])
    found = found_of([boxes[0], [0, 0, 20, 21], boxes[1], boxes[2], [0, 70, 20, 90]], labels=[0, 0, 0, 0, 1])
    result = evaluate_voc({"a": found, "b": found}, {"a": truth, "b": truth}, ["cat", "dog"], year=2010)
    given = Proposals(boxes, np.array([0.5, 0.25, 0.1], np.float32), np.full(3, Source.MULTIBOX, np.uint8), (100, 100))
    info = PictureInfo("a.jpg", 100, 100, proposal_rows(given, most=2))
    evaluation = assemble(result, proposals={"a": given.boxes}, picture_of={"a": info, "unused": info}.get)
    assert set(evaluation.images) == {"a"}, "b's picture is not known, and of the other there is no example"
    picture = evaluation.images["a"]
    assert [t.note for t in sorted(picture.truths, key=lambda t: t.box)] == ["", "", "difficult"]
    assert all(math.isnan(t.score) for t in picture.truths)
    assert [d.note for d in picture.detections] == ["", "duplicate", "classification", "ignored", "background"]
    assert [d.class_name for d in picture.detections] == ["cat"] * 4 + ["dog"]
    assert picture.proposals == ((0, 0, 20, 20, 0.5, 2), (50, 50, 80, 80, 0.25, 2))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return example_evaluation(tmp_path_factory.mktemp("example"), n_images=30)


def test_example_shows_every_part_of_a_report(example: Evaluation) -> None:
    pictures, cases = gallery(example, max_cases=400, max_pictures=200)
    assert list(example.result.class_names) == list(CLASS_NAMES)
    assert example.result.interval is not None
    assert {kind_of(case) for case in cases} == {kind.key for kind in error_kinds(example.errors)}
    assert example.confusion.matrix.any()
    assert sum(group.truths for group in example.recall_by_size) == sum(g.truths for g in example.recall_by_aspect)
    for picture in pictures.values():
        assert Path(picture.path).is_file()
        assert picture.proposals
        assert {row[5] for row in picture.proposals} <= set(Source)
    for case in cases:
        picture = pictures[case.image_id]
        inside = picture.truths if case.kind == "missed" else picture.detections
        assert any(
            np.allclose(case.box or case.truth_box or (), other.box, atol=0.06) and other.class_name == case.class_name
            for other in inside
        )
