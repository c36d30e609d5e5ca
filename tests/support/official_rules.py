"""The rules of the VOC devkit and of ILSVRC's kit in plain loops, on boxes whose last pixel is inside; random cases.

An object is ``(label, box)``, a detection ``(label, score, box)``, each in a list by the number of its image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from boxes import found_of, truth_of

from detector.types import Detections, GroundTruth

Box = Sequence[int]
Objects = dict[int, list[tuple[int, Box]]]
Found = dict[int, list[tuple[int, float, Box]]]
Verdict = tuple[float, bool]
"""The score of a detection that is right or wrong, and which it is."""


def random_set(rng: np.random.Generator, n_images: int, n_classes: int) -> tuple[Objects, Found]:
    """Many small objects, detections near to them and anywhere, many equal scores; images count from 1."""
    truth: Objects = {image: [] for image in range(1, n_images + 1)}
    found: Found = {image: [] for image in truth}
    for image, objects in truth.items():
        for _ in range(rng.integers(0, 6)):
            corner, side = rng.integers(0, 40, 2), rng.integers(0, 30 if rng.random() < 0.7 else 90, 2)
            objects.append((int(rng.integers(n_classes)), [*corner.tolist(), *(corner + side).tolist()]))
        for _ in range(rng.integers(0, 15)):
            corner, label = rng.integers(0, 60, 2), int(rng.integers(n_classes))
            box = np.concatenate([corner, corner + rng.integers(0, 25, 2)])
            if objects and rng.random() < 0.75:
                label, near = objects[rng.integers(len(objects))]
                box = np.array(near) + rng.integers(-4, 5, 4)
            box[2:] = np.maximum(box[:2], box[2:])
            score = float(np.float32(rng.choice([0.25, 0.5, rng.random()])))
            found[image].append((label, score, box.tolist()))
    return truth, found


def half_open(boxes: Sequence[Box]) -> list[list[int]]:
    """The boxes as ours are."""
    return [[x1, y1, x2 + 1, y2 + 1] for x1, y1, x2, y2 in boxes]


def ours(truth: Objects, found: Found, ignored: Any = ()) -> tuple[dict[str, Detections], dict[str, GroundTruth]]:
    """The same as this toolkit takes it; ``ignored``: (image, number of the object) that do not count."""
    detections = {
        str(image): found_of(half_open([row[2] for row in rows]), [row[1] for row in rows], [row[0] for row in rows])
        for image, rows in found.items()
    }
    flags = {image: [(image, i) in ignored for i in range(len(rows))] for image, rows in truth.items()}
    objects = {
        str(image): truth_of(half_open([row[1] for row in rows]), [row[0] for row in rows], flags[image])
        for image, rows in truth.items()
    }
    return detections, objects


def overlap(a: Box, b: Box) -> float:
    """Intersection over union; less than any where they share no pixel."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return -np.inf
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def voc_verdicts(objects: list[Box], found: list[tuple[float, Box]], difficult: list[bool]) -> list[Verdict]:
    """VOCevaldet for one class and image: the best object is asked, taken or not."""
    taken, verdicts = [False] * len(objects), []
    for score, box in sorted(found, key=lambda row: -row[0]):
        best = max(range(len(objects)), key=lambda k: overlap(box, objects[k]), default=-1)
        hit = best >= 0 and overlap(box, objects[best]) >= 0.5
        if not (hit and difficult[best]):
            verdicts.append((score, hit and not taken[best]))
        if hit:
            taken[best] = True
    return verdicts


def ilsvrc_verdicts(objects: list[Box], found: list[tuple[float, Box]], _: list[bool]) -> list[Verdict]:
    """ILSVRC 2014 for one class and image: the best object that is free and whose own threshold is reached."""
    taken, verdicts = [False] * len(objects), []
    for score, box in sorted(found, key=lambda row: -row[0]):
        best, best_overlap = -1, -np.inf
        for k, own in enumerate(objects):
            width, height = own[2] - own[0] + 1, own[3] - own[1] + 1
            threshold = min(0.5, width * height / ((width + 10) * (height + 10)))
            if not taken[k] and overlap(box, own) >= threshold and overlap(box, own) > best_overlap:
                best, best_overlap = k, overlap(box, own)
        if best >= 0:
            taken[best] = True
        verdicts.append((score, best >= 0))
    return verdicts


def official_curve(
    label: int, truth: Objects, found: Found, judge: Callable[..., list[Verdict]], ignored: Any = ()
) -> tuple[list[float], list[float]] | None:
    """Recall and precision of a class; ``None`` without an object that counts."""
    verdicts, positives = [], 0
    for image, objects in truth.items():
        own = [(box, (image, i) in ignored) for i, (of, box) in enumerate(objects) if of == label]
        rows = [(score, box) for of, score, box in found[image] if of == label]
        verdicts += judge([box for box, _ in own], rows, [flag for _, flag in own])
        positives += sum(not flag for _, flag in own)
    true = np.cumsum([hit for _, hit in sorted(verdicts, key=lambda verdict: -verdict[0])])
    if not positives:
        return None
    return [n / positives for n in true], [n / i for i, n in enumerate(true, 1)]


def area(recall: list[float], precision: list[float]) -> float:
    """VOCap of 2010 and later, and ILSVRC's: the area under the highest precision at this recall or beyond."""
    steps = np.diff([0.0, *recall])
    return float(sum(step * max(precision[i:]) for i, step in enumerate(steps)))


def eleven_points(recall: list[float], precision: list[float]) -> float:
    """VOCevaldet of 2007; the levels as MATLAB's 0:0.1:1 has them."""
    levels = [i * 0.1 if i <= 5 else 1 - (10 - i) * 0.1 for i in range(11)]
    reached = [[p for r, p in zip(recall, precision, strict=True) if r >= level] for level in levels]
    return sum(max(each, default=0.0) / 11 for each in reached)
