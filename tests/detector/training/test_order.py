"""Orders of an epoch: everything once, or rare classes more often."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.training.order import EpochOrder, class_weights
from detector.training.sampling import BalanceConfig

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
