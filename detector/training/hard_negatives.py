"""Hard negative mining: one pass over all negatives in which only those that matter are kept (R-CNN's code).

An SVM is trained on the positives and the first negatives. Then block after block of regions is scored, negatives
within the margin join the cache, and when enough have come the SVM is trained anew and negatives that have become
easy leave. All classes are mined in the same pass, as in R-CNN, so that features are read once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.training.features import Features, blocks
from detector.training.svm import LinearSvm, Rows, fit_svm

FIRST = 2000  # negatives drawn at random that a class begins with
HARD = -1.0001  # negatives that score above it join
RETRAIN_AFTER = 2000  # so many new ones make a class train anew
EASY = -1.2  # those that score below it then leave


@dataclass(eq=False)
class _Class:
    """One class while it is mined; ``rows`` of the table are its negatives, ``fresh`` of them since it was trained."""

    positives: Rows
    negatives: Rows
    rows: NDArray[np.int64]
    svm: LinearSvm
    fresh: int = 0


def mine(
    features: Features,
    positives: list[NDArray[np.int64]],
    negative: Callable[[int, slice], NDArray[np.bool_]],
    scale: float,
    seed: int,
) -> list[LinearSvm | None]:
    """An SVM for each class, on features multiplied by ``scale``; ``None`` for a class without positives.

    Args:
        positives: rows of the table, for each class. negative: ``negative(class, rows)`` says which of a slice of rows
            are negatives of the class.
    """
    rng = np.random.default_rng([seed, 7])
    classes: list[_Class | None] = []
    for label, rows in enumerate(positives):
        candidates = np.flatnonzero(negative(label, slice(0, len(features))))
        if not len(rows) or not len(candidates):
            classes.append(None)
            continue
        first = np.sort(rng.choice(candidates, min(FIRST, len(candidates)), replace=False))
        own, others = (features[some].astype(np.float32) * np.float32(scale) for some in (rows, first))
        classes.append(_Class(own, others, first, fit_svm(own, others, seed)))
    for start, block in blocks(features):
        scaled = block * np.float32(scale)
        for label, kept in enumerate(classes):
            if kept is None:
                continue
            hard = negative(label, slice(start, start + len(block))) & (kept.svm.margins(scaled) > HARD)
            new = np.setdiff1d(start + np.flatnonzero(hard), kept.rows)
            if not len(new):
                continue
            kept.negatives = np.concatenate([kept.negatives, scaled[new - start]])
            kept.rows = np.concatenate([kept.rows, new])
            kept.fresh += len(new)
            if kept.fresh >= RETRAIN_AFTER:
                _train(kept, seed)
    for kept in classes:
        if kept is not None and kept.fresh:
            _train(kept, seed)
    return [None if kept is None else kept.svm for kept in classes]


def _train(kept: _Class, seed: int) -> None:
    kept.svm = fit_svm(kept.positives, kept.negatives, seed)
    stay = kept.svm.margins(kept.negatives) >= EASY
    kept.negatives, kept.rows, kept.fresh = kept.negatives[stay], kept.rows[stay], 0
