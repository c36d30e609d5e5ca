"""The three readings of AP; test_voc.py, test_ilsvrc_det.py and test_coco.py hold them against the official rules."""

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
from detector.evaluation.matches import ApStyle


def test_eleven_levels_are_those_of_matlab() -> None:
    # 0:0.1:1 counts up from the left end to the middle, then down from the right end.
    assert ELEVEN_LEVELS[3] == 0.1 * 3 != 0.3
    assert ELEVEN_LEVELS[6] == 1 - 0.1 * 4 == 0.6
    assert ELEVEN_LEVELS[7] == 1 - 0.1 * 3 == 0.7
    assert np.allclose(ELEVEN_LEVELS, np.arange(11) / 10)
    # 3 of 10 found: 0.3 is below the fourth level, so three levels count; 7 of 10: 0.7 reaches the eighth.
    for found, levels in ((3, 3), (7, 8)):
        curve = precision_recall(np.ones(found, np.bool_), 10)
        assert ap_at_levels(*curve, ELEVEN_LEVELS) == pytest.approx(levels / 11)


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


@pytest.mark.parametrize("style", RECALL_LEVELS)
@pytest.mark.parametrize(
    ("flags", "positives", "expected"),
    [([], 3, 0), ([True] * 3, 3, 1), ([False] * 5, 3, 0), ([False] * 2, 0, float("nan"))],
    ids=["nothing", "perfect", "wrong", "no truth"],
)
def test_ends(style: ApStyle, flags: list[bool], positives: int, expected: float) -> None:
    curve = precision_recall(np.array(flags, np.bool_), positives)
    assert average_precision(*curve, style) == pytest.approx(expected, abs=0, nan_ok=True)


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 5), st.sampled_from(list(RECALL_LEVELS)))
def test_the_compiled_loop_agrees(flags: list[bool], extra: int, style: ApStyle) -> None:
    positives = sum(flags) + extra
    image, truth_image, once = np.zeros(len(flags), np.int64), np.zeros(positives, np.int64), np.ones((1, 1), np.int32)
    compiled = resampled_ap(np.array(flags, np.int8), image, truth_image, once, RECALL_LEVELS[style])[0]
    curve = precision_recall(np.array(flags, np.bool_), positives)
    expected = average_precision(*curve, style) if positives else float("nan")
    assert compiled == pytest.approx(expected, abs=1e-12, nan_ok=True)
