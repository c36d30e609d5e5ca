"""Hard negative mining: one pass over all negatives in which only those that matter are kept (R-CNN's code).

An SVM is trained on the positives and the first negatives. Then block after block of regions is scored, negatives
within the margin join the cache, and when enough have come the SVM is trained anew and negatives that have become
easy leave. All classes are mined in the same pass, as in R-CNN, so that features are read once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from detector.training.features import FeatureTable
from detector.training.region_table import RegionTable
from detector.training.svm import LinearSvm, Rows, SvmConfig, fit_svm


class MiningConfig(BaseModel):
    """R-CNN's settings.

    Attributes:
        hard: negatives that score above it join. retrain_after: so many new ones make a class train anew. easy: those
            that score below it then leave.
        first: negatives drawn at random that a class begins with.
        passes: over all regions; 1 in R-CNN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hard: float = -1.0001
    retrain_after: int = Field(default=2000, ge=1)
    easy: float = -1.2
    first: int = Field(default=2000, ge=1)
    passes: int = Field(default=1, ge=1)


@dataclass(eq=False)
class _Class:
    """One class while it is mined."""

    positives: Rows
    negatives: Rows
    rows: set[int]
    svm: LinearSvm
    fresh: int = 0
    order: list[int] = field(default_factory=list)


def mine(
    features: FeatureTable,
    table: RegionTable,
    positives: list[NDArray[np.int64]],
    negative: Callable[[int, slice], NDArray[np.bool_]],
    scale: float,
    svm: SvmConfig,
    config: MiningConfig,
    seed: int,
) -> list[LinearSvm | None]:
    """An SVM for each class, on features multiplied by ``scale``; ``None`` for a class without positives.

    Args:
        positives: rows of the table, for each class. negative: ``negative(class, rows)`` says which of a slice of rows
            are negatives of the class.
    """
    rng = np.random.default_rng([seed, 7])
    classes: list[_Class | None] = []
    everything = slice(0, len(table))
    for label, rows in enumerate(positives):
        candidates = np.flatnonzero(negative(label, everything))
        if not len(rows) or not len(candidates):
            classes.append(None)
            continue
        first = np.sort(rng.choice(candidates, min(config.first, len(candidates)), replace=False))
        own, others = features.pooled(rows) * np.float32(scale), features.pooled(first) * np.float32(scale)
        classes.append(_Class(own, others, set(first.tolist()), fit_svm(own, others, svm, seed), 0, first.tolist()))
    for _ in range(config.passes):
        for start, block in features.blocks():
            scaled = block * np.float32(scale)
            for label, kept in enumerate(classes):
                if kept is None:
                    continue
                hard = negative(label, slice(start, start + len(block))) & (kept.svm.margins(scaled) > config.hard)
                new = [i for i in np.flatnonzero(hard).tolist() if start + i not in kept.rows]
                if not new:
                    continue
                kept.negatives = np.concatenate([kept.negatives, scaled[new]])
                kept.order += [start + i for i in new]
                kept.rows.update(start + i for i in new)
                kept.fresh += len(new)
                if kept.fresh >= config.retrain_after:
                    _train(kept, svm, config, seed)
        for kept in classes:
            if kept is not None and kept.fresh:
                _train(kept, svm, config, seed)
    return [None if kept is None else kept.svm for kept in classes]


def _train(kept: _Class, svm: SvmConfig, config: MiningConfig, seed: int) -> None:
    kept.svm = fit_svm(kept.positives, kept.negatives, svm, seed)
    stay = np.flatnonzero(kept.svm.margins(kept.negatives) >= config.easy)
    kept.negatives = kept.negatives[stay]
    kept.order = [kept.order[i] for i in stay.tolist()]
    kept.rows, kept.fresh = set(kept.order), 0
