"""Training regions: overlaps, shapes and places are what the configuration says; and the order of an epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.training.sampling import (
    BalanceConfig,
    EpochOrder,
    SamplingConfig,
    background_region,
    class_weights,
    foreground_regions,
    googlenet_crops,
    paired_iou,
    perturbed_boxes,
)
from proposals.boxes import iou

CONFIG = SamplingConfig()


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(8, 300), width=st.integers(8, 300))
def test_googlenet_crops_stay_inside_with_the_papers_shape(seed: int, height: int, width: int) -> None:
    sizes = np.tile(np.array([[height, width]], np.float32), (50, 1))
    boxes = googlenet_crops(np.random.default_rng(seed), sizes, (0.08, 1.0), (3 / 4, 4 / 3))
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= np.array([width, height]) * (1 + 1e-6)).all()
    assert (sides > 0).all()
    aspect = sides[:, 0] / sides[:, 1]
    cut = np.isclose(sides, [width, height], rtol=1e-4).any(axis=1)  # by the image, which alters the aspect
    assert (cut | ((aspect > 0.749) & (aspect < 1.334))).all()
    share = sides.prod(axis=1) / (height * width)
    assert (cut | ((share > 0.079) & (share < 1.001))).all()


def test_googlenet_crops_have_uniform_area() -> None:
    sizes = np.full((20_000, 2), 100, np.float32)
    boxes = googlenet_crops(np.random.default_rng(0), sizes, (0.08, 0.5), (1.0, 1.0))
    share = np.sort((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / 1e4)
    expected = np.linspace(0.08, 0.5, len(share))
    assert np.abs(share - expected).max() < 0.02  # Kolmogorov-Smirnov distance times the range


@given(seed=st.integers(0, 2**32 - 1), corner=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_foreground_overlaps_its_object(seed: int, corner: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    truth = np.array([[*corner, corner[0] + 30, corner[1] + 25], [0, 0, 100, 100], [3, 4, 9, 90]], np.float32)
    regions = foreground_regions(rng, truth, np.full((3, 2), 100, np.float32), CONFIG)
    assert (paired_iou(regions, truth) >= CONFIG.iou_foreground).all()
    assert (regions >= 0).all()
    assert (regions <= 100).all()


def test_foreground_varies() -> None:
    truth = np.tile(np.array([[20, 20, 80, 80]], np.float32), (500, 1))
    overlap = paired_iou(
        foreground_regions(np.random.default_rng(1), truth, np.full((500, 2), 100, np.float32), CONFIG), truth
    )
    assert np.quantile(overlap, 0.1) < 0.6
    assert np.quantile(overlap, 0.9) > 0.8
    assert (overlap == 1).mean() < 0.02  # the annotated box itself is the last resort


@given(seed=st.integers(0, 2**32 - 1))
def test_background_avoids_objects(seed: int) -> None:
    truth = np.array([[10, 10, 50, 60], [55, 5, 90, 40]], np.float32)
    region = background_region(np.random.default_rng(seed), truth, (100, 100), CONFIG)
    assert region is not None
    assert iou(region, truth).max() < CONFIG.iou_background
    assert (region[0, 2:] - region[0, :2]).min() >= CONFIG.minimum_side


def test_background_gives_up_where_there_is_none() -> None:
    config = SamplingConfig(iou_background=0.05, area=(0.9, 1.0), minimum_side=60)
    assert background_region(np.random.default_rng(0), np.array([[0, 0, 64, 64]], np.float32), (64, 64), config) is None


def test_background_of_an_image_without_objects() -> None:
    assert background_region(np.random.default_rng(0), np.zeros((0, 4), np.float32), (40, 40), CONFIG) is not None


def test_perturbing_by_nothing_changes_nothing() -> None:
    boxes = np.array([[1, 2, 30, 40]], np.float32)
    np.testing.assert_allclose(perturbed_boxes(np.random.default_rng(0), boxes, 0.0), boxes, rtol=1e-6)


def test_paired_iou_is_the_diagonal() -> None:
    rng = np.random.default_rng(2)
    a, b = (np.sort(rng.uniform(0, 50, (30, 2, 2)), axis=1).reshape(30, 4).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(paired_iou(a, b), np.diag(iou(a, b)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"foreground": 0}, {"iou_foreground": 1.5}, {"foregruond": 0.5}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        SamplingConfig(**wrong)  # type: ignore[arg-type]


# --- the order of an epoch ----------


LABELS = np.repeat([0, 1, 3], [900, 90, 10])  # no object of class 2


def shown(order: EpochOrder, epochs: int, n: int) -> np.ndarray:
    return np.bincount([order[i] for i in range(epochs * order.length)], minlength=n)


@given(st.integers(1, 40), st.integers(0, 5))
def test_everything_once_an_epoch(n: int, seed: int) -> None:
    order = EpochOrder(n, seed)
    assert order.length == n
    assert shown(order, 3, n).tolist() == [3] * n


def test_epochs_and_seeds_differ_and_repeat() -> None:
    order, again, other = EpochOrder(50, 1), EpochOrder(50, 1), EpochOrder(50, 2)
    first, second = ([order[e * 50 + i] for i in range(50)] for e in (0, 1))
    assert first != second
    assert [again[i] for i in range(50)] == first
    assert [other[i] for i in range(50)] != first
    assert [order[i] for i in range(50)] == first, "going back an epoch"


def test_uniform_shows_all_classes_equally() -> None:
    weights = class_weights(LABELS, BalanceConfig(kind="uniform"))
    order = EpochOrder(len(LABELS), 0, weights)
    assert order.length == len(LABELS)
    counts = shown(order, 4, len(LABELS))
    by_class = np.bincount(LABELS, counts)
    np.testing.assert_allclose(by_class[[0, 1, 3]], 4 * 1000 / 3, rtol=0.01)
    # Within a class all are shown about equally often.
    assert np.ptp(counts[LABELS == 3]) <= 4


def test_repeat_follows_the_square_root_and_leaves_the_common_alone() -> None:
    weights = class_weights(LABELS, BalanceConfig(kind="repeat", share=0.16))
    assert weights is not None
    assert weights[LABELS == 0] == pytest.approx(1.0)
    assert weights[LABELS == 1] == pytest.approx(np.sqrt(0.16 / 0.09))
    assert weights[LABELS == 3] == pytest.approx(4.0)
    counts = shown(EpochOrder(len(LABELS), 0, weights), 1, len(LABELS))
    assert (np.abs(counts - weights) < 1.0001).all()


def test_no_balance_is_no_weights() -> None:
    assert class_weights(LABELS, BalanceConfig()) is None
    assert class_weights(np.zeros(0, np.int64), BalanceConfig(kind="uniform")) is None
