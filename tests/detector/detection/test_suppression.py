"""Score cut, per-class suppression and top-k."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from detector.detection.suppression import PostprocessConfig, calibrated, postprocess, uncalibrated
from proposals.boxes import iou, nms
from proposals.calibration import Calibration

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


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 60),
    labels=st.lists(st.integers(0, 3), unique=True, min_size=1),
    sigma=st.sampled_from([None, 0.3]),
    per_class=st.booleans(),
)
def test_a_class_is_detected_as_if_all_were(
    seed: int, n: int, labels: list[int], sigma: float | None, per_class: bool
) -> None:
    boxes, probs = random_case(seed, n, 4)
    if per_class:
        boxes = boxes[:, None] + np.arange(4, dtype=np.float32)[:, None]
    config = PostprocessConfig(score_threshold=0, max_detections=1000, soft_sigma=sigma)
    everything, some = (postprocess(boxes, probs, SIZE, config, only) for only in (None, labels))
    rows = np.isin(everything.labels, labels)
    np.testing.assert_array_equal(some.labels, everything.labels[rows])
    np.testing.assert_array_equal(some.boxes, everything.boxes[rows])
    np.testing.assert_array_equal(some.scores, everything.scores[rows])
    few = postprocess(boxes, probs, SIZE, config.model_copy(update={"max_detections": 2}), labels)
    np.testing.assert_array_equal(few.scores, some.scores[:2])


@pytest.mark.parametrize("sigma", [None, 0.3])
def test_the_best_of_all_classes_are_kept(sigma: float | None) -> None:
    boxes, probs = random_case(3, 80, 3)
    everything, best = (
        postprocess(boxes, probs, SIZE, PostprocessConfig(score_threshold=0, soft_sigma=sigma, max_detections=count))
        for count in (999, 7)
    )
    assert len(everything) == 240 or sigma is None
    np.testing.assert_array_equal(best.scores, everything.scores[:7])
    np.testing.assert_array_equal(best.boxes, everything.boxes[:7])
    assert len(set(best.labels.tolist())) > 1


def test_equal_scores_stay_in_the_order_of_the_regions() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]], np.float32)
    probs = np.array([[0.5, 0.5]] * 3, np.float32)
    found = postprocess(boxes, probs, SIZE, PostprocessConfig())
    np.testing.assert_array_equal(found.boxes, boxes)


def test_boxes_are_clipped_and_those_outside_dropped() -> None:
    boxes = np.array([[-10, -10, 20, 20], [200, 200, 300, 300]], np.float32)
    found = postprocess(boxes, np.array([[0.9, 0.1], [0.9, 0.1]], np.float32), SIZE, PostprocessConfig())
    np.testing.assert_array_equal(found.boxes, [[0, 0, 20, 20]])


@pytest.mark.parametrize(
    ("probs", "labels"),
    [
        pytest.param(np.zeros((0, 3)), [], id="no regions"),
        pytest.param([[0.05, 0.05, 0.9]], [], id="background is never a detection"),
        pytest.param([[0.45, 0.45, 0.1]], [0, 1], id="one region may be two things"),
    ],
)
def test_labels_of_a_region(probs: list[list[float]], labels: list[int]) -> None:
    boxes = np.array([[0, 0, 9, 9]] * len(probs), np.float32).reshape(-1, 4)
    found = postprocess(boxes, np.array(probs, np.float32), SIZE, PostprocessConfig(score_threshold=0.4))
    assert (found.labels.tolist(), found.image_size) == (labels, SIZE)


@pytest.mark.parametrize("wrong", [{"score_threshold": 2}, {"nms_threshold": -1}, {"max_detections": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        PostprocessConfig(**wrong)  # type: ignore[arg-type]


def test_an_iou_of_exactly_the_threshold_is_not_greater() -> None:
    boxes = np.array([[0, 0, 6.5, 1], [3.5, 0, 10, 1]], np.float32)  # 3 of 10 shared
    probs = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    found = postprocess(boxes, probs, (10, 10), PostprocessConfig(score_threshold=0.05, nms_threshold=0.3))
    assert len(found) == 2


def plain_soft_nms(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], sigma: float, lowest: float
) -> list[tuple[int, float]]:
    """Bodla et al., figure 3, with the Gaussian: one class, word for word."""
    left = [(i, float(score)) for i, score in enumerate(scores)]
    found = []
    while left:
        best = max(left, key=lambda entry: (entry[1], -entry[0]))
        left.remove(best)
        if best[1] < lowest:
            break
        found.append(best)
        others = boxes[[i for i, _ in left]].reshape(-1, 4)
        overlaps = iou(boxes[best[0]][None], others)[0] if left else []
        left = [(i, s * float(np.exp(-(o**2) / sigma))) for (i, s), o in zip(left, overlaps, strict=True)]
    return found


@given(
    seed=st.integers(0, 10_000), n=st.integers(0, 40), k=st.integers(1, 3), sigma=st.sampled_from([0.1, 0.3, 0.5, 2.0])
)
def test_soft_suppression_equals_the_papers(seed: int, n: int, k: int, sigma: float) -> None:
    boxes, probs = random_case(seed, n, k)
    config = PostprocessConfig(score_threshold=0.1, soft_sigma=sigma, max_detections=1000)
    found = postprocess(boxes, probs, SIZE, config)
    assert (np.diff(found.scores) <= 0).all()
    inside = np.clip(boxes, 0, [SIZE[1], SIZE[0], SIZE[1], SIZE[0]])
    for label in range(k):
        expected = plain_soft_nms(inside, probs[:, label], sigma, 0.1)
        ours = found.labels == label
        np.testing.assert_allclose(found.scores[ours], [s for _, s in expected], rtol=1e-5)
        np.testing.assert_array_equal(found.boxes[ours], inside[[i for i, _ in expected]].reshape(-1, 4))


def test_soft_suppression_keeps_a_touching_neighbour_and_lowers_a_duplicate() -> None:
    boxes = np.array([[0, 0, 40, 40], [0, 2, 40, 42], [30, 0, 70, 40]], np.float32)
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], np.float32)
    found = postprocess(boxes, probs, SIZE, PostprocessConfig(score_threshold=0.1, soft_sigma=0.3))
    np.testing.assert_array_equal(found.boxes[:2], boxes[[0, 2]])
    assert found.scores[1] > 0.6
    assert len(found) == 2, "the duplicate fell below the threshold"


# --- calibrated scores ----------

UNIT = st.floats(0, 1, width=32)


@given(arrays(np.float32, 12, elements=UNIT), st.floats(0.1, 5), st.floats(-3, 3))
def test_calibration_keeps_order_and_limits(scores: np.ndarray, slope: float, offset: float) -> None:
    scores.sort()
    found = calibrated(scores, Calibration(slope=slope, offset=offset))
    assert bool((np.diff(found) >= 0).all())
    assert bool(((found >= 0) & (found <= 1)).all())
    assert calibrated(np.float32([0, 1]), Calibration(slope=slope, offset=offset)).tolist() == [0, 1]
    assert calibrated(scores, Calibration()) is scores


@given(st.floats(0.01, 0.99), st.floats(0.2, 5), st.floats(-3, 3))
def test_uncalibrated_is_the_inverse(score: float, slope: float, offset: float) -> None:
    calibration = Calibration(slope=slope, offset=offset)
    before = uncalibrated(score, calibration)
    if 1e-4 < before < 1 - 1e-4:
        assert float(calibrated(np.float32([before]), calibration)[0]) == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("sigma", [None, 0.3])
def test_thresholds_are_of_calibrated_scores_and_what_is_kept_is_the_same(sigma: float | None) -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]], np.float32)
    probs = np.array([[0.3, 0.7], [0.25, 0.75], [0.1, 0.9]], np.float32)
    calibration = Calibration(slope=2.0, offset=2.5)
    plain = postprocess(boxes, probs, SIZE, PostprocessConfig(score_threshold=0.0, soft_sigma=sigma))
    expected = calibrated(plain.scores, calibration)
    shown = PostprocessConfig(score_threshold=float(expected[1]) - 0.001, soft_sigma=sigma, calibration=calibration)
    found = postprocess(boxes, probs, SIZE, shown)
    np.testing.assert_array_equal(found.boxes, plain.boxes[:2])
    np.testing.assert_allclose(found.scores, expected[:2], rtol=1e-5)
