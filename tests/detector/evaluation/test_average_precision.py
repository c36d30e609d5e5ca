"""The three readings of AP against slow, literal ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.evaluation.average_precision import (
    COCO_LEVELS,
    ELEVEN_LEVELS,
    RECALL_LEVELS,
    ap_area,
    ap_at_levels,
    average_precision,
    precision_recall,
)
from detector.evaluation.kernels import resampled_ap

FLAGS = st.lists(st.booleans(), max_size=40)


def devkit_07(recall: list[float], precision: list[float]) -> float:
    """VOCevaldet of 2007, line by line."""
    ap = 0.0
    for t in ELEVEN_LEVELS:
        reached = [p for r, p in zip(recall, precision, strict=True) if r >= t]
        ap += (max(reached) if reached else 0) / 11
    return ap


def devkit_10(recall: list[float], precision: list[float]) -> float:
    """VOCap of 2010, line by line."""
    mrec, mpre = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    return sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec)) if mrec[i] != mrec[i - 1])


@settings(deadline=None)
@given(FLAGS, st.integers(0, 10))
def test_readings_equal_the_devkits(flags: list[bool], extra: int) -> None:
    positives = max(sum(flags) + extra, 1)
    recall, precision = precision_recall(np.array(flags, np.bool_), positives)
    expected = devkit_07(recall.tolist(), precision.tolist())
    assert ap_at_levels(recall, precision, ELEVEN_LEVELS) == pytest.approx(expected, abs=1e-12)
    assert ap_area(recall, precision) == pytest.approx(devkit_10(recall.tolist(), precision.tolist()), abs=1e-12)


def test_eleven_levels_are_those_of_matlab() -> None:
    # 0:0.1:1 counts up from the left end to the middle, then down from the right end.
    assert ELEVEN_LEVELS[3] == 0.1 * 3 != 0.3
    assert ELEVEN_LEVELS[6] == 1 - 0.1 * 4 == 0.6
    assert ELEVEN_LEVELS[7] == 1 - 0.1 * 3 == 0.7
    assert np.allclose(ELEVEN_LEVELS, np.arange(11) / 10)


def test_recall_on_a_level() -> None:
    # 3 of 10 found: 0.3 is below the devkit's fourth level, so three levels count; 7 of 10: 0.7 reaches the eighth.
    three = precision_recall(np.ones(3, np.bool_), 10)
    seven = precision_recall(np.ones(7, np.bool_), 10)
    assert ap_at_levels(*three, ELEVEN_LEVELS) == pytest.approx(3 / 11)
    assert ap_at_levels(*seven, ELEVEN_LEVELS) == pytest.approx(8 / 11)


def test_known_curve() -> None:
    recall, precision = precision_recall(np.array([True, False, True]), 2)
    assert recall.tolist() == [0.5, 0.5, 1.0]
    assert precision.tolist() == [1.0, 0.5, 2 / 3]
    assert ap_area(recall, precision) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert ap_at_levels(recall, precision, ELEVEN_LEVELS) == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert ap_at_levels(recall, precision, COCO_LEVELS) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_coco_levels_are_the_references() -> None:
    evaluation = pytest.importorskip("pycocotools.cocoeval", reason="pip install googlenet-detector[test]")
    assert np.array_equal(COCO_LEVELS, evaluation.Params("bbox").recThrs)


@pytest.mark.parametrize("style", ["11 point", "area", "101 point"])
def test_ends(style: str) -> None:
    nothing = precision_recall(np.zeros(0, np.bool_), 3)
    perfect = precision_recall(np.ones(3, np.bool_), 3)
    wrong = precision_recall(np.zeros(5, np.bool_), 3)
    assert average_precision(*nothing, style) == 0  # type: ignore[arg-type]
    assert average_precision(*perfect, style) == 1  # type: ignore[arg-type]
    assert average_precision(*wrong, style) == 0  # type: ignore[arg-type]
    assert np.isnan(average_precision(*precision_recall(np.zeros(2, np.bool_), 0), style))  # type: ignore[arg-type]


@settings(deadline=None)
@given(FLAGS, st.integers(0, 5), st.sampled_from(["11 point", "area", "101 point"]))
def test_the_compiled_loop_agrees(flags: list[bool], extra: int, style: str) -> None:
    positives = sum(flags) + extra
    image = np.zeros(len(flags), np.int64)
    truth_image = np.zeros(positives, np.int64)
    weights = np.ones((1, 1), np.int32)
    levels = RECALL_LEVELS[style]  # type: ignore[index]
    compiled = resampled_ap(np.array(flags, np.int8), image, truth_image, weights, levels)[0]
    recall, precision = precision_recall(np.array(flags, np.bool_), positives)
    expected = average_precision(recall, precision, style) if positives else float("nan")  # type: ignore[arg-type]
    assert compiled == pytest.approx(expected, abs=1e-12, nan_ok=True)
