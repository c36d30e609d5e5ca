"""The gallery's pictures carry what lies in them; the example goes the whole way from pictures to a page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from example_report import CLASS_NAMES, example_evaluation

from detector.evaluation.analysis_types import Evaluation, PictureInfo
from detector.evaluation.assemble import assemble
from detector.evaluation.error_analysis import detection_kinds
from detector.evaluation.gallery import proposal_rows
from detector.evaluation.voc import evaluate_voc
from detector.report.cases import gallery, kind_of
from detector.report.sections import error_kinds
from detector.types import Detections, GroundTruth
from proposals.types import Proposals, Source


def test_picture_holds_its_objects_and_the_verdict_on_each_detection() -> None:
    boxes = np.array([[0, 0, 20, 20], [50, 50, 80, 80], [60, 0, 90, 30]], np.float32)
    truth = GroundTruth(
        boxes, np.array([0, 1, 0]), np.array([False, False, True]), np.array([False, False, False]), np.full(3, 400.0)
    )
    found = Detections.sorted(
        np.array([[0, 0, 20, 20], [0, 0, 20, 21], [50, 50, 80, 80], [60, 0, 90, 30], [0, 70, 20, 90]], np.float32),
        np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32),
        np.array([0, 0, 0, 0, 1]),
        (100, 100),
    )
    result = evaluate_voc({"a": found, "b": found}, {"a": truth, "b": truth}, ["cat", "dog"], year=2010)
    given = Proposals(boxes, np.array([0.5, 0.25, 0.1], np.float32), np.full(3, Source.MULTIBOX, np.uint8), (100, 100))
    info = PictureInfo("a.jpg", 100, 100, proposal_rows(given, most=2))
    evaluation = assemble(result, proposals={"a": given.boxes}, picture_of={"a": info, "unused": info}.get)
    assert set(evaluation.images) == {"a"}, "b's picture is not known, and of the other there is no example"
    picture = evaluation.images["a"]
    assert [t.note for t in sorted(picture.truths, key=lambda t: t.box)] == ["", "", "difficult"]
    assert all(math.isnan(t.score) for t in picture.truths)
    assert [(d.class_name, d.note) for d in picture.detections] == [
        ("cat", ""),
        ("cat", "duplicate"),
        ("cat", "classification"),
        ("cat", "ignored"),
        ("dog", "background"),
    ]
    assert picture.proposals == ((0, 0, 20, 20, 0.5, 2), (50, 50, 80, 80, 0.25, 2))


def test_kinds_of_all_detections_agree_with_the_counts() -> None:
    rng = np.random.default_rng(3)
    truth, found = {}, {}
    for i in range(30):
        corners = rng.uniform(0, 60, (4, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (4, 2))], axis=1).astype(np.float32)
        truth[str(i)] = GroundTruth.of(boxes, rng.integers(0, 3, 4))
        moved = (np.repeat(boxes, 3, axis=0) + rng.normal(0, 6, (12, 4))).astype(np.float32)
        found[str(i)] = Detections.sorted(moved, rng.random(12).astype(np.float32), rng.integers(0, 3, 12), (100, 100))
    result = evaluate_voc(found, truth, ["a", "b", "c"], year=2010)
    assert result.matches is not None
    evaluation = assemble(result)
    kinds, counts = np.unique(detection_kinds(result.matches), return_counts=True)
    tally = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
    assert tally.pop("") == sum(row.true_positives for row in result.classes)
    assert tally == {kind: n for kind, n in evaluation.errors.counts.items() if n and kind in tally}
    assert sum(tally.values()) == sum(row.false_positives for row in result.classes)


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


def test_interval_holds_the_number_and_has_a_width_with_many_classes() -> None:
    """With many rare classes the resamples' bias is larger than their spread; the interval must survive that."""
    rng = np.random.default_rng(0)
    classes, truth, found = 120, {}, {}
    for i in range(240):
        corners = rng.uniform(0, 60, (3, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 40, (3, 2))], axis=1).astype(np.float32)
        labels = rng.integers(0, classes, 3)
        truth[str(i)] = GroundTruth.of(boxes, labels)
        wrong = np.where(rng.random(3) < 0.4, rng.integers(0, classes, 3), labels)
        found[str(i)] = Detections.sorted(boxes, rng.random(3).astype(np.float32), wrong, (100, 100))
    names = [str(i) for i in range(classes)]
    result = evaluate_voc(found, truth, names, year=2010, bootstrap_samples=200)
    assert result.interval is not None
    assert result.interval.low < result.mean_ap < result.interval.high
    assert 0.01 < result.interval.high - result.interval.low < 0.3
