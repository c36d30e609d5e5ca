"""How often the regions of an image are looked at, and which of them: by a cascade, and again where they moved to.

An image's rounds are a generator: it asks for looks at regions and is told what the networks say. So the looks of
several images can be answered together.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.detection.ensemble import ImageView, Look, RegionClassifier, RegionPredictions
from detector.detection.stages import Stages
from detector.detection.suppression import RefinementConfig, next_regions, scored
from proposals.boxes import FloatArray

Scored = tuple[FloatArray, NDArray[np.float32]]
"""Boxes ``(N, 4)``, or ``(N, K, 4)`` where regions are moved, and scores ``(N, K + 1)``."""
Asking = Generator[Look, RegionPredictions, Scored]


def in_rounds(
    view: ImageView, regions: FloatArray, image_size: tuple[int, int], looks: RefinementConfig | None, power: float
) -> Asking:
    """Where the objects of the regions ``(N, 4)`` are, in all rounds that count.

    ``looks``: ``None`` for one round that leaves regions where they are. ``power``: of the overlap in the scores.
    """
    rounds = [(yield from _first_round(view, regions, looks, power))]
    if looks is not None:
        for _ in range(looks.rounds - 1):
            regions = next_regions(*rounds[-1], image_size, looks)
            rounds.append((yield from _moved(Look(view, regions, looks.mirror), power)))
        if not looks.every_round:
            rounds = rounds[-1:]
    boxes, probs = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
    return boxes, probs


def _first_round(view: ImageView, regions: FloatArray, looks: RefinementConfig | None, power: float) -> Asking:
    """In a cascade the first members look at all regions, all of them at the best."""
    if looks is None:
        found = yield Look(view, regions)
        return regions, scored(found.probs, found.overlap, power)
    boxes, probs = yield from _moved(Look(view, regions, members=looks.first_members), power)
    if looks.first_members is not None:
        best = probs[:, :-1].max(axis=1, initial=0)
        chosen = np.argsort(-best, kind="stable")[: looks.max_regions]
        chosen = chosen[best[chosen] >= looks.score_threshold]
        boxes[chosen], probs[chosen] = yield from _moved(Look(view, regions[chosen]), power)
    return boxes, probs


def _moved(look: Look, power: float) -> Asking:
    found = yield look
    if found.boxes is None:
        raise ValueError("refinement moves boxes, and this classifier has no box regression")
    return found.boxes, scored(found.probs, found.overlap, power)


def answered(asking: Sequence[Asking], classifier: RegionClassifier, stages: Stages) -> list[Scored]:
    """What each of ``asking`` returns; they ask equally often, and what they ask at a time is answered together."""
    returned: list[Scored] = []
    looks = [next(each) for each in asking]
    while looks:
        with stages.time("networks"):
            answers = classifier.predict_each(looks)
        looks = []
        with stages.time("suppression"):
            for each, said in zip(asking, answers, strict=True):
                try:
                    looks.append(each.send(said))
                except StopIteration as end:
                    returned.append(end.value)
    return returned
