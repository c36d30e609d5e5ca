"""The rounds in which an image's regions are classified: all, in a cascade the best, and again where they moved to.

An image's rounds are a generator, which requests regions to be classified and is sent the predictions. So the requests
of several images can be answered together.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.detection.ensemble import ImageView, RegionClassifier, RegionPredictions, RegionRequest
from detector.detection.stages import Stages
from detector.detection.suppression import RefinementConfig, next_regions, scored
from proposals.boxes import FloatArray

Scored = tuple[FloatArray, NDArray[np.float32]]
"""Boxes ``(N, 4)``, or ``(N, K, 4)`` where regions are moved, and scores ``(N, K + 1)``."""
Rounds = Generator[RegionRequest, RegionPredictions, Scored]


def in_rounds(
    view: ImageView, regions: FloatArray, image_size: tuple[int, int], refinement: RefinementConfig | None, power: float
) -> Rounds:
    """Where the objects of the regions ``(N, 4)`` are, in all rounds that count.

    ``refinement``: ``None`` for one round that leaves regions where they are. ``power``: of the overlap in the scores.
    """
    rounds = [(yield from _first_round(view, regions, refinement, power))]
    if refinement is not None:
        for _ in range(refinement.rounds - 1):
            regions = next_regions(*rounds[-1], image_size, refinement)
            rounds.append((yield from _moved(RegionRequest(view, regions, refinement.mirror), power)))
        if not refinement.every_round:
            rounds = rounds[-1:]
    boxes, probs = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
    return boxes, probs


def _first_round(view: ImageView, regions: FloatArray, refinement: RefinementConfig | None, power: float) -> Rounds:
    """In a cascade the first members look at all regions, all of them at the best."""
    if refinement is None:
        found = yield RegionRequest(view, regions)
        return regions, scored(found.probs, found.overlap, power)
    boxes, probs = yield from _moved(RegionRequest(view, regions, members=refinement.first_members), power)
    if refinement.first_members is not None:
        best = probs[:, :-1].max(axis=1, initial=0)
        chosen = np.argsort(-best, kind="stable")[: refinement.max_regions]
        chosen = chosen[best[chosen] >= refinement.score_threshold]
        boxes[chosen], probs[chosen] = yield from _moved(RegionRequest(view, regions[chosen]), power)
    return boxes, probs


def _moved(request: RegionRequest, power: float) -> Rounds:
    found = yield request
    if found.boxes is None:
        raise ValueError("refinement moves boxes, and this classifier has no box regression")
    return found.boxes, scored(found.probs, found.overlap, power)


def run_together(images: Sequence[Rounds], classifier: RegionClassifier, stages: Stages) -> list[Scored]:
    """The results of the rounds of ``images``, which have equally many; those of each round are classified together."""
    returned: list[Scored] = []
    requests = [next(each) for each in images]
    while requests:
        with stages.time("networks"):
            predictions = classifier.predict_each(requests)
        requests = []
        with stages.time("suppression"):
            for each, found in zip(images, predictions, strict=True):
                try:
                    requests.append(each.send(found))
                except StopIteration as end:
                    returned.append(end.value)
    return returned
