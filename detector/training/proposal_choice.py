"""Which proposals suit a data set? Recall of a few settings of selective search on a sample of its pictures.

The settings differ in the size of the superpixels and of the copy that is searched: small objects and objects that
touch need small superpixels, large photographs do not. The choice is the least number of regions that reaches nearly
the best recall, because every region costs time in training and in every detection.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from detector.model.config import ProposalConfig
from detector.model.proposals import search_source
from detector.training.pool import ImagePool
from proposals.errors import UserError
from proposals.recall import best_overlaps, mean_over_classes
from proposals.selective_search import SelectiveSearchConfig


class Candidate(BaseModel):
    """A setting of selective search: the longer side of the copy that is searched, and k = min_size of superpixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(ge=16)
    k: tuple[float, ...]


class ProposalChoiceConfig(BaseModel):
    """What is tried, and for how long.

    Attributes:
        candidates: the cheapest first; the first is always tried.
        counts: numbers of regions per image that are considered.
        pictures: so many are searched, drawn at random among those with objects. seconds: of processor time, after
            which no further candidate is begun.
        tolerance: the fewest regions win whose recall is at most so much below the best.
        iou_threshold: an object is found when a region overlaps it so much; box regression mends the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: tuple[Candidate, ...] = (
        Candidate(side=320, k=(50, 100)),
        Candidate(side=320, k=(25, 50)),
        Candidate(side=500, k=(25, 50)),
        Candidate(side=500, k=(50, 100)),
    )
    counts: tuple[int, ...] = (300, 400, 600, 800)
    pictures: int = Field(default=32, ge=1)
    seconds: float = Field(default=40.0, gt=0)
    tolerance: float = Field(default=0.01, ge=0, le=1)
    iou_threshold: float = Field(default=0.5, gt=0, lt=1)


class Choice(BaseModel):
    """What was chosen: the search, its copy's side, regions per image, and the share of objects they cover."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    search: SelectiveSearchConfig
    side: int
    count: int
    recall: float

    @property
    def proposals(self) -> ProposalConfig:
        """What was chosen, as a model has it."""
        return ProposalConfig(selective_search=self.search, search_side=self.side, max_proposals=self.count)


def choose_proposals(
    pool: ImagePool,
    config: ProposalChoiceConfig,
    seed: int,
    clock: Callable[[], float] = time.process_time,
) -> Choice:
    """The setting that suits ``pool``; recall is the mean of that of its classes, so that a rare one counts.

    Raises:
        UserError: no picture has an object.
    """
    with_objects = np.flatnonzero(np.diff(pool.first) > 0)
    if not len(with_objects):
        raise UserError("the training data hold no usable object")
    order = np.random.default_rng([seed, 5]).permutation(with_objects)[: config.pictures]
    pictures = [int(i) for i in np.sort(order)]
    truths = [pool.truth(i) for i in pictures]
    labels = np.concatenate([pool.labels[int(pool.first[i]) : int(pool.first[i + 1])] for i in pictures])
    shortest = float(min((t[:, 2:] - t[:, :2]).min() for t in truths))
    begun = clock()
    found: list[Choice] = []
    for candidate in config.candidates:
        if found and clock() - begun > config.seconds:
            break
        # On the copy the smallest object is smaller; boxes of half its side may still grow onto it.
        shrunk = min(candidate.side / float(pool.sizes[pictures].max()), 1.0)
        least = float(np.clip(shortest * shrunk / 2, 5.0, 20.0))
        search = SelectiveSearchConfig(k=candidate.k, min_box_side=round(least, 1))
        source = search_source(ProposalConfig(selective_search=search, search_side=candidate.side), seed)
        boxes = [source.propose(pool.images[i]).boxes for i in pictures]
        covered = best_overlaps(boxes, truths, config.counts) >= config.iou_threshold
        recalls = mean_over_classes(covered.astype(np.float64), labels)
        for count, value in zip(config.counts, recalls.tolist(), strict=True):
            found.append(Choice(search=search, side=candidate.side, count=count, recall=value))
    best = max(choice.recall for choice in found)
    enough = [choice for choice in found if choice.recall >= best - config.tolerance]
    return min(enough, key=lambda choice: (choice.count, -choice.recall))
