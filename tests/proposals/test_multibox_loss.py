"""MultiBox's loss: which prior is to find what, and that less of it means better boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proposals.boxes import decode, encode, iou
from proposals.multibox import DEVIATION
from proposals.multibox_loss import match_priors, multibox_loss

NONE = np.zeros((0, 4), np.float32)
GRID = np.array([[x, y, x + 20, y + 20] for y in range(0, 100, 10) for x in range(0, 100, 10)], np.float32)


def test_a_prior_finds_the_object_that_it_overlaps_by_half() -> None:
    objects = np.array([[0, 0, 20, 20], [52, 50, 72, 70]], np.float32)
    matches = match_priors(GRID, objects, NONE)
    table = iou(GRID, objects)
    assert set(matches.rows.tolist()) == set(np.flatnonzero(table.max(axis=1) >= 0.5).tolist())
    assert (matches.objects == table[matches.rows].argmax(axis=1)).all()
    assert (matches.background == (table.max(axis=1) < 0.4)).all()


def test_the_nearest_prior_finds_an_object_that_none_overlaps_by_half() -> None:
    small = np.array([[3, 3, 13, 13]], np.float32)  # IoU 0.25 with the first prior
    matches = match_priors(GRID, small, NONE)
    assert matches.rows.tolist() == [0]
    assert not matches.background[0]


def test_an_object_that_no_prior_comes_near_is_left() -> None:
    tiny = np.array([[3, 3, 6, 6]], np.float32)
    matches = match_priors(GRID, tiny, NONE)
    assert not len(matches.rows)
    assert matches.background.all()


def test_two_objects_with_one_nearest_prior_do_not_both_get_it() -> None:
    objects = np.array([[3, 3, 13, 13], [4, 4, 14, 14]], np.float32)
    matches = match_priors(GRID, objects, NONE)
    assert len(set(matches.rows.tolist())) == len(matches.rows)


def test_what_is_cut_off_is_neither_found_nor_background() -> None:
    matches = match_priors(GRID, NONE, GRID[:1])
    assert not len(matches.rows)
    assert not matches.background[0]
    assert matches.background[-1]


def test_no_prior_within_an_ignored_object_is_background() -> None:
    half = np.array([[0, 0, 1000, GRID[0, 3]]], np.float32)
    matches = match_priors(GRID, NONE, half)
    assert matches.background.tolist() == (GRID[:, 3] - half[0, 3] > (GRID[:, 3] - GRID[:, 1]) / 2).tolist()
    assert matches.background.any()


def test_the_loss_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    objects = np.array([[2, 1, 22, 21]], np.float32)
    matches = match_priors(GRID, objects, NONE)
    deltas = torch.from_numpy(rng.normal(0, 0.1, (len(GRID), 4))).float()
    logits = torch.from_numpy(rng.normal(0, 1, len(GRID))).float()
    loss = multibox_loss(deltas, logits, GRID, objects, matches)
    box = confidence = 0.0
    for row in matches.rows.tolist():
        wanted = encode(GRID[row : row + 1].astype(float), objects.astype(float))[0]
        off = np.abs(deltas[row].numpy() - wanted) / np.array(DEVIATION)
        box += float(np.where(off < 1, 0.5 * off**2, off - 0.5).sum())
        reached = iou(decode(GRID[row : row + 1].astype(float), deltas[row : row + 1].numpy()), objects)[0, 0]
        confidence += float(F.binary_cross_entropy_with_logits(logits[row], torch.tensor(float(reached))))
    rest = np.sort(np.log1p(np.exp(logits.numpy()[matches.background])))[::-1]
    confidence += float(rest[:64].sum())
    assert float(loss.box) == pytest.approx(box / len(matches.rows), rel=1e-4)
    assert float(loss.confidence) == pytest.approx(confidence / 64, rel=1e-4)


def test_without_objects_only_confidence_costs() -> None:
    deltas, logits = torch.randn(len(GRID), 4, requires_grad=True), torch.zeros(len(GRID), requires_grad=True)
    loss = multibox_loss(deltas, logits, GRID, NONE, match_priors(GRID, NONE, NONE))
    assert float(loss.box.detach()) == 0
    assert float(loss.confidence.detach()) == pytest.approx(np.log(2), rel=1e-5)
    (loss.box + loss.confidence).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert int((logits.grad != 0).sum()) == 64


def test_descending_it_moves_boxes_onto_objects_and_ranks_them_first() -> None:
    objects = np.array([[2, 1, 24, 19], [61, 44, 79, 66]], np.float32)
    matches = match_priors(GRID, objects, NONE)
    deltas, logits = torch.zeros(len(GRID), 4, requires_grad=True), torch.zeros(len(GRID), requires_grad=True)
    optimizer = torch.optim.Adam([deltas, logits], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = multibox_loss(deltas, logits, GRID, objects, matches)
        (loss.box + loss.confidence).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = decode(GRID.astype(float), deltas.detach().numpy())
    assert iou(found[matches.rows], objects).max(axis=1).min() > 0.95
    best = logits.detach().numpy().argsort()[::-1][: len(matches.rows)]
    assert set(best.tolist()) == set(matches.rows.tolist())
