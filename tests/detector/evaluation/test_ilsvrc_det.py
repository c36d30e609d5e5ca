"""ILSVRC DET against an independent, plain reading of the official rules on lines of a submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boxes import found_of, truth_of
from official_rules import area, ilsvrc_verdicts, official_curve, ours, random_set

from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det, object_thresholds
from detector.evaluation.read_files import read_detections


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_plain_reading(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    n_images, class_names = int(rng.integers(1, 7)), [f"n{i:08d}" for i in range(4)]
    truth, found = random_set(rng, n_images, len(class_names))
    path, rows = tmp_path / "submission.txt", [(image, *row) for image, of in found.items() for row in of]
    lines = (f"{image} {label + 1} {score} {' '.join(map(str, box))}" for image, label, score, box in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    submitted = read_detections(path, class_names, image_numbers={image: str(image) for image in truth})
    pairs = {(int(rng.integers(1, n_images + 1)), int(rng.integers(4))) for _ in range(2)}
    blacklist = [(str(image), label) for image, label in pairs]
    result = evaluate_ilsvrc_det(submitted, ours(truth, found)[1], class_names, blacklist=blacklist)

    truth, found = (
        {image: [row for row in of if (image, row[0]) not in pairs] for image, of in each.items()}
        for each in (truth, found)
    )
    curves = [official_curve(label, truth, found, ilsvrc_verdicts) for label in range(4)]
    expected = [np.nan if curve is None else area(*curve) for curve in curves]
    np.testing.assert_allclose([row.ap for row in result.classes], expected, atol=1e-12)
    mean = np.nanmean(expected) if any(curves) else np.nan
    assert result.mean_ap == pytest.approx(mean, abs=1e-12, nan_ok=True)


def test_thresholds() -> None:
    sides = np.array([[24.0, 24.0], [25.0, 25.0], [10.0, 10.0], [100.0, 5.0], [0.0, 9.0]])
    expected = [24 * 24 / 34**2, 0.5, 0.25, 500 / (110 * 15), 0]
    np.testing.assert_allclose(object_thresholds(sides), expected)


def one(boxes: Any, truth: Any, **settings: Any) -> Any:
    """The result of one image and one class."""
    return evaluate_ilsvrc_det({"i": found_of(boxes)}, {"i": truth_of(truth)}, ["a"], **settings)


def test_second_detection_falls_through_to_a_free_truth() -> None:
    # Where VOC calls the second one a duplicate, ILSVRC lets it take the other object.
    row = one([[0, 0, 100, 100], [0, 5, 100, 105]], [[0, 0, 100, 100], [0, 20, 100, 120]]).classes[0]
    assert (row.true_positives, row.false_positives) == (2, 0)


def test_small_object_is_matched_leniently() -> None:
    # IoU 1/3: too little for VOC, enough for an object of 10 x 10 pixels, whose threshold is 1/4.
    assert one([5, 0, 15, 10], [0, 0, 10, 10]).mean_ap == 1
    assert one([50, 0, 150, 100], [0, 0, 100, 100]).mean_ap == 0


def test_the_blacklist() -> None:
    result = one([[0, 0, 50, 50], [100, 100, 150, 150]], [0, 0, 50, 50], blacklist=[("i", 0)])
    assert np.isnan(result.mean_ap)
    assert result.counts.detections_ignored == {"image and class blacklisted": 2}
    assert result.counts.truths_ignored == {"image and class blacklisted": 1}
    assert one([0, 0, 50, 50], [0, 0, 50, 50], blacklist=[("elsewhere", 0)]).mean_ap == 1
    with pytest.raises(ValueError, match="blacklisted pair"):
        one([0, 0, 50, 50], [0, 0, 50, 50], blacklist=[("i", 5)])
