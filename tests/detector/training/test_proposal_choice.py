"""Which proposals suit a data set."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from shared_training import pool_of

from detector.model.config import ProposalConfig
from detector.model.load import search_source
from detector.training import proposal_choice
from detector.training.pool import ImagePool
from detector.training.proposal_choice import Candidate, choose_proposals
from proposals.errors import UserError

COLOURS = ((220, 30, 30), (30, 30, 220))


def discs(images: int, objects: int, side: int, size: int = 160, seed: int = 0) -> ImagePool:
    """Discs of two colours, in turn, on grey noise."""
    rng = np.random.default_rng(seed)
    pictures, boxes, labels = [], [], []
    for image in range(images):
        picture = rng.integers(100, 150, (size, size, 3), dtype=np.uint8)
        boxes.append([])
        labels.append([(image + place) % 2 for place in range(objects)])
        for place, label in enumerate(labels[-1]):
            row, column = divmod(place, 4)
            x, y = column * 40 + int(rng.integers(0, 39 - side)), row * 40 + int(rng.integers(0, 39 - side))
            cv2.circle(picture, (x + side // 2, y + side // 2), side // 2, COLOURS[label], -1)
            boxes[-1].append([x, y, x + side, y + side])
        pictures.append(picture)
    return pool_of(pictures, boxes, labels)


def candidates(*sides: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(side=side, k=(25.0, 50.0)) for side in sides)


def test_the_fewest_regions_that_cover_the_objects_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = discs(3, 8, 24)
    monkeypatch.setattr(proposal_choice, "TOLERANCE", 0.02)
    choice = choose_proposals(pool, 0, candidates(160), (2, 400, 800))
    assert choice.proposals.max_proposals == 400
    assert choice.recall > 0.95
    found = search_source(choice.proposals).propose(pool.images[0])
    assert found.image_size == (160, 160)
    assert len(found) > 0


def test_small_objects_need_a_larger_copy() -> None:
    """Discs of 10 pixels are lost on a copy of a quarter of the size, whose smallest box is 5 pixels wide."""
    pool = discs(3, 12, 10)
    assert choose_proposals(pool, 0, candidates(40, 160), (100,)).proposals.search_side == 160


def test_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def source_of(config: ProposalConfig, seed: int) -> Any:
        searched.append(config.search_side)
        return search_source(config, seed)

    monkeypatch.setattr(proposal_choice, "search_source", source_of)
    ticks = iter([0.0, 100.0, 200.0])
    pool = discs(2, 4, 24)
    choice = choose_proposals(pool, 0, candidates(160, 120, 80), (50,), clock=lambda: next(ticks))
    assert choice.proposals.search_side == 160
    assert searched == [160]


def test_no_object_is_no_choice() -> None:
    with pytest.raises(UserError, match="no usable object"):
        choose_proposals(discs(2, 0, 24), 0)
