"""Coverage measures against counting by hand and against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposals.boxes import iou
from proposals.recall import (
    average_best_overlap,
    average_recall,
    best_overlaps,
    mean_average_best_overlap,
    mean_number,
    mean_over_classes,
    recall,
)

SQUARE = np.array([[0, 0, 10, 10]], np.float32)
HALF = np.array([[0, 0, 10, 5]], np.float32)
FAR = np.array([[50, 50, 60, 60]], np.float32)
NONE = np.zeros((0, 4), np.float32)


def test_best_overlap_by_number_of_proposals():
    table = best_overlaps([np.concatenate([FAR, HALF, SQUARE])], [SQUARE], [1, 2, 3, 100])
    np.testing.assert_allclose(table, [[0, 0.5, 1, 1]])


def test_empty_proposals_and_truths():
    table = best_overlaps([NONE, SQUARE], [SQUARE, NONE], [1, 10])
    np.testing.assert_array_equal(table, [[0, 0]])
    nothing = best_overlaps([], [], [1])
    for measure in (average_recall, average_best_overlap, lambda o: recall(o, 0.5)):
        assert np.isnan(measure(nothing)).all()
    assert np.isnan(mean_average_best_overlap(nothing, np.zeros(0, np.int64))).all()
    assert np.isnan(mean_number([], [5])).all()


def test_recall_counts_the_threshold_itself():
    overlaps = np.array([[0.5], [0.49], [1.0], [0.0]])
    assert recall(overlaps, 0.5).tolist() == [0.5]


def test_abo_pools_and_mabo_averages_over_classes():
    overlaps = np.array([[1.0], [0.6], [0.2], [0.4]])
    labels = np.array([4, 4, 4, 9])
    assert average_best_overlap(overlaps)[0] == pytest.approx(0.55)
    assert mean_average_best_overlap(overlaps, labels)[0] == pytest.approx((0.6 + 0.4) / 2)
    assert mean_over_classes((overlaps >= 0.5) * 1.0, labels)[0] == pytest.approx((2 / 3 + 0) / 2)


def test_mean_number_of_proposals():
    assert mean_number([NONE, np.repeat(SQUARE, 6, axis=0)], [1, 4, 10]).tolist() == [0.5, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_average_recall_is_twice_the_integral_of_recall(values):
    overlaps = np.array(values)[:, None]
    steps = np.arange(0.5, 1, 0.001) + 0.0005
    integral = 2 * np.mean([recall(overlaps, t)[0] for t in steps]) * 0.5
    assert average_recall(overlaps)[0] == pytest.approx(integral, abs=2e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_more_proposals_never_cover_less_and_all_of_them_cover_as_their_iou_says(seed):
    rng = np.random.default_rng(seed)
    corner = rng.random((40, 2)) * 50
    boxes = np.concatenate([corner, corner + 1 + rng.random((40, 2)) * 50], axis=1).astype(np.float32)
    table = best_overlaps([boxes[:30]], [boxes[30:]], [1, 3, 10, 29, 30, 31])
    assert (np.diff(table, axis=1) >= 0).all()
    np.testing.assert_allclose(table[:, -1], iou(boxes[30:], boxes[:30]).max(axis=1), rtol=1e-5)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="images"):
        best_overlaps([SQUARE], [], [1])
    with pytest.raises(ValueError, match="at least 1"):
        best_overlaps([SQUARE], [SQUARE], [0])
    with pytest.raises(ValueError, match="labels"):
        mean_over_classes(np.zeros((2, 1)), np.zeros(3, np.int64))
