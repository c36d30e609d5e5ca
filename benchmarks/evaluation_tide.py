"""Our error analysis beside TIDE's own code on random data sets.

    pip install tidecv            # in an environment of its own; it is not a requirement of the toolkit
    python benchmarks/evaluation_tide.py --sets 1000

Compared are the counts and costs of the six kinds and of all false positives and negatives. The sets have no crowds and
an object of every class, because there the two differ on purpose (see detector/evaluation/error_analysis.py), and both
use TIDE's recall levels, i / 100: COCO's reference, and we with it, takes numpy's linspace, which differs from these in
the last digit at some levels. Sets for which TIDE divides by zero are left out and counted.
"""

from __future__ import annotations

import argparse

import numpy as np
from tidecv.data import Data
from tidecv.errors.main_errors import (
    BackgroundError,
    BoxError,
    ClassError,
    DuplicateError,
    FalseNegativeError,
    FalsePositiveError,
    MissedError,
    OtherError,
)
from tidecv.quantify import TIDE, TIDERun

from detector.evaluation import average_precision
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.error_analysis import analyse_errors
from detector.evaluation.tables import DetectionTable, TruthTable

KINDS = {
    ClassError: "classification",
    BoxError: "localisation",
    OtherError: "both",
    DuplicateError: "duplicate",
    BackgroundError: "background",
    MissedError: "missed",
}
Row = tuple[float, ...]


def random_set(seed: int) -> tuple[int, int, list[Row], list[Row]]:
    """Numbers of images and classes; truths (image, class, x, y, w, h); found (image, class, score, x, y, w, h)."""
    rng = np.random.default_rng(seed)
    images, classes = int(rng.integers(1, 12)), int(rng.integers(1, 4))

    def box() -> Row:
        return (*rng.uniform(0, 60, 2), *rng.uniform(5, 50, 2))

    truth: list[Row] = [(0, k, *box()) for k in range(classes)]
    truth += [(i, int(rng.integers(classes)), *box()) for i in range(images) for _ in range(rng.integers(0, 6))]
    found: list[Row] = []
    for i in range(images):
        own = [row for row in truth if row[0] == i]
        for _ in range(rng.integers(0, 20)):
            label, near = int(rng.integers(classes)), np.array(box())
            if own and rng.random() < 0.8:
                source = own[rng.integers(len(own))]
                near = np.array(source[2:]) + rng.normal(0, rng.choice([1, 5, 15]), 4)
                near[2:] = np.maximum(near[2:], 1)
                label = int(source[1]) if rng.random() < 0.7 else label
            found.append((i, label, float(rng.random()), *near.tolist()))
    return images, classes, truth, found


def by_tide(images: int, classes: int, truth: list[Row], found: list[Row]) -> dict[str, float]:
    """TIDE's numbers; costs in AP points."""
    objects, detections = Data("truth"), Data("found")
    for k in range(classes):
        objects.add_class(k, str(k))
    for i in range(images):
        objects.add_image(i, str(i))
    for image, label, *box in truth:
        objects.add_ground_truth(int(image), int(label), box)
    for image, label, score, *box in found:
        detections.add_detection(int(image), int(label), score, box)
    run = TIDERun(objects, detections, 0.5, 0.1, TIDE.BOX, 100)
    costs, counts, totals = run.fix_main_errors(), run.count_errors(), run.fix_special_errors()
    numbers = {"ap": run.ap, "false_positive": totals[FalsePositiveError], "false_negative": totals[FalseNegativeError]}
    for kind, name in KINDS.items():
        numbers |= {f"{name} cost": costs[kind], f"{name} count": counts[kind]}
    return numbers


def by_us(images: int, classes: int, truth: list[Row], found: list[Row]) -> dict[str, float]:
    """The same numbers of ours."""
    ids = tuple(str(i) for i in range(images))
    t, d = np.array(truth).reshape(-1, 6), np.array(found).reshape(-1, 7)
    none = np.zeros(len(t), np.bool_)
    objects = TruthTable(
        ids, np.zeros((images, 2), np.int64), t[:, 0].astype(np.int64), t[:, 1].astype(np.int64), corners(t[:, 2:]),
        t[:, 4:].copy(), none, none, t[:, 4:].prod(axis=1),
    )  # fmt: skip
    detections = DetectionTable(
        ids, d[:, 0].astype(np.int64), d[:, 1].astype(np.int64), d[:, 2].copy(), corners(d[:, 3:]), d[:, 5:].copy()
    )
    matches = evaluate_coco(detections, objects, [str(k) for k in range(classes)]).need_matches()
    analysis = analyse_errors(matches)
    numbers = {"ap": 100 * analysis.mean_ap}
    numbers |= {name: 100 * analysis.cost[name] for name in ("false_positive", "false_negative")}
    for name in KINDS.values():
        numbers |= {f"{name} cost": 100 * analysis.cost[name], f"{name} count": analysis.counts[name]}
    return numbers


def corners(boxes: np.ndarray) -> np.ndarray:
    """``x y w h`` as corners."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def main() -> None:
    """Print how many sets were compared and the largest difference."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=1000)
    average_precision.RECALL_LEVELS["101 point"] = np.array([i / 100 for i in range(101)])
    worst, compared, left_out = 0.0, 0, 0
    for seed in range(parser.parse_args().sets):
        data = random_set(seed)
        try:
            theirs = by_tide(*data)
        except ZeroDivisionError:
            left_out += 1
            continue
        ours = by_us(*data)
        worst = max(worst, *(abs(ours[name] - theirs[name]) for name in theirs))
        compared += 1
    print(f"{compared} sets compared, {left_out} left out; largest difference of a count or an AP point: {worst:.2g}")


if __name__ == "__main__":
    main()
