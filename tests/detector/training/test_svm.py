"""SVMs, hard negative mining and probabilities against independent solvers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from detector.training import svm
from detector.training.svm import FEATURE_NORM, POSITIVE_WEIGHT, feature_scale, fit_sigmoid, fit_svm, mine

RNG = np.random.default_rng(0)


# --- SVMs ----------


COST, BIAS = 0.05, 2.0


def hinge_objective(w: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The primal that R-CNN's liblinear minimises; the bias is the weight of a constant feature, regularised too."""
    weight = np.where(y > 0, POSITIVE_WEIGHT, 1.0)
    return float(0.5 * w @ w + COST * np.sum(weight * np.maximum(0, 1 - y * (x @ w))))


def test_an_svm_minimises_rcnns_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "COST", COST)
    monkeypatch.setattr(svm, "BIAS", BIAS)
    positives = RNG.normal(0.7, 1, (40, 3)).astype(np.float32)
    negatives = RNG.normal(-0.5, 1, (160, 3)).astype(np.float32)
    found = fit_svm(positives, negatives, 0)
    x = np.concatenate([positives, negatives]).astype(np.float64)
    x = np.concatenate([x, np.full((len(x), 1), BIAS)], axis=1)
    y = np.repeat([1.0, -1.0], [40, 160])
    ours = np.append(found.weight, found.bias / BIAS)
    best = minimize(hinge_objective, np.zeros(4), (x, y), method="Nelder-Mead",
                    options={"maxiter": 8000, "maxfev": 8000, "xatol": 1e-7, "fatol": 1e-10}).fun  # fmt: skip
    assert hinge_objective(ours, x, y) <= best * 1.001
    np.testing.assert_allclose(found.margins(positives), positives @ found.weight + found.bias)


def test_an_svm_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="needs positives and negatives"):
        fit_svm(np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32), 0)


def test_features_are_scaled_to_the_mean_length() -> None:
    features = RNG.normal(0, 3, (50, 8)).astype(np.float16)
    lengths = np.linalg.norm(features.astype(np.float32) * feature_scale(features), axis=1)
    assert lengths.mean() == pytest.approx(FEATURE_NORM, rel=1e-6)
    assert feature_scale(np.zeros((6, 2), np.float16)) == 1.0


def test_mining_finds_the_svm_of_all_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small cache that has seen the hard ones ends at (nearly) what training on everything gives."""
    monkeypatch.setattr(svm, "COST", 0.02)
    monkeypatch.setattr(svm, "FIRST", 30)
    monkeypatch.setattr(svm, "RETRAIN_AFTER", 40)
    positives = RNG.normal(1.0, 1, (30, 4))
    easy, hard = RNG.normal(-3, 1, (900, 4)), RNG.normal(0.2, 1, (60, 4))
    features = np.concatenate([positives, easy, hard]).astype(np.float16)
    everything = features.astype(np.float32)
    is_negative = np.arange(len(everything)) >= 30
    (found,) = mine(features, [np.arange(30)], lambda label, rows: is_negative[rows], 1.0, 0)
    whole = fit_svm(everything[:30], everything[30:], 0)
    assert found is not None
    few = fit_svm(everything[:30], everything[30:60], 0)
    apart = np.abs(found.margins(everything) - whole.margins(everything)).max()
    assert apart < 0.05 < np.abs(few.margins(everything) - whole.margins(everything)).max()


def test_a_class_without_positives_or_negatives_has_no_svm() -> None:
    features = RNG.normal(0, 1, (20, 2)).astype(np.float16)
    first = [np.arange(5), np.zeros(0, np.int64), np.arange(5)]
    found = mine(features, first, lambda label, rows: np.full(rows.stop - rows.start, label != 2), 1.0, 0)
    assert [one is None for one in found] == [False, True, True]


# --- probabilities ----------


def likelihood(parameters: NDArray[np.float64], margins: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    z = parameters[0] * margins + parameters[1]
    return float(np.sum(np.logaddexp(0, z) - target * z))


def test_the_sigmoid_is_the_likeliest() -> None:
    margins = np.concatenate([RNG.normal(1, 1, 60), RNG.normal(-1, 1.5, 300)])
    positive = np.arange(360) < 60
    ours = fit_sigmoid(margins, positive)
    target = np.where(positive, 61 / 62, 1 / 302)
    best = minimize(likelihood, np.zeros(2), (margins, target), tol=1e-12).x
    np.testing.assert_allclose([ours.slope, ours.offset], best, rtol=1e-3)
    # Of all regions that it calls p, about the share p is positive.
    assert float(ours(margins).mean()) == pytest.approx(target.mean(), rel=1e-3)


@pytest.mark.parametrize(
    "positive",
    [
        pytest.param(np.zeros(8, np.bool_), id="no positive"),
        pytest.param(np.ones(8, np.bool_), id="no negative"),
        pytest.param(np.arange(8) < 4, id="negatives score higher"),
        pytest.param(np.arange(8) >= 4, id="separable"),
    ],
)
def test_a_sigmoid_keeps_the_order_of_the_margins(positive: NDArray[np.bool_]) -> None:
    margins = np.linspace(-2, 2, 8)
    probabilities = fit_sigmoid(margins, positive)(margins)
    assert np.all(np.diff(probabilities) > 0)
    assert np.all((probabilities > 0) & (probabilities < 1))
