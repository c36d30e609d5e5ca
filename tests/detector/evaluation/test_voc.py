"""VOC against a literal reading of the devkit on 1-based inclusive boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.evaluation.voc import evaluate_voc
from detector.types import Detections, GroundTruth

SIZE = (400, 400)


def truth_of(boxes: Any, labels: Any, ignore: Any = None, crowd: Any = None) -> GroundTruth:
    """Half-open boxes with flags."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(array)
    return GroundTruth(
        array,
        np.array(labels, np.int64),
        np.zeros(n, np.bool_) if ignore is None else np.array(ignore, np.bool_),
        np.zeros(n, np.bool_) if crowd is None else np.array(crowd, np.bool_),
        (array[:, 2:].astype(np.float64) - array[:, :2]).prod(axis=1),
    )


def found_of(boxes: Any, scores: Any, labels: Any) -> Detections:
    """Detections in any order."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections.sorted(array, np.array(scores, np.float32), np.array(labels, np.int64), SIZE)


def devkit(found: list[tuple], truth: list[tuple], year: int) -> tuple[float, list[float], list[float]]:
    """VOCevaldet for one class.

    ``found``: (image, score, xmin, ymin, xmax, ymax) in file order; ``truth``: (image, xmin..ymax, difficult); all
    coordinates 1-based inclusive. Returns AP, recall and precision of the rows that are true or false.
    """
    npos = sum(not t[5] for t in truth)
    taken = [False] * len(truth)
    tp, fp = [], []
    for image, _, *bb in sorted(found, key=lambda d: -d[1]):
        ovmax, jmax = -np.inf, -1
        for j, (gt_image, *bbgt, _) in enumerate(truth):
            if gt_image != image:
                continue
            bi = [max(bb[0], bbgt[0]), max(bb[1], bbgt[1]), min(bb[2], bbgt[2]), min(bb[3], bbgt[3])]
            iw, ih = bi[2] - bi[0] + 1, bi[3] - bi[1] + 1
            if iw > 0 and ih > 0:
                ua = (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1)
                ua += (bbgt[2] - bbgt[0] + 1) * (bbgt[3] - bbgt[1] + 1) - iw * ih
                if iw * ih / ua > ovmax:
                    ovmax, jmax = iw * ih / ua, j
        if ovmax >= 0.5:
            if truth[jmax][5]:
                continue
            tp.append(not taken[jmax])
            fp.append(taken[jmax])
            taken[jmax] = True
        else:
            tp.append(False)
            fp.append(True)
    true, false = np.cumsum(tp), np.cumsum(fp)
    recall, precision = true / npos, true / (true + false) if len(true) else true
    if year == 2007:
        levels = [i * 0.1 if i <= 5 else 1 - (10 - i) * 0.1 for i in range(11)]
        ap = sum(max((p for r, p in zip(recall, precision, strict=True) if r >= t), default=0) / 11 for t in levels)
    else:
        mrec, mpre = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
        for i in range(len(mpre) - 2, -1, -1):
            mpre[i] = max(mpre[i], mpre[i + 1])
        ap = sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec)))
    return ap, list(recall), list(precision)


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("seed", range(25))
def test_equals_the_devkit_on_integer_boxes(seed: int, year: int) -> None:
    rng = np.random.default_rng(seed)
    n_images, n_classes = int(rng.integers(1, 8)), 3
    ids = [f"{i:06d}" for i in range(n_images)]
    kit_truth: list[tuple] = []
    kit_found: list[tuple] = []
    for image in ids:
        for _ in range(rng.integers(0, 6)):
            corner, side = rng.integers(1, 30, 2), rng.integers(0, 25, 2)
            kit_truth.append((image, int(rng.integers(n_classes)), *corner, *(corner + side), bool(rng.random() < 0.2)))
        own = [t for t in kit_truth if t[0] == image]
        for _ in range(rng.integers(0, 15)):
            score = float(np.float32(rng.choice([0.25, 0.5, rng.random()])))  # ties on purpose
            if own and rng.random() < 0.7:
                near = own[rng.integers(len(own))]
                box = np.array(near[2:6]) + rng.integers(-3, 4, 4)
                label = near[1]
            else:
                corner = rng.integers(1, 40, 2)
                box, label = np.concatenate([corner, corner + rng.integers(0, 25, 2)]), int(rng.integers(n_classes))
            box[2:] = np.maximum(box[:2], box[2:])
            kit_found.append((image, label, score, *box.tolist()))
    truth, found = {}, {}
    for image in ids:
        rows = [t for t in kit_truth if t[0] == image]
        truth[image] = truth_of(
            [(x1 - 1, y1 - 1, x2, y2) for _, _, x1, y1, x2, y2, _ in rows], [t[1] for t in rows], [t[6] for t in rows]
        )
        rows = [d for d in kit_found if d[0] == image]
        boxes = [(x1 - 1, y1 - 1, x2, y2) for _, _, _, x1, y1, x2, y2 in rows]
        found[image] = found_of(boxes, [d[2] for d in rows], [d[1] for d in rows])
    result = evaluate_voc(found, truth, ["a", "b", "c"], year=year)
    expected = []
    for label, row in enumerate(result.classes):
        own_truth = [(t[0], *t[2:]) for t in kit_truth if t[1] == label]
        # The devkit's file lists images in order, each image's detections as they were given.
        own_found = [(d[0], *d[2:]) for d in kit_found if d[1] == label]
        if not any(not t[5] for t in own_truth):
            assert np.isnan(row.ap)
            continue
        ap, recall, precision = devkit(own_found, own_truth, year)
        assert row.ap == pytest.approx(ap, abs=1e-12)
        np.testing.assert_allclose(row.recall, recall, atol=1e-12)
        np.testing.assert_allclose(row.precision, precision, atol=1e-12)
        expected.append(ap)
    if expected:
        assert result.mean_ap == pytest.approx(np.mean(expected), abs=1e-12)


def one(found: Detections, truth: GroundTruth, **settings: Any) -> Any:
    """The result of one image and one class."""
    return evaluate_voc({"i": found}, {"i": truth}, ["a"], **settings)


def test_match_at_exactly_half() -> None:
    truth = truth_of([[0, 0, 10, 10]], [0])
    assert one(found_of([[0, 0, 10, 5]], [0.9], [0]), truth).mean_ap == 1  # IoU 50 / 100
    assert one(found_of([[0, 0, 10, 4.99]], [0.9], [0]), truth).mean_ap == 0


def test_best_truth_is_taken_even_if_another_is_free() -> None:
    # The second detection's best truth is the first one, taken; the free one also reaches 0.5 but is not asked.
    truth = truth_of([[0, 0, 10, 10], [0, 2, 10, 12]], [0, 0])
    found = found_of([[0, 0, 10, 10], [0, 0.5, 10, 10.5]], [0.9, 0.8], [0, 0])
    row = one(found, truth).classes[0]
    assert (row.true_positives, row.false_positives) == (1, 1)


def test_first_of_equal_truths_is_taken() -> None:
    truth = truth_of([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 0], ignore=[False, True])
    row = one(found_of([[0, 0, 10, 10]], [0.9], [0]), truth).classes[0]
    assert row.true_positives == 1


def test_difficult_truth_neither_rewards_nor_punishes() -> None:
    truth = truth_of([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0], ignore=[True, False])
    found = found_of([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]], [0.9, 0.8, 0.7], [0, 0, 0])
    result = one(found, truth)
    assert result.mean_ap == 1
    assert result.counts.detections_ignored == {"matched a difficult or crowd object": 2}
    assert result.counts.truths_ignored == {"difficult": 1}
    assert result.counts.truths_counted == 1


def test_false_positives_on_images_without_objects_count() -> None:
    truth = {"full": truth_of([[0, 0, 10, 10]], [0]), "empty": truth_of([], [])}
    found = {"full": found_of([[0, 0, 10, 10]], [0.5], [0]), "empty": found_of([[0, 0, 10, 10]], [0.9], [0])}
    result = evaluate_voc(found, truth, ["a"], year=2010)
    assert result.mean_ap == pytest.approx(0.5)
    assert result.counts.images_without_truth == 1


def test_class_without_truth_is_not_in_the_mean() -> None:
    result = evaluate_voc(
        {"i": found_of([[0, 0, 10, 10], [0, 0, 5, 5]], [0.9, 0.8], [0, 1])},
        {"i": truth_of([[0, 0, 10, 10]], [0])},
        ["a", "b"],
    )
    assert result.mean_ap == 1
    assert [row.truths for row in result.classes] == [1, 0]
    assert np.isnan(result.classes[1].ap)
    assert result.classes[1].false_positives == 1


@pytest.mark.parametrize("settings", [{"year": 2008}, {"year": 2020}, {"iou_threshold": 0}, {"iou_threshold": 1.1}])
def test_settings_that_never_were(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"year|iou_threshold"):
        one(found_of([], [], []), truth_of([], []), **settings)


def test_truth_label_without_a_name() -> None:
    with pytest.raises(ValueError, match="label 3"):
        one(found_of([], [], []), truth_of([[0, 0, 1, 1]], [3]))
