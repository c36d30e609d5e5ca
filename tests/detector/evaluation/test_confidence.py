"""Calibration: the error against a plain loop and known cases, and the temperature against a search by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.evaluation.confidence import (
    COLDEST,
    HOTTEST,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    tempered,
)

ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def plain_error(answers: list[tuple[float, bool]], bins: int) -> float:
    """As Guo et al. write it: the bin of p is (m/M, (m + 1)/M]."""
    total = 0.0
    for m in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[m : m + 2]
        inside = [(p, right) for p, right in answers if low < p <= high or (m == 0 and p == 0)]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = sum(p for p, _ in inside) / len(inside)
            total += len(inside) / len(answers) * abs(accuracy - confidence)
    return total


@given(ANSWERS, st.integers(1, 20))
def test_the_error_is_that_of_a_plain_loop(answers: list[tuple[float, bool]], bins: int) -> None:
    sure, right = [p for p, _ in answers], [r for _, r in answers]
    error = expected_calibration_error(sure, right, bins)
    assert error == pytest.approx(plain_error(answers, bins), abs=1e-9)
    assert 0 <= error <= 1
    edges = np.linspace(0, 1, bins + 1)
    assert reliability(sure, right, bins)[0].tolist() == [
        sum(low < p <= high or (low == 0 == p) for p in sure) for low, high in pairwise(edges)
    ]
    # One bin is the difference of the means, and more bins never hide more.
    assert expected_calibration_error(sure, right, 1) == pytest.approx(abs(np.mean(sure) - np.mean(right)))
    assert error >= expected_calibration_error(sure, right, 1) - 1e-9


def test_known_cases() -> None:
    assert expected_calibration_error([0.8] * 5, [True] * 4 + [False]) == pytest.approx(0)
    assert expected_calibration_error([1.0] * 4, [False] * 4) == 1
    assert expected_calibration_error([0.95, 0.05], [False, True]) == pytest.approx(0.95)
    assert np.isnan(expected_calibration_error([], []))
    assert reliability([0.0, 0.5, 0.50001, 1.0], [True] * 4, 2)[0].tolist() == [2, 2]
    count, confidence, accuracy = reliability([0.9], [True], 2)
    assert count.tolist() == [0, 1]
    assert np.isnan([confidence[0], accuracy[0]]).all()


@pytest.mark.parametrize(
    ("sure", "right", "bins"),
    [([1.1], [True], 15), ([float("nan")], [True], 15), ([0.5], [True, False], 15), ([0.5], [True], 0)],
    ids=["above 1", "NaN", "lengths", "no bins"],
)
def test_wrong_confidences_are_refused(sure: list[float], right: list[bool], bins: int) -> None:
    with pytest.raises(ValueError, match=r"confidences|bins"):
        expected_calibration_error(sure, right, bins)


# --- temperature ----------


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_answers_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    truth = np.exp(tempered(logits, 1.0))
    labels = (truth.cumsum(axis=1) > rng.random((len(truth), 1))).argmax(axis=1)
    stated = tempered(logits * temperature, 1.0)  # too sure of itself by that much
    found = fit_temperature(stated, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    sure, right = np.exp(tempered(stated, found)).max(axis=1), stated.argmax(axis=1) == labels
    assert expected_calibration_error(sure, right) < 0.02


@given(st.integers(0, 10**6))
def test_no_other_temperature_is_likelier(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = tempered(rng.normal(0, 3, (12, 4)), 1.0)
    labels = rng.integers(0, 4, 12)
    found = fit_temperature(log_probs, labels)
    assert COLDEST <= found <= HOTTEST
    best = negative_log_likelihood(log_probs, labels, found)
    grid = np.geomspace(COLDEST, HOTTEST, 300)
    assert best <= min(negative_log_likelihood(log_probs, labels, t) for t in grid) + 1e-4
    np.testing.assert_array_equal(tempered(log_probs, found).argmax(axis=1), log_probs.argmax(axis=1))
    np.testing.assert_allclose(np.exp(tempered(log_probs, found)).sum(axis=1), 1)


def test_answers_without_a_chance_are_left_out() -> None:
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0.7, 0.3, 0.0], [0.6, 0.4, 0.0], [0.9, 0.1, 0.0]]))
    all_known = fit_temperature(log_probs[:2], [0, 1])
    assert fit_temperature(log_probs, [0, 1, 2]) == pytest.approx(all_known)
    with pytest.raises(ValueError, match="has a chance"):
        fit_temperature(log_probs, [2, 2, 2])
    with pytest.raises(ValueError, match="labels must be in"):
        fit_temperature(log_probs, [0, 1, 3])
    with pytest.raises(ValueError, match="NaN"):
        fit_temperature(np.full((1, 2), np.nan), [0])
    with pytest.raises(ValueError, match=r"\(n, C\)"):
        fit_temperature(log_probs, [0])
