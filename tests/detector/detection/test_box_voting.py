"""Bounding-box voting against a literal reading, and in postprocessing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.box_voting import vote
from detector.detection.suppression import PostprocessConfig, postprocess
from proposals.boxes import iou

SIZE = (100, 120)


def random_boxes(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    corner = rng.integers(0, 80, (*shape, 2))
    return np.concatenate([corner, corner + rng.integers(5, 40, (*shape, 2))], axis=-1).astype(np.float32)


@given(st.integers(0, 10_000), st.integers(0, 25), st.integers(1, 4), st.booleans(), st.sampled_from([0.1, 0.5, 1.0]))
def test_each_box_is_the_weighted_mean_of_its_voters(seed: int, n: int, k: int, shared: bool, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, n, 1 if shared else k), rng.uniform(-0.2, 1, (n, k)).astype(np.float32)
    kept, labels = random_boxes(rng, 6), rng.integers(0, k, 6)
    moved = vote(kept, labels, boxes, scores, threshold)
    for d in range(6):
        label = int(labels[d])
        own = boxes[:, 0 if shared else label].astype(np.float64)
        voters = [
            i for i in range(n) if iou(kept[d : d + 1], own[i : i + 1])[0, 0] >= threshold and scores[i, label] > 0
        ]
        expected = np.average(own[voters], axis=0, weights=scores[voters, label]) if voters else kept[d]
        np.testing.assert_allclose(moved[d], expected, rtol=1e-5, atol=1e-4)


def test_detections_move_to_their_voters_and_keep_their_scores() -> None:
    # The second region is suppressed by the first and votes; the third overlaps too little; the fourth is outside.
    boxes = np.array([[10, 10, 50, 50], [14, 10, 54, 50], [40, 40, 80, 80], [-90, 0, -50, 40]], np.float32)
    probs = np.array([[0.6, 0.1, 0.3], [0.2, 0.1, 0.7], [0.5, 0.0, 0.5], [0.9, 0.0, 0.1]], np.float32)
    config = PostprocessConfig(score_threshold=0.3)
    plain = postprocess(boxes, probs, SIZE, config)
    voted = postprocess(boxes, probs, SIZE, config.model_copy(update={"box_voting": 0.5}))
    np.testing.assert_array_equal(plain.boxes, boxes[[0, 2]])
    np.testing.assert_allclose(voted.boxes, [[11, 10, 51, 50], [40, 40, 80, 80]])
    np.testing.assert_array_equal(voted.scores, plain.scores)
    np.testing.assert_array_equal(voted.labels, plain.labels)


@given(st.integers(0, 10_000))
def test_what_votes_does_not_depend_on_the_score_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, probs = random_boxes(rng, 30, 2), rng.dirichlet([1, 1, 1], 30).astype(np.float32)
    config = PostprocessConfig(score_threshold=0.0, box_voting=0.5, max_detections=1000)
    every = postprocess(boxes, probs, SIZE, config)
    best = postprocess(boxes, probs, SIZE, config.model_copy(update={"score_threshold": 0.6}))
    np.testing.assert_array_equal(best.boxes, every.boxes[: len(best)])


def test_soft_suppression_votes_with_the_first_scores() -> None:
    boxes = np.array([[10, 10, 50, 50], [14, 10, 54, 50]], np.float32)
    probs = np.array([[0.6, 0.4], [0.2, 0.8]], np.float32)
    config = PostprocessConfig(score_threshold=0.01, soft_sigma=0.5, box_voting=0.5)
    found = postprocess(boxes, probs, SIZE, config)
    np.testing.assert_allclose(found.boxes, [[11, 10, 51, 50]] * 2)


@pytest.mark.parametrize("threshold", [0.0, 1.5, -1.0])
def test_the_threshold_is_an_iou(threshold: float) -> None:
    with pytest.raises(ValueError, match="box_voting"):
        PostprocessConfig(box_voting=threshold)
