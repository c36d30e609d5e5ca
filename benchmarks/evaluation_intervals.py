"""How far do the intervals reach? Small sets drawn from a large one, whose mAP is known.

    python benchmarks/evaluation_intervals.py

Random pictures with one to four objects of K equally common classes, detections with noise; VOC 2010's mAP of 3000 of
them is taken for the truth, and sets of n of them are measured with 300 resamples. The last column is the share of
intervals that hold the mAP of the large set; an interval that knew everything would have 0.95.
"""

from __future__ import annotations

import numpy as np

from detector.evaluation.voc import evaluate_voc
from detector.types import Detections, GroundTruth

POPULATION, DRAWS = 3000, 60
Data = tuple[dict[str, Detections], dict[str, GroundTruth]]


def make_set(classes: int) -> Data:
    """``POPULATION`` pictures."""
    rng = np.random.default_rng(0)
    found, truth = {}, {}
    for i in range(POPULATION):
        n = int(rng.integers(1, 5))
        corner, side = rng.uniform(0, 150, (n, 2)), rng.uniform(30, 100, (n, 2))
        boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
        labels = rng.integers(0, classes, n)
        truth[str(i)] = GroundTruth.of(boxes, labels)
        near = np.tile(boxes, (2, 1)) + rng.normal(0, 12, (2 * n, 4)).astype(np.float32)
        guessed = np.where(rng.random(2 * n) < 0.2, rng.integers(0, classes, 2 * n), np.tile(labels, 2))
        found[str(i)] = Detections.sorted(near, rng.random(2 * n).astype(np.float32), guessed, (300, 300))
    return found, truth


def main() -> None:
    """Print the table."""
    print("| classes | images | objects a class | mAP of 3000 images | mean mAP of the sets | mean width | hold it |")
    print("|---|---|---|---|---|---|---|")
    for classes, n in ((2, 60), (2, 400), (20, 60), (20, 200), (20, 1000), (80, 200)):
        found, truth = make_set(classes)
        names = [str(i) for i in range(classes)]
        whole = evaluate_voc(found, truth, names, year=2010).mean_ap
        rng = np.random.default_rng(1)
        ids, hits, widths, values = list(truth), 0, [], []
        for _ in range(DRAWS):
            part = [ids[i] for i in rng.choice(POPULATION, n, replace=False)]
            result = evaluate_voc(
                {i: found[i] for i in part}, {i: truth[i] for i in part}, names, year=2010, bootstrap_samples=300
            )
            assert result.interval is not None
            hits += result.interval.low <= whole <= result.interval.high
            widths.append(result.interval.high - result.interval.low)
            values.append(result.mean_ap)
        row = (
            f"{100 * whole:.1f}",
            f"{100 * np.mean(values):.1f}",
            f"{100 * np.mean(widths):.1f}",
            f"{hits / DRAWS:.2f}",
        )
        print(f"| {classes} | {n} | {2.5 * n / classes:.0f} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
