"""ILSVRC DET against an independent, plain reading of the official rules on lines of a submission."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det, object_thresholds
from detector.evaluation.read_files import read_detections
from detector.types import Detections, GroundTruth


def official(lines: list[str], truth: dict[int, list[tuple]], blacklist: set[tuple[int, int]], n_classes: int) -> list:
    """APs by class from a submission's lines, pixel coordinates inclusive, everything by plain loops.

    ``truth``: image number -> [(class, xmin, ymin, xmax, ymax)]. NaN for a class without a positive.
    """
    positives: dict[int, int] = defaultdict(int)
    for image, objects in truth.items():
        for label, *_ in objects:
            if (image, label) not in blacklist:
                positives[label] += 1
    by_image: dict[int, list[tuple]] = defaultdict(list)
    for line in lines:
        image, label, score, *box = line.split()
        by_image[int(image)].append((int(label), float(score), [float(x) for x in box]))
    verdicts: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for image in sorted(truth):
        objects = truth[image]
        taken = [False] * len(objects)
        for label, score, box in sorted(by_image[image], key=lambda d: -d[1]):
            if (image, label) in blacklist:
                continue
            best, best_overlap = None, -np.inf
            for k, (own, *gt) in enumerate(objects):
                if own != label or taken[k]:
                    continue
                width, height = gt[2] - gt[0] + 1, gt[3] - gt[1] + 1
                threshold = min(0.5, width * height / ((width + 10) * (height + 10)))
                iw = min(box[2], gt[2]) - max(box[0], gt[0]) + 1
                ih = min(box[3], gt[3]) - max(box[1], gt[1]) + 1
                if iw <= 0 or ih <= 0:
                    continue
                union = (box[2] - box[0] + 1) * (box[3] - box[1] + 1) + width * height - iw * ih
                overlap = iw * ih / union
                if overlap >= threshold and overlap > best_overlap:
                    best, best_overlap = k, overlap
            if best is not None:
                taken[best] = True
            verdicts[label].append((score, best is not None))
    aps = []
    for label in range(1, n_classes + 1):
        if not positives[label]:
            aps.append(float("nan"))
            continue
        ranked = [hit for _, hit in sorted(verdicts[label], key=lambda v: -v[0])]
        hits, points = 0, []
        for n, hit in enumerate(ranked, 1):
            hits += hit
            points.append((hits / positives[label], hits / n))
        ap, last = 0.0, 0.0
        for i, (recall, _) in enumerate(points):
            ap += (recall - last) * max(p for _, p in points[i:])
            last = recall
        aps.append(ap)
    return aps


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_plain_reading(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    n_images, n_classes = int(rng.integers(1, 7)), 4
    names = {i + 1: f"ILSVRC2012_val_{i + 1:08d}" for i in range(n_images)}
    truth: dict[int, list[tuple]] = {}
    lines: list[str] = []
    for number in names:
        objects = []
        for _ in range(rng.integers(0, 6)):
            corner = rng.integers(0, 40, 2)
            # Mostly objects small enough for the lenient threshold.
            side = rng.integers(0, 30 if rng.random() < 0.7 else 90, 2)
            objects.append((int(rng.integers(1, n_classes + 1)), *corner.tolist(), *(corner + side).tolist()))
        truth[number] = objects
        for _ in range(rng.integers(0, 14)):
            if objects and rng.random() < 0.8:
                near = objects[rng.integers(len(objects))]
                label, box = near[0], np.array(near[1:]) + rng.integers(-4, 5, 4)
            else:
                corner = rng.integers(0, 60, 2)
                label, box = int(rng.integers(1, n_classes + 1)), np.concatenate([corner, corner + 12])
            box[2:] = np.maximum(box[:2], box[2:])
            score = rng.choice([0.5, round(float(rng.random()), 3)])
            lines.append(f"{number} {label} {score} {' '.join(map(str, box))}")
    pairs = {(int(rng.integers(1, n_images + 1)), int(rng.integers(1, n_classes + 1))) for _ in range(2)}
    expected = official(lines, truth, pairs, n_classes)

    path = tmp_path / "submission.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    class_names = [f"n{i:08d}" for i in range(n_classes)]
    found = read_detections(path, class_names, image_numbers=names)
    ours = {
        names[number]: GroundTruth.of(
            np.array([(x1, y1, x2 + 1, y2 + 1) for _, x1, y1, x2, y2 in objects], np.float32).reshape(-1, 4),
            np.array([label - 1 for label, *_ in objects], np.int64),
        )
        for number, objects in truth.items()
    }
    result = evaluate_ilsvrc_det(
        found, ours, class_names, blacklist=[(names[number], label - 1) for number, label in pairs]
    )
    np.testing.assert_allclose([row.ap for row in result.classes], expected, atol=1e-12)
    defined = [ap for ap in expected if not np.isnan(ap)]
    if defined:
        assert result.mean_ap == pytest.approx(np.mean(defined), abs=1e-12)


def test_thresholds() -> None:
    sides = np.array([[24.0, 24.0], [25.0, 25.0], [10.0, 10.0], [100.0, 5.0], [0.0, 9.0]])
    expected = [24 * 24 / 34**2, 0.5, 0.25, 500 / (110 * 15), 0]
    np.testing.assert_allclose(object_thresholds(sides), expected)


def one(boxes: Any, scores: Any, truth: Any, **settings: Any) -> Any:
    """One image and one class."""
    found = Detections(
        np.array(boxes, np.float32), np.array(scores, np.float32), np.zeros(len(boxes), np.int64), (200, 200)
    )
    objects = np.array(truth, np.float32)
    return evaluate_ilsvrc_det(
        {"i": found}, {"i": GroundTruth.of(objects, np.zeros(len(objects), np.int64))}, ["a"], **settings
    )


def test_second_detection_falls_through_to_a_free_truth() -> None:
    # Where VOC calls the second one a duplicate, ILSVRC lets it take the other object.
    truth = [[0, 0, 100, 100], [0, 20, 100, 120]]
    row = one([[0, 0, 100, 100], [0, 5, 100, 105]], [0.9, 0.8], truth).classes[0]
    assert (row.true_positives, row.false_positives) == (2, 0)


def test_small_object_is_matched_leniently() -> None:
    # IoU 1/3: too little for VOC, enough for an object of 10 x 10 pixels, whose threshold is 1/4.
    assert one([[5, 0, 15, 10]], [0.9], [[0, 0, 10, 10]]).mean_ap == 1
    assert one([[50, 0, 150, 100]], [0.9], [[0, 0, 100, 100]]).mean_ap == 0


def test_blacklisted_pair_counts_neither_way() -> None:
    result = one([[0, 0, 50, 50], [100, 100, 150, 150]], [0.9, 0.8], [[0, 0, 50, 50]], blacklist=[("i", 0)])
    assert np.isnan(result.mean_ap)
    assert result.counts.detections_ignored == {"image and class blacklisted": 2}
    assert result.counts.truths_ignored == {"image and class blacklisted": 1}


def test_blacklist_of_other_images_changes_nothing() -> None:
    assert one([[0, 0, 50, 50]], [0.9], [[0, 0, 50, 50]], blacklist=[("elsewhere", 0)]).mean_ap == 1


def test_blacklisted_label_without_a_name() -> None:
    with pytest.raises(ValueError, match="blacklisted pair"):
        one([[0, 0, 50, 50]], [0.9], [[0, 0, 50, 50]], blacklist=[("i", 5)])
