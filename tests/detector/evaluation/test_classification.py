"""Top-k accuracy and the crop geometry of the GoogLeNet paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from detector.evaluation.classification import (
    crop_windows,
    evaluate_classification,
    in_top_k,
    region_probabilities,
    topk_accuracy,
)


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=8),
    st.integers(0, 3),
    st.integers(1, 6),
)
def test_top_k_equals_a_stable_sort(scores: list[list[int]], label: int, k: int) -> None:
    labels = [label] * len(scores)
    expected = [label in sorted(range(4), key=lambda c: -row[c])[:k] for row in scores]
    assert in_top_k(scores, labels, k).tolist() == expected
    assert topk_accuracy(scores, labels, k) == pytest.approx(np.mean(expected))


def test_top_k_of_nothing_and_of_nonsense() -> None:
    assert np.isnan(topk_accuracy(np.zeros((0, 3)), [], 1))
    for scores, labels, k in (([[1, np.nan]], [0], 1), ([[1, 2]], [2], 1), ([[1, 2]], [0, 1], 1), ([[1, 2]], [0], 0)):
        with pytest.raises(ValueError, match="must"):
            topk_accuracy(scores, labels, k)


@pytest.mark.parametrize(("crops", "windows"), [(1, 1), (10, 10), (144, 144)])
def test_number_of_windows(crops: int, windows: int) -> None:
    boxes, mirrored = crop_windows((0, 0, 400, 300), crops)
    assert boxes.shape == (windows, 4)
    assert mirrored.sum() == windows // 2
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-5)
    assert (boxes >= -1e-3).all()
    assert (boxes <= [400.01, 300.01, 400.01, 300.01]).all()


def test_ten_windows_of_a_landscape() -> None:
    # Shorter side 256, so the pixels are those of the resized picture; the centre square is x 44 to 300.
    boxes, mirrored = crop_windows((0, 0, 344, 256), 10)
    expected = [(44, 0), (76, 0), (44, 32), (76, 32), (60, 16)]
    np.testing.assert_allclose(boxes[~mirrored, :2], expected, atol=1e-4)
    np.testing.assert_allclose(boxes[~mirrored, 2:] - boxes[~mirrored, :2], 224, rtol=1e-5)
    np.testing.assert_allclose(boxes[mirrored], boxes[~mirrored])


@pytest.mark.parametrize(("box", "along"), [((0, 0, 1000, 352), 0), ((0, 0, 352, 1000), 1)])
def test_squares_of_144_lie_along_the_longer_side(box: Any, along: int) -> None:
    boxes, mirrored = crop_windows(box, 144)
    largest = boxes[~mirrored][-18:]  # shorter side 352: the picture's own pixels
    squares = largest[5::6]
    np.testing.assert_allclose(squares[:, along], [0, 324, 648])
    np.testing.assert_allclose(squares[:, 1 - along], 0)
    np.testing.assert_allclose(largest[0, 2:] - largest[0, :2], 224, rtol=1e-5)
    # The three whole squares are the same at each of the four scales.
    assert len(np.unique(boxes[~mirrored].round(3), axis=0)) == 72 - 3 * 3


def test_windows_of_a_region_are_inside_it() -> None:
    whole, _ = crop_windows((0, 0, 80, 60), 144)
    moved, _ = crop_windows((100, 50, 180, 110), 144)
    np.testing.assert_allclose(moved - whole, np.tile([100, 50], (144, 2)), atol=1e-3)


def test_other_numbers_of_crops() -> None:
    with pytest.raises(ValueError, match="crops must be one of"):
        crop_windows((0, 0, 9, 9), 5)


def by_colour(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities: the softmax of the mean colours inside the boxes."""
    rounded = boxes.round().astype(int)
    means = [image[y1:y2, x1:x2].reshape(-1, 3).mean(axis=0) / 32 for x1, y1, x2, y2 in rounded]
    return np.asarray(softmax(means, axis=1))


def left_red() -> NDArray[np.uint8]:
    """A picture that is red on its left and blue on its right."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32, 0] = 255
    image[:, 32:, 2] = 255
    return image


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_probabilities_are_averaged_over_the_windows(crops: int) -> None:
    image, box = left_red(), np.array([[0.0, 0, 64, 64]])
    windows, mirrored = crop_windows(box[0], crops)
    by_hand = []
    for window, flip in zip(windows, mirrored, strict=True):
        if flip:
            window = np.array([64 - window[2], window[1], 64 - window[0], window[3]])
        by_hand.append(by_colour(image[:, ::-1] if flip else image, window[None])[0])
    result = region_probabilities(by_colour, image, box, crops, whole=False)
    np.testing.assert_allclose(result, [np.mean(by_hand, axis=0)], atol=1e-9)
    np.testing.assert_allclose(result.sum(axis=1), 1)


def test_whole_regions_are_looked_at_as_they_are() -> None:
    boxes = np.array([[0.0, 0, 32, 10], [32, 0, 64, 64]])
    result = region_probabilities(by_colour, left_red(), boxes, 1)
    assert result.argmax(axis=1).tolist() == [0, 2]
    assert region_probabilities(by_colour, left_red(), boxes[:0], 1).shape == (0, 0)


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_accuracy_of_regions(crops: int) -> None:
    boxes = np.array([[0.0, 0, 32, 64], [32, 0, 64, 64], [0, 0, 32, 32], [32, 32, 64, 64]])
    samples = [(left_red(), boxes, np.array([0, 2, 0, 0])), (left_red(), boxes[:0], np.zeros(0, np.int64))]
    samples += [(left_red(), boxes[2:], np.array([0, 2]))]
    result = evaluate_classification(by_colour, samples[:2], ["red", "green", "blue"], crops=crops)
    assert (result.top1, result.top5, result.count, result.crops) == (0.75, 1, 4, crops)
    assert result.by_class["blue"] == 1
    assert result.by_class["red"] == pytest.approx(2 / 3)
    assert np.isnan(result.by_class["green"])
    result = evaluate_classification(by_colour, samples, ["red", "green", "blue"], crops=crops)
    assert result.top1_interval is not None
    assert result.top1_interval.low == 0.75 < result.top1 < result.top1_interval.high == 1


def test_the_interval_resamples_images_and_not_their_regions() -> None:
    # Of each image all regions are right or none is: eight images tell as much as their 800 regions.
    boxes = np.tile([[0.0, 0, 32, 64]], (100, 1))
    samples = [(left_red(), boxes, np.full(100, label)) for label in (0, 1) * 4]
    interval = evaluate_classification(by_colour, samples, ["red", "green", "blue"]).top1_interval
    assert interval is not None
    assert interval.low < 0.3
    assert interval.high > 0.7
    assert (interval.level, interval.samples) == (0.95, 1000)


def test_no_regions() -> None:
    result = evaluate_classification(by_colour, [], ["red"])
    assert np.isnan(result.top1)
    assert result.top5_interval is None
