"""The parts of a head against independent solvers: SVMs, mining, probabilities, softmax, ridge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge

from detector.training.box_regression import WHITENING, RegressionConfig, fit_regression, fit_ridge
from detector.training.feature_cache import ImageFeatures, _to_bytes, _write_whole
from detector.training.features import FeatureTable
from detector.training.hard_negatives import MiningConfig, mine
from detector.training.platt import Sigmoid, fit_sigmoid
from detector.training.region_table import RegionTable
from detector.training.softmax_head import SoftmaxConfig, fit_softmax, row_weights
from detector.training.svm import SvmConfig, feature_scale, fit_svm

RNG = np.random.default_rng(0)


def store(folder: Path, features: NDArray[np.float32], images: int = 3) -> FeatureTable:
    """``features`` ``(R, C)`` on disk, as those of so many images."""
    edges = np.linspace(0, len(features), images + 1).astype(np.int64)
    paths = []
    for i in range(images):
        part = features[edges[i] : edges[i + 1]].astype(np.float16)
        paths.append(folder / f"{i}.features")
        _write_whole(paths[-1], _to_bytes(ImageFeatures(part, np.zeros(0, np.int64), np.zeros((0, 0), np.float16))))
    return FeatureTable(paths, edges, features.shape[1], 0)


def plain_table(rows: int, first: NDArray[np.int64]) -> RegionTable:
    return RegionTable(
        np.tile(np.array([0, 0, 9, 9], np.float32), (rows, 1)), np.zeros(rows, np.bool_), first,
        np.full(rows, -1, np.int64), np.zeros(rows, np.float32), np.zeros(rows, np.bool_),
        np.zeros((rows, 1), np.float32),
    )  # fmt: skip


# --- SVMs ----------


def hinge_objective(w: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], config: SvmConfig) -> float:
    """The primal that R-CNN's liblinear minimises; the bias is the weight of a constant feature, regularised too."""
    weight = np.where(y > 0, config.positive_weight, 1.0)
    return float(0.5 * w @ w + config.c * np.sum(weight * np.maximum(0, 1 - y * (x @ w))))


def test_a_machine_minimises_rcnns_objective() -> None:
    config = SvmConfig(c=0.05, bias=2.0)
    positives = RNG.normal(0.7, 1, (40, 3)).astype(np.float32)
    negatives = RNG.normal(-0.5, 1, (160, 3)).astype(np.float32)
    svm = fit_svm(positives, negatives, config, 0)
    x = np.concatenate([positives, negatives]).astype(np.float64)
    x = np.concatenate([x, np.full((len(x), 1), config.bias)], axis=1)
    y = np.repeat([1.0, -1.0], [40, 160])
    ours = np.append(svm.weight, svm.bias / config.bias)
    best = minimize(hinge_objective, np.zeros(4), (x, y, config), method="Nelder-Mead",
                    options={"maxiter": 8000, "maxfev": 8000, "xatol": 1e-7, "fatol": 1e-10}).fun  # fmt: skip
    assert hinge_objective(ours, x, y, config) <= best * 1.001
    np.testing.assert_allclose(svm.margins(positives), positives @ svm.weight + svm.bias)


def test_a_machine_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="needs positives and negatives"):
        fit_svm(np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32), SvmConfig(), 0)


def test_features_are_scaled_to_the_mean_length(tmp_path: Path) -> None:
    features = store(tmp_path, RNG.normal(0, 3, (50, 8)).astype(np.float32))
    scale = feature_scale(features, 20.0)
    lengths = np.linalg.norm(features.pooled(np.arange(50)) * scale, axis=1)
    assert lengths.mean() == pytest.approx(20.0, rel=1e-6)
    assert feature_scale(store(tmp_path, np.zeros((6, 2), np.float32)), 20.0) == 1.0


def test_mining_finds_the_machine_of_all_negatives(tmp_path: Path) -> None:
    """A small cache that has seen the hard ones ends at (nearly) what training on everything gives."""
    config, mining = SvmConfig(c=0.02), MiningConfig(first=30, retrain_after=40, passes=2)
    positives = RNG.normal(1.0, 1, (30, 4))
    easy, hard = RNG.normal(-3, 1, (900, 4)), RNG.normal(0.2, 1, (60, 4))
    everything = np.concatenate([positives, easy, hard]).astype(np.float16).astype(np.float32)
    features = store(tmp_path, everything, images=7)
    is_negative = np.arange(len(everything)) >= 30
    (svm,) = mine(features, plain_table(len(everything), features.first), [np.arange(30)],
                      lambda label, rows: is_negative[rows], 1.0, config, mining, 0)  # fmt: skip
    whole = fit_svm(everything[:30], everything[30:], config, 0)
    assert svm is not None
    few = fit_svm(everything[:30], everything[30:60], config, 0)
    apart = np.abs(svm.margins(everything) - whole.margins(everything)).max()
    assert apart < 0.05 < np.abs(few.margins(everything) - whole.margins(everything)).max()


def test_a_class_without_positives_or_negatives_has_no_machine(tmp_path: Path) -> None:
    features = store(tmp_path, RNG.normal(0, 1, (20, 2)).astype(np.float32))
    table = plain_table(20, features.first)
    first = [np.arange(5), np.zeros(0, np.int64), np.arange(5)]
    found = mine(features, table, first, lambda label, rows: np.full(rows.stop - rows.start, label != 2),
                    1.0, SvmConfig(), MiningConfig(first=5), 0)  # fmt: skip
    assert [svm is None for svm in found] == [False, True, True]


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


def test_a_sigmoid_of_huge_margins_is_finite() -> None:
    with np.errstate(all="raise"):
        np.testing.assert_allclose(Sigmoid(2.0, 1.0)(np.array([-1e6, 1e6])), [0, 1])


# --- softmax ----------


def test_softmax_equals_scikit_learns() -> None:
    x = RNG.normal(0, 1, (300, 5)).astype(np.float32)
    labels = np.argmax(x[:, :3] + RNG.normal(0, 1, (300, 3)), axis=1).astype(np.int64)
    config = SoftmaxConfig(decay=0.01, background=2.0, steps=500)
    weights, biases = fit_softmax(x, labels, 2, config)
    share = row_weights(labels, 2, config)
    deviation = float(x.std(dtype=np.float64))
    theirs = LogisticRegression(C=1 / (config.decay), tol=1e-8, max_iter=5000)
    theirs.fit(x / deviation, labels, sample_weight=share)
    ours = x @ weights.T + biases
    logits = theirs.decision_function(x / deviation)
    np.testing.assert_allclose(
        ours - ours.mean(axis=1, keepdims=True), logits - logits.mean(axis=1, keepdims=True), atol=0.02
    )


def test_background_weighs_what_it_is_told_to() -> None:
    labels = np.array([0] * 10 + [1] * 40 + [2] * 500)
    weights = row_weights(labels, 2, SoftmaxConfig(background=3.0, balance=0.5))
    assert weights.sum() == pytest.approx(1, rel=1e-5)
    assert weights[labels == 2].sum() == pytest.approx(0.75, rel=1e-5)
    assert weights[labels == 1].sum() / weights[labels == 0].sum() == pytest.approx(2, rel=1e-5)  # the root of 4


def test_a_class_without_regions_is_not_found() -> None:
    x = RNG.normal(0, 1, (60, 3)).astype(np.float32)
    labels = np.where(x[:, 0] > 0, 0, 2)
    weights, biases = fit_softmax(x, labels, 2, SoftmaxConfig(background=1.0))
    logits = x @ weights.T + biases
    assert np.all(logits[:, 1] < -1000)
    assert np.mean(logits.argmax(axis=1) == labels) > 0.95


# --- boxes ----------


@pytest.mark.parametrize("features", [5, 60], ids=["more regions than features", "more features than regions"])
def test_ridge_equals_scikit_learns_on_whitened_targets(features: int) -> None:
    x = RNG.normal(0, 2, (40, features)).astype(np.float32)
    targets = x[:, :4] @ RNG.normal(0, 1, (4, 4)) + RNG.normal(0, 0.1, (40, 4))
    weights, bias = fit_ridge(x, targets, 7.0)
    values, vectors = np.linalg.eigh(np.cov(targets.T, bias=True))
    scale = np.sqrt(values + WHITENING)
    ridge = Ridge(alpha=7.0).fit(x.astype(np.float64), (targets - targets.mean(0)) @ vectors / scale)
    expected = (ridge.predict(x.astype(np.float64)) * scale) @ vectors.T + targets.mean(0)
    np.testing.assert_allclose(x @ weights.T + bias, expected, atol=1e-6)


def test_a_rare_class_is_regressed_by_all_classes() -> None:
    x = RNG.normal(0, 1, (120, 6)).astype(np.float32)
    targets = x[:, :4].astype(np.float64)
    labels = np.repeat([0, 1], [100, 20])
    config = RegressionConfig(minimum_regions=50, penalty=1e-3)
    fitted = fit_regression(x, targets, labels, 3, config)
    assert fitted is not None
    weights, biases = fitted
    assert not np.allclose(weights[0], weights[1])
    np.testing.assert_array_equal(weights[1], weights[2])  # a class without any region is as the rare one
    np.testing.assert_allclose(x @ weights[1].T + biases[1], targets, atol=0.05)


def test_one_region_is_enough_and_none_is_no_regression() -> None:
    x, targets = np.ones((1, 3), np.float32), np.array([[0.1, 0.2, 0.3, 0.4]])
    fitted = fit_regression(x, targets, np.array([0]), 1, RegressionConfig())
    assert fitted is not None
    np.testing.assert_allclose(x @ fitted[0][0].T + fitted[1][0], targets)
    assert fit_regression(x[:0], targets[:0], np.zeros(0, np.int64), 1, RegressionConfig()) is None
