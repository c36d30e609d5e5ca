"""The union of two sources: nothing new, nothing lost, nothing twice, and fair in every beginning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposals.boxes import iou
from proposals.merge import Budget, MergeConfig, merge
from proposals.recall import best_overlaps, recall
from proposals.types import Proposals, Source

SIZE = (60, 80)


def proposals(n: int, source: Source, seed: int, *, coarse: bool = False) -> Proposals:
    """Random boxes, on a coarse lattice where many should be equal."""
    rng = np.random.default_rng(seed)
    step = 20 if coarse else 1
    corner = rng.integers(0, 40 // step + 1, (n, 2)) * step
    side = rng.integers(1, 20 // step + 2, (n, 2)) * step
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    scores = -np.sort(-rng.random(n)).astype(np.float32)
    return Proposals(boxes, scores, np.full(n, source, np.uint8), SIZE)


def pair(n: int, m: int, seed: int, *, coarse: bool = False) -> tuple[Proposals, Proposals]:
    search = proposals(n, Source.SELECTIVE_SEARCH, seed, coarse=coarse)
    return search, proposals(m, Source.MULTIBOX, seed + 1, coarse=coarse)


CASES: dict[str, Any] = {
    "n": st.integers(0, 40),
    "m": st.integers(0, 40),
    "seed": st.integers(0, 10**6),
    "coarse": st.booleans(),
    "threshold": st.sampled_from([0.5, 0.7, 0.9, 1.0]),
    "lead": st.integers(0, 10),
    "share": st.sampled_from([0.1, 0.5, 0.8]),
}


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_union_without_duplicates(
    n: int, m: int, seed: int, coarse: bool, threshold: float, lead: int, share: float
) -> None:
    search, learned = pair(n, m, seed, coarse=coarse)
    merged = merge(search, learned, MergeConfig(iou_threshold=threshold, lead=lead, share=share))
    # Each is one of the inputs, whole: box, score and source.
    given_rows = {(*b, s, c) for p in (search, learned) for b, s, c in _rows(p)}
    rows = [(*b, s, c) for b, s, c in _rows(merged)]
    assert set(rows) <= given_rows
    # No two are duplicates ...
    assert len({row[:4] for row in rows}) == len(rows)
    overlap = iou(merged.boxes.astype(np.float64), merged.boxes.astype(np.float64))
    assert not (np.triu(overlap, 1) > threshold).any()
    # ... and what was dropped has its stand-in.
    for source in (search, learned):
        if len(source):
            left = iou(source.boxes.astype(np.float64), merged.boxes.astype(np.float64)).max(axis=1)
            assert (left >= min(threshold, 1 - 1e-12)).all()


def _rows(p: Proposals) -> list[tuple[tuple[float, ...], float, int]]:
    triples = zip(p.boxes.tolist(), p.scores.tolist(), p.source.tolist(), strict=True)
    return [(tuple(b), s, c) for b, s, c in triples]


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), lead=st.integers(0, 12), share=st.floats(0.05, 0.95), n=st.integers(1, 60))
def test_every_beginning_has_its_share_of_each_source(seed: int, lead: int, share: float, n: int) -> None:
    # Boxes that cannot be duplicates, so that counting is exact: 1-pixel columns.
    total = 60
    strip = np.arange(2 * total, dtype=np.float32)
    boxes = np.stack([strip, 0 * strip, strip + 1, 0 * strip + 10], axis=1)
    rank = -np.arange(total, dtype=np.float32)
    search = Proposals(boxes[:total], rank, np.full(total, Source.SELECTIVE_SEARCH, np.uint8), (10, 200))
    learned = Proposals(boxes[total:], rank, np.full(total, Source.MULTIBOX, np.uint8), (10, 200))
    merged = merge(search, learned, MergeConfig(budget=Budget(multibox=None), lead=lead, share=share))
    start = merged.select(slice(n))
    of_learned = int((start.source == Source.MULTIBOX).sum())
    if n <= lead:
        assert of_learned == n
    elif of_learned < total:
        assert abs(of_learned - lead - share * (n - lead)) <= 1
    for source in (search, learned):  # and they are its best, in its order
        mine = start.scores[start.source == source.source[0]]
        np.testing.assert_array_equal(mine, source.scores[: len(mine)])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.6, 0.9, 1.0]))
def test_recall_of_the_whole_union_is_at_least_that_of_each_source(seed: int, threshold: float) -> None:
    search, learned = pair(30, 30, seed)
    truth = proposals(8, Source.GIVEN, seed + 2).boxes
    merged = merge(search, learned, MergeConfig(iou_threshold=threshold))
    for source in (search, learned):
        alone = best_overlaps([source.boxes], [truth], [len(source)])
        both = best_overlaps([merged.boxes], [truth], [len(merged)])
        if threshold == 1:
            assert (both >= alone).all()
            assert recall(both, 0.5) >= recall(alone, 0.5)
        # A stand-in of IoU t reaches at least a + t - 1 in Jaccard distance's triangle inequality.
        assert (both >= alone + threshold - 1 - 1e-9).all()


def test_budgets() -> None:
    search, learned = pair(30, 30, 5)
    merged = merge(search, learned, MergeConfig(budget=Budget(selective_search=7, multibox=4), iou_threshold=1))
    counts = [int((merged.source == s).sum()) for s in (Source.SELECTIVE_SEARCH, Source.MULTIBOX)]
    assert counts == [7, 4]
    assert set(merged.source[:8]) == {1, 2}
    none = merge(search, learned, MergeConfig(budget=Budget(multibox=0), iou_threshold=1))
    np.testing.assert_array_equal(
        none.boxes, search.boxes[np.sort(np.unique(search.boxes, axis=0, return_index=True)[1])]
    )
    assert Budget().multibox == 200


def test_of_equal_boxes_the_one_whose_turn_comes_first_stays() -> None:
    box = np.array([[5, 5, 25, 25]], np.float32)
    search = Proposals(box, np.zeros(1, np.float32), np.array([Source.SELECTIVE_SEARCH], np.uint8), SIZE)
    learned = Proposals(box, np.ones(1, np.float32), np.array([Source.MULTIBOX], np.uint8), SIZE)
    assert merge(search, learned).source.tolist() == [Source.MULTIBOX]
    assert merge(search, learned, MergeConfig(share=0.2)).source.tolist() == [Source.SELECTIVE_SEARCH]
    assert merge(search, learned, MergeConfig(share=0.2, lead=1)).source.tolist() == [Source.MULTIBOX]


def test_near_duplicates_only_above_the_threshold() -> None:
    search, learned = pair(1, 1, 0)
    search = Proposals(np.array([[0, 0, 10, 10]], np.float32), search.scores, search.source, SIZE)
    learned = Proposals(np.array([[0, 0, 10, 9]], np.float32), learned.scores, learned.source, SIZE)  # IoU 0.9
    assert len(merge(search, learned, MergeConfig(iou_threshold=0.9))) == 2
    assert len(merge(search, learned, MergeConfig(iou_threshold=0.89))) == 1


def test_images_must_be_the_same_and_settings_make_sense() -> None:
    search = proposals(2, Source.SELECTIVE_SEARCH, 0)
    with pytest.raises(ValueError, match="different images"):
        merge(search, Proposals.empty((60, 81)))
    with pytest.raises(ValueError, match="iou_threshold"):
        MergeConfig(iou_threshold=0)
