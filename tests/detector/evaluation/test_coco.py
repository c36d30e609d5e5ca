"""COCO against pycocotools: every precision and every recall, on thousands of random and adversarial classes.

Each class of a data set is a case of its own: the reference shares nothing between classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boxes import found_of, truth_of
from coco_reference import CocoArrays, reference_arrays, run_reference

from detector.evaluation import coco as coco_module
from detector.evaluation.coco import MAX_DETECTIONS, evaluate_coco
from detector.evaluation.prepare import prepare
from detector.evaluation.read_files import read_detections
from detector.evaluation.read_truth import read_coco_truth
from detector.evaluation.result import EvaluationResult

Case = tuple[dict[str, Any], list[dict[str, Any]]]
Limits = tuple[int, int, int]
CLASSES = 250
NUMBERS = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
NUMBERS += ["ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"]


def random_case(seed: int, n_images: int = 2, n_classes: int = CLASSES, n_found: int = 9) -> Case:
    """An annotation file and results, with ids from 0, crowds, ties, empty images and classes, and area edges."""
    rng = np.random.default_rng(seed)
    step = float(rng.choice([1.0, 8.0, 0.1, 0.37]))
    image_ids = rng.permutation(n_images).tolist()
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []

    def box() -> list[float]:
        return [*(rng.integers(0, 10, 2) * step).tolist(), *(rng.integers(0, 14, 2) * step).tolist()]

    for category in range(n_classes):
        for image in image_ids:
            own = [box() for _ in range(rng.integers(0, 5) if rng.random() < 0.7 else 0)]
            for x in own:
                size = x[2] * x[3]
                area = rng.choice([size, size, size / 2, 1024.0, 9216.0, np.nextafter(1024.0, 0), 0.0])
                annotations.append(
                    {"image_id": image, "category_id": category, "bbox": x, "area": float(area)}
                    | {"iscrowd": int(rng.random() < 0.15), "id": len(annotations) + 1}
                )
            for _ in range(rng.integers(0, n_found) if rng.random() < 0.8 else 0):
                near = box()
                if own and rng.random() < 0.7:
                    shift = rng.choice([0.0, 0.0, 1.0, -1.0, 0.5], 4) * step
                    near = (np.array(own[rng.integers(len(own))]) + shift).tolist()
                score = float(rng.choice([0.1, 0.5, rng.random()]))
                results.append({"image_id": image, "category_id": category, "bbox": near, "score": score})
    images = [{"id": i, "width": 200, "height": 200, "file_name": f"{i}.jpg"} for i in image_ids]
    categories = [{"id": k, "name": f"class {k}"} for k in range(n_classes)]
    order = rng.permutation(len(results))
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    return dataset, [results[i] for i in order]


def one_object(box: list[float], annotation_id: int) -> Case:
    """An object, and a detection of the very same box."""
    place = {"image_id": 0, "category_id": 0, "bbox": box}
    dataset = {
        "images": [{"id": 0, "width": 99, "height": 99, "file_name": ""}],
        "categories": [{"id": 0, "name": "a"}],
        "annotations": [{"id": annotation_id, **place, "area": box[2] * box[3], "iscrowd": 0}],
    }
    return dataset, [{**place, "score": 0.9}]


def tables(case: Case, folder: Path) -> Any:
    """Detections, truth and class names by way of the files, as a user would have them."""
    for name, content in zip(("truth.json", "results.json"), case, strict=True):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    truth = read_coco_truth(folder / "truth.json")
    found = read_detections(folder / "results.json", truth.class_names, class_keys=truth.class_keys)
    return found, truth.table, truth.class_names


@pytest.fixture
def arrays_of(monkeypatch: pytest.MonkeyPatch) -> list[CocoArrays]:
    """The whole arrays of each evaluation, which the result sums up."""
    kept: list[CocoArrays] = []
    original = coco_module._numbers

    def spy(precision: Any, recall: Any, limits: Any) -> dict[str, float]:
        kept.append(CocoArrays(precision, recall))
        return original(precision, recall, limits)

    monkeypatch.setattr(coco_module, "_numbers", spy)
    return kept


def assert_equal(arrays: CocoArrays, expected: CocoArrays) -> None:
    for ours, theirs in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@pytest.fixture
def agreed(arrays_of: list[CocoArrays], tmp_path: Path) -> Callable[..., EvaluationResult]:
    """Our result of a case, of which everything that it sums up equals the reference."""

    def evaluate(case: Case, limits: Limits = MAX_DETECTIONS) -> EvaluationResult:
        run = run_reference(*case, limits)
        result = evaluate_coco(*tables(case, tmp_path), max_detections=limits)
        assert_equal(arrays_of[0], CocoArrays(run.eval["precision"], run.eval["recall"]))
        if limits == MAX_DETECTIONS:
            numbers = np.nan_to_num([result.numbers[name] for name in NUMBERS], nan=-1)
            np.testing.assert_allclose(numbers, run.stats, rtol=0, atol=1e-9)
        return result

    return evaluate


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 15))]


@pytest.mark.parametrize("seed", SEEDS)
def test_hundreds_of_classes_equal_the_reference(seed: int, agreed: Callable[..., EvaluationResult]) -> None:
    agreed(random_case(seed), (1, 2, 5) if seed % 2 else MAX_DETECTIONS)


@pytest.mark.parametrize("seed", range(40))
def test_small_data_sets_equal_the_reference(seed: int, agreed: Callable[..., EvaluationResult]) -> None:
    agreed(random_case(1000 + seed, n_images=seed % 5 + 1, n_classes=seed % 3 + 1, n_found=4 * (seed % 4) + 1))


@pytest.mark.parametrize("what", ["no detections", "no truth", "only crowds", "no images of one class"])
def test_empty_parts_equal_the_reference(what: str, agreed: Callable[..., EvaluationResult]) -> None:
    dataset, results = random_case(7, n_classes=3)
    if what == "no detections":
        results = []
    elif what == "no truth":
        dataset["annotations"] = []
    elif what == "only crowds":
        for entry in dataset["annotations"]:
            entry["iscrowd"] = 1
    else:
        dataset["annotations"] = [a for a in dataset["annotations"] if a["category_id"] != 1]
    result = agreed((dataset, results))
    assert np.isnan(result.mean_ap) == (what in ("no truth", "only crowds"))


def test_hundreds_of_detections_of_one_image_and_class(agreed: Callable[..., EvaluationResult]) -> None:
    dataset, results = random_case(3, n_classes=1, n_found=600)
    assert max(sum(r["image_id"] == i for r in results) for i in range(2)) > 100
    result = agreed((dataset, results))
    assert result.counts.detections_ignored["beyond the best 100 of its image and class"] > 0


def test_area_edges_are_inclusive_on_both_sides(agreed: Callable[..., EvaluationResult]) -> None:
    numbers = agreed(one_object([10.0, 10.0, 32.0, 32.0], 1)).numbers
    assert (numbers["ap_small"], numbers["ap_medium"]) == pytest.approx((1, 1))
    assert np.isnan(numbers["ap_large"])


def test_perfect_boxes_with_annotation_ids_from_zero(tmp_path: Path) -> None:
    # pycocotools takes a match with annotation 0 for none; the numbers here are those of the same file with other ids.
    case = one_object([10.0, 10.0, 40.0, 40.0], 0)
    assert run_reference(*case).stats[0] == pytest.approx(0)
    assert evaluate_coco(*tables(case, tmp_path)).mean_ap == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_classes_have_the_numbers_of_the_reference(seed: int, tmp_path: Path) -> None:
    case = random_case(seed, n_images=4, n_classes=30)
    result = evaluate_coco(*tables(case, tmp_path))
    expected, limits = run_reference(*case).eval, np.array(MAX_DETECTIONS)
    assert len(result.classes) == 30
    for label, row in enumerate(result.classes):
        only = slice(label, label + 1)
        own = coco_module._numbers(expected["precision"][:, :, only], expected["recall"][:, only], limits)
        assert {"ap": row.ap, **row.numbers} == pytest.approx(own, abs=1e-9, nan_ok=True)


def test_nothing_has_no_number(arrays_of: list[CocoArrays]) -> None:
    assert np.isnan(evaluate_coco({}, {}, ["a"]).mean_ap)
    assert np.isnan(evaluate_coco({}, {"i": truth_of([])}, ["a"]).mean_ap)
    assert all((array == -1).all() for arrays in arrays_of for array in arrays)


def test_ignored_truth_takes_up_one_detection(arrays_of: list[CocoArrays]) -> None:
    boxes = np.array([[0, 0, 50, 50], [60, 60, 90, 90]])
    found, truth = {"i": found_of(boxes[[0, 0, 1]])}, {"i": truth_of(boxes, ignore=[True, False])}
    result = evaluate_coco(found, truth, ["a"])
    assert result.mean_ap == pytest.approx(0.5)  # one of the two detections of the ignored object is a false positive
    assert result.counts.detections_ignored == {"matched a crowd or ignored object": 1}
    assert_equal(arrays_of[0], reference_arrays(prepare(found, truth, ["a"])))


def test_limits_must_ascend() -> None:
    with pytest.raises(ValueError, match="max_detections"):
        evaluate_coco({}, {}, ["a"], max_detections=(10, 1, 100))
