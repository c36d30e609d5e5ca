"""COCO against pycocotools: every precision and every recall, on thousands of random and adversarial classes.

Each class of a data set is a case of its own: the reference shares nothing between classes.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_reference import CocoArrays, coco_of, reference_arrays
from pycocotools.cocoeval import COCOeval

from detector.evaluation import coco as coco_module
from detector.evaluation.coco import MAX_DETECTIONS, evaluate_coco
from detector.evaluation.prepare import prepare
from detector.evaluation.read_files import read_detections
from detector.evaluation.read_truth import read_coco_truth
from detector.types import Detections, GroundTruth

Case = tuple[dict[str, Any], list[dict[str, Any]]]
CLASSES = 250
STATS = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
RECALLS = ["ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"]


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


def reference(case: Case, limits: tuple[int, int, int]) -> tuple[CocoArrays, Any]:
    """What pycocotools says."""
    dataset, results = case
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_of(json.loads(json.dumps(dataset)))
        none = coco_of({**dataset, "annotations": []})
        found = truth.loadRes(json.loads(json.dumps(results))) if results else none
        run = COCOeval(truth, found, "bbox")
        run.params.maxDets = list(limits)
        run.evaluate()
        run.accumulate()
        if limits[-1] == 100:
            run.summarize()
    return CocoArrays(run.eval["precision"], run.eval["recall"]), run


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


def ours(case: Case, tmp_path: Path, **settings: Any) -> Any:
    """Our result by way of the files, as a user would have it."""
    (tmp_path / "truth.json").write_text(json.dumps(case[0]), encoding="utf-8")
    (tmp_path / "results.json").write_text(json.dumps(case[1]), encoding="utf-8")
    return evaluate_coco(*tables(tmp_path), **settings)


def tables(folder: Path) -> Any:
    """Detections, truth and class names from the files that ``ours`` has written."""
    truth = read_coco_truth(folder / "truth.json")
    found = read_detections(folder / "results.json", truth.class_names, class_keys=truth.class_keys)
    return found, truth.table, truth.class_names


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 15))]


@pytest.mark.parametrize("seed", SEEDS)
def test_hundreds_of_classes_equal_the_reference(seed: int, tmp_path: Path, arrays_of: list[CocoArrays]) -> None:
    limits = (1, 2, 5) if seed % 2 else (1, 10, 100)
    case = random_case(seed)
    expected, run = reference(case, limits)
    result = ours(case, tmp_path, max_detections=limits)
    np.testing.assert_allclose(arrays_of[0].precision, expected.precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(arrays_of[0].recall, expected.recall, rtol=0, atol=1e-9)
    if limits[-1] == 100:
        numbers = [result.numbers[name] for name in (*STATS, *RECALLS)]
        np.testing.assert_allclose(np.nan_to_num(numbers, nan=-1), run.stats, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_small_data_sets_equal_the_reference(seed: int, tmp_path: Path, arrays_of: list[CocoArrays]) -> None:
    case = random_case(1000 + seed, n_images=seed % 5 + 1, n_classes=seed % 3 + 1, n_found=4 * (seed % 4) + 1)
    expected, _ = reference(case, (1, 10, 100))
    ours(case, tmp_path)
    np.testing.assert_allclose(arrays_of[0].precision, expected.precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(arrays_of[0].recall, expected.recall, rtol=0, atol=1e-9)


@pytest.mark.parametrize("what", ["no detections", "no truth", "only crowds", "no images of one class"])
def test_empty_parts_equal_the_reference(what: str, tmp_path: Path, arrays_of: list[CocoArrays]) -> None:
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
    expected, _ = reference((dataset, results), (1, 10, 100))
    result = ours((dataset, results), tmp_path)
    np.testing.assert_allclose(arrays_of[0].precision, expected.precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(arrays_of[0].recall, expected.recall, rtol=0, atol=1e-9)
    if what in ("no truth", "only crowds"):
        assert np.isnan(result.mean_ap)


def test_hundreds_of_detections_of_one_image_and_class(tmp_path: Path, arrays_of: list[CocoArrays]) -> None:
    dataset, results = random_case(3, n_classes=1, n_found=600)
    assert max(sum(r["image_id"] == i for r in results) for i in range(2)) > 100
    expected, _ = reference((dataset, results), (1, 10, 100))
    result = ours((dataset, results), tmp_path)
    np.testing.assert_allclose(arrays_of[0].precision, expected.precision, rtol=0, atol=1e-9)
    assert result.counts.detections_ignored["beyond the best 100 of its image and class"] > 0


def test_area_edges_are_inclusive_on_both_sides(tmp_path: Path) -> None:
    box = [10.0, 10.0, 32.0, 32.0]
    dataset = {
        "images": [{"id": 0, "width": 99, "height": 99, "file_name": ""}],
        "categories": [{"id": 0, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 0, "bbox": box, "area": 1024.0, "iscrowd": 0}],
    }
    result = ours((dataset, [{"image_id": 0, "category_id": 0, "bbox": box, "score": 0.5}]), tmp_path)
    assert result.numbers["ap_small"] == pytest.approx(1)
    assert result.numbers["ap_medium"] == pytest.approx(1)
    assert np.isnan(result.numbers["ap_large"])


def test_perfect_boxes_with_annotation_ids_from_zero(tmp_path: Path) -> None:
    # pycocotools takes a match with annotation 0 for none; the numbers here are those of the same file with other ids.
    case = random_case(11, n_images=1, n_classes=1)
    box = [10.0, 10.0, 40.0, 40.0]
    case[0]["annotations"] = [{"id": 0, "image_id": 0, "category_id": 0, "bbox": box, "area": 1600.0, "iscrowd": 0}]
    case = (case[0], [{"image_id": 0, "category_id": 0, "bbox": box, "score": 0.9}])
    assert reference(case, (1, 10, 100))[1].stats[0] == pytest.approx(0)
    assert ours(case, tmp_path).mean_ap == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_tables_give_the_numbers_of_the_reference(seed: int, tmp_path: Path) -> None:
    case = random_case(seed, n_images=4, n_classes=30)
    result = ours(case, tmp_path)
    limits = np.array(MAX_DETECTIONS)
    expected = reference_arrays(prepare(*tables(tmp_path)))
    numbers = coco_module._numbers(expected.precision, expected.recall, limits)
    assert result.numbers == pytest.approx(numbers, abs=1e-9, nan_ok=True)
    assert len(result.classes) == 30
    for label, row in enumerate(result.classes):
        only = slice(label, label + 1)
        own = coco_module._numbers(expected.precision[:, :, only], expected.recall[:, only], limits)
        assert row.ap == pytest.approx(own.pop("ap"), abs=1e-9, nan_ok=True)
        assert row.numbers == pytest.approx(own, abs=1e-9, nan_ok=True)


def test_nothing_has_no_number() -> None:
    empty = GroundTruth.of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert np.isnan(evaluate_coco({}, {}, ["a"]).mean_ap)
    assert np.isnan(evaluate_coco({}, {"i": empty}, ["a"]).mean_ap)
    expected = reference_arrays(prepare({}, {"i": empty}, ["a"]))
    assert (expected.precision == -1).all()
    assert (expected.recall == -1).all()


def test_ignored_truth_takes_up_one_detection(arrays_of: list[CocoArrays]) -> None:
    boxes = np.array([[0, 0, 50, 50], [60, 60, 90, 90]], np.float32)
    truth = GroundTruth(
        boxes, np.zeros(2, np.int64), np.array([True, False]), np.zeros(2, np.bool_), np.array([2500.0, 900.0])
    )
    found = Detections(boxes[[0, 0, 1]], np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64), (100, 100))
    result = evaluate_coco({"i": found}, {"i": truth}, ["a"])
    assert result.mean_ap == pytest.approx(0.5)  # one of the two detections of the ignored object is a false positive
    assert result.counts.detections_ignored == {"matched a crowd or ignored object": 1}
    expected = reference_arrays(prepare({"i": found}, {"i": truth}, ["a"]))
    np.testing.assert_allclose(arrays_of[0].precision, expected.precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(arrays_of[0].recall, expected.recall, rtol=0, atol=1e-9)


def test_limits_must_ascend() -> None:
    with pytest.raises(ValueError, match="max_detections"):
        evaluate_coco({}, {}, ["a"], max_detections=(10, 1, 100))
