"""Score cut, per-class suppression and top-k."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.postprocess import PostprocessConfig, postprocess
from proposals.boxes import nms

SIZE = (100, 120)


def random_case(seed: int, n: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 80, (n, 2))
    boxes = np.concatenate([corner, corner + rng.integers(5, 40, (n, 2))], axis=1).astype(np.float32)
    logits = rng.normal(0, 2, (n, k + 1))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return boxes, probs.astype(np.float32)


@given(
    seed=st.integers(0, 10_000), n=st.integers(0, 60), k=st.integers(1, 4), threshold=st.sampled_from([0.0, 0.3, 0.7])
)
def test_equals_plain_suppression_class_by_class(seed: int, n: int, k: int, threshold: float) -> None:
    boxes, probs = random_case(seed, n, k)
    config = PostprocessConfig(score_threshold=0.05, nms_threshold=threshold, max_detections=1000)
    found = postprocess(boxes, probs, SIZE, config)
    inside = np.clip(boxes, 0, [SIZE[1], SIZE[0], SIZE[1], SIZE[0]])
    expected = set()
    for label in range(k):
        where = np.flatnonzero(probs[:, label] >= 0.05)
        for i in where[nms(inside[where], probs[where, label], threshold)]:
            expected.add((label, float(probs[i, label]), *inside[i].tolist()))
    ours = {
        (label, score, *box)
        for label, score, box in zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    }
    assert ours == expected


def test_top_k_keeps_the_best() -> None:
    boxes, probs = random_case(1, 80, 3)
    everything = postprocess(boxes, probs, SIZE, PostprocessConfig(score_threshold=0, max_detections=10_000))
    best = postprocess(boxes, probs, SIZE, PostprocessConfig(score_threshold=0, max_detections=7))
    np.testing.assert_array_equal(best.scores, everything.scores[:7])


def test_equal_scores_stay_in_the_order_of_the_regions() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]], np.float32)
    probs = np.array([[0.5, 0.5]] * 3, np.float32)
    found = postprocess(boxes, probs, SIZE, PostprocessConfig())
    np.testing.assert_array_equal(found.boxes, boxes)


def test_boxes_are_clipped_and_those_outside_dropped() -> None:
    boxes = np.array([[-10, -10, 20, 20], [200, 200, 300, 300]], np.float32)
    found = postprocess(boxes, np.array([[0.9, 0.1], [0.9, 0.1]], np.float32), SIZE, PostprocessConfig())
    np.testing.assert_array_equal(found.boxes, [[0, 0, 20, 20]])


def test_background_is_never_a_detection() -> None:
    probs = np.array([[0.1, 0.9]], np.float32)
    assert len(postprocess(np.array([[0, 0, 9, 9]], np.float32), probs, SIZE, PostprocessConfig())) == 0


def test_no_regions() -> None:
    found = postprocess(np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32), SIZE, PostprocessConfig())
    assert len(found) == 0
    assert found.image_size == SIZE


def test_one_region_may_be_two_things() -> None:
    probs = np.array([[0.45, 0.45, 0.1]], np.float32)
    found = postprocess(np.array([[0, 0, 9, 9]], np.float32), probs, SIZE, PostprocessConfig(score_threshold=0.4))
    assert sorted(found.labels.tolist()) == [0, 1]


@pytest.mark.parametrize("wrong", [{"score_threshold": 2}, {"nms_threshold": -1}, {"max_detections": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        PostprocessConfig(**wrong)  # type: ignore[arg-type]


def test_an_iou_of_exactly_the_threshold_is_not_greater() -> None:
    boxes = np.array([[0, 0, 6.5, 1], [3.5, 0, 10, 1]], np.float32)  # 3 of 10 shared
    probs = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    found = postprocess(boxes, probs, (10, 10), PostprocessConfig(score_threshold=0.05, nms_threshold=0.3))
    assert len(found) == 2
