"""Families: what to call a thing when it is clear what kind of thing it is, but not which one of the kind.

Several classes may be kinds of one thing: tabby and Egyptian cat are both cats. A network that gives each of the two
0.35 is sure that there is a cat, and neither class reaches a threshold. So a family is looked for as one more class
whose probability is the sum of its classes', and named where none of them is (Deng et al., Hedging your bets:
optimizing accuracy-specificity trade-offs in large scale visual recognition, CVPR 2012, with the one step up that
this takes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from proposals.boxes import FloatArray, iou


def family_labels(families: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The labels of each family's classes, in the families' order.

    Raises:
        ValueError: a family has a class's name or fewer than two classes; a class is unknown or in two families.
    """
    place = {name: label for label, name in enumerate(class_names)}
    seen: dict[str, str] = {}
    for family, names in families.items():
        if family in place:
            raise ValueError(f"families: {family!r} is a class already")
        if len(names) < 2:
            raise ValueError(f"families: {family!r} needs two classes or more")
        for name in names:
            if name not in place:
                raise ValueError(f"families: {family!r} has {name!r}, which is no class")
            if name in seen:
                raise ValueError(f"families: {name!r} is in {seen[name]!r} already; a class may be in one only, once")
            seen[name] = family
    return tuple(tuple(place[name] for name in names) for names in families.values())


def with_families(
    boxes: FloatArray, scores: NDArray[np.float32], families: Sequence[Sequence[int]]
) -> tuple[FloatArray, NDArray[np.float32]]:
    """One more column for each of the F families.

    Args:
        boxes: ``(N, 1, 4)``, the same for all classes, or ``(N, K, 4)``. scores: ``(N, K)``, below 0 where a box is of
            no use. families: labels of each one's classes.

    Returns:
        Boxes ``(N, 1, 4)`` or ``(N, K + F, 4)``, a family's being that of its likeliest class, and scores
        ``(N, K + F)``, a family's being the sum of its classes', -1 where all of their boxes are of no use.
    """
    if not families:
        return boxes, scores
    rows = np.arange(len(scores))
    more_boxes, more_scores = [], []
    for labels in families:
        own = scores[:, list(labels)]
        total = np.minimum(np.maximum(own, 0).sum(axis=1), 1)
        more_scores.append(np.where(own.max(axis=1) < 0, -1, total))
        if boxes.shape[1] > 1:
            more_boxes.append(boxes[rows, np.asarray(labels)[own.argmax(axis=1)]])
    if more_boxes:
        boxes = np.concatenate([boxes, np.stack(more_boxes, axis=1)], axis=1)
    return boxes, np.concatenate([scores, np.stack(more_scores, axis=1)], axis=1).astype(np.float32)


def unexplained(
    boxes: FloatArray, labels: NDArray[np.int64], families: Sequence[Sequence[int]], num_classes: int, threshold: float
) -> NDArray[np.bool_]:
    """Which of N detections stay: all of classes, and those of families where no class of the family was found.

    Args:
        boxes: ``(N, 4)``. labels: ``(N,)``, from ``num_classes`` on of families. threshold: a family's box with a
            greater IoU with one of a class of its own names the same thing.
    """
    keep = np.ones(len(boxes), bool)
    for number, own in enumerate(families):
        of_family, of_classes = labels == num_classes + number, np.isin(labels, list(own))
        if of_family.any() and of_classes.any():
            keep[of_family] = iou(boxes[of_family], boxes[of_classes]).max(axis=1) <= threshold
    return keep
