"""Intervals and comparisons: resampling by weights is resampling the images themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from boxes import found_of, truth_of

from detector.evaluation.bootstrap import bootstrap, corrected_interval, draw_weights, mean_of_classes, weighted_aps
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det
from detector.evaluation.paired import compare, holm
from detector.evaluation.result import EvaluationResult
from detector.evaluation.voc import evaluate_voc
from detector.types import Detections, GroundTruth

NAMES = ["a", "b"]
PROTOCOLS = {
    "voc07": lambda f, t, **k: evaluate_voc(f, t, NAMES, year=2007, **k),
    "voc10": lambda f, t, **k: evaluate_voc(f, t, NAMES, year=2010, **k),
    "coco": lambda f, t, **k: evaluate_coco(f, t, NAMES, **k),
    "ilsvrc_det": lambda f, t, **k: evaluate_ilsvrc_det(f, t, NAMES, **k),
}


def data_set(n: int, noise: float) -> tuple[dict[str, Detections], dict[str, GroundTruth]]:
    """``n`` images; every score in the set is different, and one class in ten is wrong."""
    rng, noisy = np.random.default_rng(0), np.random.default_rng(1000 + round(noise))
    found, truth = {}, {}
    scores = noisy.permutation(n * 8).astype(np.float32) / (n * 8)
    for i in range(n):
        corner, side = rng.uniform(0, 150, (4, 2)), rng.uniform(30, 100, (4, 2))
        boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
        labels = rng.integers(0, 2, 4)
        truth[str(i)] = truth_of(boxes, labels, rng.random(4) < 0.1)
        shifted = np.tile(boxes, (2, 1)) + noisy.normal(0, noise, (8, 4)).astype(np.float32)
        guessed = np.where(noisy.random(8) < 0.1, 1 - np.tile(labels, 2), np.tile(labels, 2))
        found[str(i)] = found_of(shifted, scores[i * 8 : i * 8 + 8], guessed)
    return found, truth


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_weights_stand_for_copies_of_images(protocol: str) -> None:
    found, truth = data_set(6, 8)
    evaluate = PROTOCOLS[protocol]
    weights = np.array([[2, 0, 1, 3, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 6]], np.int32)
    by_weight = weighted_aps(evaluate(found, truth).matches, weights)
    for line, values in zip(weights, by_weight, strict=True):
        copies = [(name, k) for name, n in zip(truth, line, strict=True) for k in range(n)]
        copied = evaluate(
            {f"{name} {k}": found[name] for name, k in copies}, {f"{name} {k}": truth[name] for name, k in copies}
        )
        np.testing.assert_allclose(values, [row.ap for row in copied.classes], atol=1e-9)


def test_draws_are_reproducible_and_complete() -> None:
    first, again, other = (np.concatenate(list(draw_weights(50, 30, seed))) for seed in (1, 1, 2))
    assert first.shape == (30, 50)
    assert (first.sum(axis=1) == 50).all()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.concatenate(list(draw_weights(0, 3, 0))).shape == (3, 0)


def test_many_rare_classes_leave_the_interval_a_width() -> None:
    """The resamples' bias is then larger than their spread; the interval must survive that."""
    rng = np.random.default_rng(0)
    classes, truth, found = 120, {}, {}
    for i in range(240):
        corners = rng.uniform(0, 60, (3, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 40, (3, 2))], axis=1)
        labels = rng.integers(0, classes, 3)
        truth[str(i)] = truth_of(boxes, labels)
        wrong = np.where(rng.random(3) < 0.4, rng.integers(0, classes, 3), labels)
        found[str(i)] = found_of(boxes, rng.random(3), wrong)
    names = [str(i) for i in range(classes)]
    result = evaluate_voc(found, truth, names, year=2010, bootstrap_samples=200)
    assert result.interval is not None
    assert result.interval.low < result.mean_ap < result.interval.high
    assert 0.01 < result.interval.high - result.interval.low < 0.3


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(draw_weights(20, 10, 0)))
    monkeypatch.setattr("detector.evaluation.bootstrap._BLOCK", 45)
    blocks = list(draw_weights(20, 10, 0))
    assert [len(block) for block in blocks] == [2, 2, 2, 2, 2]
    assert np.array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_interval_surrounds_the_estimate(protocol: str) -> None:
    found, truth = data_set(40, 10)
    result: EvaluationResult = PROTOCOLS[protocol](found, truth, bootstrap_samples=200)
    assert result.interval is not None
    assert 0 < result.interval.low < result.mean_ap < result.interval.high < 1
    assert result.interval.samples == 200
    assert all(row.interval is not None and row.interval.low < row.ap < row.interval.high for row in result.classes)
    assert PROTOCOLS[protocol](found, truth).interval is None


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Small sets drawn from a large one, whose own mAP is the truth.
    found, truth = data_set(600, 10)
    whole = evaluate_voc(found, truth, NAMES, year=2010)
    rng = np.random.default_rng(0)
    ids = list(truth)
    hits = 0
    for _ in range(60):
        part = [ids[i] for i in rng.choice(600, 60, replace=False)]
        small = evaluate_voc(
            {i: found[i] for i in part}, {i: truth[i] for i in part}, NAMES, year=2010, bootstrap_samples=200
        )
        assert small.interval is not None
        hits += small.interval.low <= whole.mean_ap <= small.interval.high
    assert 50 <= hits <= 60  # 95 % of 60 is 57; fewer than 50 has a chance below 1 in 1000


def test_perfect_detections_have_no_spread() -> None:
    _, truth = data_set(5, 0)
    perfect = {name: found_of(t.boxes, 1, t.labels) for name, t in truth.items()}
    result = evaluate_voc(perfect, truth, NAMES, year=2010, bootstrap_samples=50)
    assert result.interval is not None
    assert (result.interval.low, result.interval.high) == pytest.approx((1, 1))


def test_corrected_interval() -> None:
    values = np.arange(1001) / 1000
    centred = corrected_interval(values, 0.5, 0.9)
    assert centred is not None
    assert (centred.low, centred.high) == pytest.approx((0.05, 0.95), abs=2e-3)
    shifted = corrected_interval(values, 0.3, 0.9)  # most resamples lie above: both ends come down
    assert shifted is not None
    assert shifted.low < 0.02
    assert shifted.high < 0.8
    assert corrected_interval(np.full(3, np.nan), 0.5, 0.9) is None
    assert corrected_interval(values, float("nan"), 0.9) is None


def test_a_class_that_resamples_lack() -> None:
    found, truth = data_set(3, 5)
    only_one = {name: truth_of(t.boxes if name == "0" else []) for name, t in truth.items()}
    (spread,) = bootstrap([evaluate_voc(found, only_one, NAMES).need_matches()], samples=100, seed=0)
    lacking = np.isnan(spread[:, 0])
    assert 0 < lacking.sum() < 100  # the image is in a resample of three in 19 of 27 cases
    assert np.isnan(spread[:, 1]).all()
    assert np.isnan(mean_of_classes(spread)[lacking]).all()


def test_the_better_model_is_told() -> None:
    good, truth = data_set(80, 3)
    bad, _ = data_set(80, 16)
    a, b = (evaluate_voc(found, truth, NAMES, year=2010) for found in (bad, good))
    comparison = compare(a, b)
    assert comparison.mean.verdict == "B is better"
    assert comparison.mean.interval is not None
    assert comparison.mean.interval.low > 0
    assert comparison.mean.difference == pytest.approx(b.mean_ap - a.mean_ap)
    assert comparison.mean.p_value == pytest.approx(2 / (comparison.samples + 1))
    assert [row.verdict for row in comparison.classes] == ["B is better"] * 2
    swapped = compare(b, a)
    assert swapped.mean.verdict == "A is better"
    assert swapped.mean.difference == pytest.approx(-comparison.mean.difference)


def test_a_model_is_not_better_than_itself() -> None:
    found, truth = data_set(20, 8)
    result = evaluate_coco(found, truth, NAMES)
    comparison = compare(result, result, samples=100)
    assert comparison.mean.verdict == "no difference shown"
    assert comparison.mean.p_value == 1
    assert comparison.mean.difference == 0


def test_results_that_cannot_be_compared() -> None:
    found, truth = data_set(4, 8)
    result = evaluate_voc(found, truth, NAMES)
    with pytest.raises(ValueError, match="different metrics"):
        compare(result, evaluate_coco(found, truth, NAMES))
    fewer = {n: t for n, t in truth.items() if n != "0"}
    with pytest.raises(ValueError, match="same images"):
        compare(result, evaluate_voc(found, fewer, NAMES))
    with pytest.raises(ValueError, match="without matches"):
        compare(replace(result, matches=None), result)


def test_holm() -> None:
    adjusted = holm(np.array([0.01, np.nan, 0.04, 0.03]))
    np.testing.assert_allclose(adjusted, [0.03, np.nan, 0.06, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
