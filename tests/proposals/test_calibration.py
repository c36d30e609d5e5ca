"""Platt's scaling: it finds the curve that made the data, keeps the order, and exists for every sensible input."""

from __future__ import annotations

import numpy as np
import pytest

from proposals.calibration import Calibration, fit_calibration
from proposals.errors import UserError


def sample(n: int, slope: float, offset: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(-4, 3, n)
    return logits, rng.random(n) < 1 / (1 + np.exp(-(slope * logits + offset)))


def test_the_curve_behind_the_data_is_found() -> None:
    logits, hits = sample(40_000, 0.7, 1.5)
    found = fit_calibration(logits, hits)
    assert found.slope == pytest.approx(0.7, rel=0.05)
    assert found.offset == pytest.approx(1.5, rel=0.1)


def test_it_agrees_with_scikit_learns_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    logits, hits = sample(3000, 0.5, -1.0, seed=3)
    model = LogisticRegression(C=1e9, tol=1e-9).fit(logits[:, None], hits)
    found = fit_calibration(logits, hits)
    assert found.slope == pytest.approx(float(model.coef_[0, 0]), rel=0.01)  # Platt's targets differ a little
    assert found.offset == pytest.approx(float(model.intercept_[0]), rel=0.01)


def test_scores_are_the_share_of_hits() -> None:
    logits, hits = sample(40_000, 1.3, -2.0)
    scores = fit_calibration(logits, hits)(logits.astype(np.float32))
    assert scores.dtype == np.float32
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (scores >= low) & (scores < low + 0.25)
        assert hits[inside].mean() == pytest.approx(scores[inside].mean(), abs=0.03)


def test_separable_data_and_huge_logits() -> None:
    logits = np.array([-1e4, -1e4 + 1, 1e4, 1e4 + 1])
    found = fit_calibration(logits, logits > 0)
    scores = found(logits.astype(np.float32))
    np.testing.assert_allclose(scores, [0.25, 0.25, 0.75, 0.75], atol=0.01)  # Platt's targets for two and two
    assert np.isfinite(Calibration()(np.array([-1e30, 1e30], np.float32))).all()


def test_confidences_that_mean_the_contrary_keep_their_order() -> None:
    logits = np.linspace(-3, 3, 60)
    found = fit_calibration(logits, logits < 0)
    assert found.slope > 0
    assert found(np.array([0.0], np.float32))[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("logits", "hits"),
    [
        (np.zeros(0), np.zeros(0, bool)),
        (np.ones(3), np.ones(3, bool)),
        (np.array([np.nan, 1]), np.array([True, False])),
    ],
)
def test_nothing_to_calibrate_on(logits: np.ndarray, hits: np.ndarray) -> None:
    with pytest.raises(UserError, match="no calibration from"):
        fit_calibration(logits, hits)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one length"):
        fit_calibration(np.zeros(2), np.zeros(3, bool))
