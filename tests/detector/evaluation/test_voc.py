"""VOC against a literal reading of the devkit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from boxes import found_of, truth_of
from official_rules import area, eleven_points, official_curve, ours, random_set, voc_verdicts

from detector.evaluation.voc import evaluate_voc
from detector.types import Detections, GroundTruth


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("seed", range(25))
def test_equals_the_devkit(seed: int, year: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = random_set(rng, int(rng.integers(1, 8)), 3)
    difficult = {(image, i) for image, rows in truth.items() for i in range(len(rows)) if rng.random() < 0.2}
    result = evaluate_voc(*ours(truth, found, difficult), ["a", "b", "c"], year=year)
    expected = []
    for label, row in enumerate(result.classes):
        curve = official_curve(label, truth, found, voc_verdicts, difficult)
        if curve is None:
            assert np.isnan(row.ap)
            continue
        expected.append(area(*curve) if year == 2012 else eleven_points(*curve))
        assert row.ap == pytest.approx(expected[-1], abs=1e-12)
        np.testing.assert_allclose([row.recall, row.precision], curve, atol=1e-12)
    assert result.mean_ap == pytest.approx(np.mean(expected) if expected else np.nan, abs=1e-12, nan_ok=True)


BOX, OTHER = [0, 0, 10, 10], [20, 20, 30, 30]


@pytest.mark.parametrize(
    ("found", "truth", "true", "false"),
    [
        (found_of([0, 0, 10, 5]), truth_of(BOX), 1, 0),  # IoU 50 / 100
        (found_of([0, 0, 10, 4.99]), truth_of(BOX), 0, 1),
        # The second one's best truth is taken; the free one also reaches 0.5 but is not asked.
        (found_of([BOX, [0, 0.5, 10, 10.5]]), truth_of([BOX, [0, 2, 10, 12]]), 1, 1),
        (found_of(BOX), truth_of([BOX, BOX], ignore=[False, True]), 1, 0),
        (found_of([BOX, BOX, OTHER]), truth_of([BOX, OTHER], ignore=[True, False]), 1, 0),
        (found_of([BOX, BOX, OTHER]), truth_of([BOX, OTHER], crowd=[True, False]), 1, 0),
    ],
    ids=["exactly half", "just below", "taken", "first of equals", "difficult", "crowd"],
)
def test_what_is_matched(found: Detections, truth: GroundTruth, true: int, false: int) -> None:
    row = evaluate_voc({"i": found}, {"i": truth}, ["a"]).classes[0]
    assert (row.true_positives, row.false_positives) == (true, false)


def test_difficult_truth_is_counted_apart() -> None:
    truth = truth_of([BOX, OTHER], ignore=[True, False])
    result = evaluate_voc({"i": found_of([BOX, BOX, OTHER])}, {"i": truth}, ["a"])
    assert result.mean_ap == 1
    assert result.counts.detections_ignored == {"matched a difficult or crowd object": 2}
    assert (result.counts.truths_ignored, result.counts.truths_counted) == ({"difficult": 1}, 1)


def test_false_positives_on_images_without_objects_count() -> None:
    truth = {"full": truth_of(BOX), "empty": truth_of([])}
    result = evaluate_voc({"full": found_of(BOX, 0.5), "empty": found_of(BOX, 0.9)}, truth, ["a"], year=2010)
    assert result.mean_ap == pytest.approx(0.5)
    assert result.counts.images_without_truth == 1


def test_class_without_truth_is_not_in_the_mean() -> None:
    result = evaluate_voc({"i": found_of([BOX, [0, 0, 5, 5]], labels=[0, 1])}, {"i": truth_of(BOX)}, ["a", "b"])
    assert result.mean_ap == 1
    assert [row.truths for row in result.classes] == [1, 0]
    assert np.isnan(result.classes[1].ap)
    assert result.classes[1].false_positives == 1


@pytest.mark.parametrize("settings", [{"year": 2008}, {"year": 2020}, {"iou_threshold": 0}, {"iou_threshold": 1.1}])
def test_settings_that_never_were(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"year|iou_threshold"):
        evaluate_voc({}, {}, ["a"], **settings)


def test_truth_label_without_a_name() -> None:
    with pytest.raises(ValueError, match="label 3"):
        evaluate_voc({}, {"i": truth_of(BOX, 3)}, ["a"])
