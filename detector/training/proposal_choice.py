"""Which proposals suit a data set? Recall of a few settings of selective search on a sample of its pictures.

The settings differ in the size of the superpixels and of the copy that is searched: small objects and objects that
touch need small superpixels, large photographs do not. The choice is the least number of regions that reaches nearly
the best recall, because every region costs time in training and in every detection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from detector.model.config import ProposalConfig
from detector.model.load import search_source
from detector.training.pool import ImagePool
from proposals.errors import UserError
from proposals.recall import best_overlaps, mean_over_classes
from proposals.selective_search import SelectiveSearchConfig


class Candidate(NamedTuple):
    """A setting of selective search: the longer side of the copy that is searched, and k = min_size of superpixels."""

    side: int
    k: tuple[float, ...]


class Choice(NamedTuple):
    """What was chosen, as a model has it, and the share of objects that it covers."""

    proposals: ProposalConfig
    recall: float


CANDIDATES = (  # the cheapest first
    Candidate(320, (50.0, 100.0)),
    Candidate(320, (25.0, 50.0)),
    Candidate(500, (25.0, 50.0)),
    Candidate(500, (50.0, 100.0)),
)
COUNTS = (300, 400, 600, 800)  # regions of an image that are considered
PICTURES = 32  # so many are searched
SECONDS = 40.0  # of processor time, after which no further candidate is begun
TOLERANCE = 0.01  # the fewest regions win whose recall is at most so much below the best
FOUND = 0.5  # IoU of a region that finds an object; box regression mends the rest


def choose_proposals(
    pool: ImagePool,
    seed: int,
    candidates: Sequence[Candidate] = CANDIDATES,
    counts: Sequence[int] = COUNTS,
    clock: Callable[[], float] = time.process_time,
) -> Choice:
    """The setting that suits ``pool``; recall is the mean of that of its classes, so that a rare one counts.

    The first of ``candidates`` is always tried.

    Raises:
        UserError: no picture has an object.
    """
    with_objects = np.flatnonzero(np.diff(pool.first) > 0)
    if not len(with_objects):
        raise UserError("the training data hold no usable object")
    order = np.random.default_rng([seed, 5]).permutation(with_objects)[:PICTURES]
    pictures = [int(i) for i in np.sort(order)]
    truths = [pool.truth(i) for i in pictures]
    labels = np.concatenate([pool.labels[pool.of_image(i)] for i in pictures])
    shortest = float(min((t[:, 2:] - t[:, :2]).min() for t in truths))
    begun = clock()
    found: list[Choice] = []
    for candidate in candidates:
        if found and clock() - begun > SECONDS:
            break
        # On the copy the smallest object is smaller; boxes of half its side may still grow onto it.
        shrunk = min(candidate.side / float(pool.sizes[pictures].max()), 1.0)
        least = float(np.clip(shortest * shrunk / 2, 5.0, 20.0))
        search = SelectiveSearchConfig(k=candidate.k, min_box_side=round(least, 1))
        config = ProposalConfig(selective_search=search, search_side=candidate.side)
        source = search_source(config, seed)
        boxes = [source.propose(pool.images[i]).boxes for i in pictures]
        covered = best_overlaps(boxes, truths, counts) >= FOUND
        recalls = mean_over_classes(covered.astype(np.float64), labels)
        for count, value in zip(counts, recalls.tolist(), strict=True):
            found.append(Choice(config.model_copy(update={"max_proposals": count}), value))
    best = max(choice.recall for choice in found)
    enough = [choice for choice in found if choice.recall >= best - TOLERANCE]
    return min(enough, key=lambda choice: (choice.proposals.max_proposals or 0, -choice.recall))
