"""MultiBox's loss and matching against a plain reference and scipy's assignment of the whole table."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from proposals.multibox import MultiBoxOutput
from proposals.multibox_loss import MultiBoxLossConfig, Truths, match, multibox_loss

Matching = Literal["predictions", "priors"]


def random_boxes(generator: torch.Generator, *shape: int) -> torch.Tensor:
    corner = torch.rand(*shape, 2, generator=generator) * 0.7
    return torch.cat([corner, corner + 0.05 + 0.25 * torch.rand(*shape, 2, generator=generator)], -1)


def case(
    counts: list[int], priors: int, seed: int, *, ties: bool = False
) -> tuple[MultiBoxOutput, torch.Tensor, Truths]:
    """A batch with ``counts`` truths in its images."""
    generator = torch.Generator().manual_seed(seed)
    locations = random_boxes(generator, len(counts), priors)
    logits = torch.randn(len(counts), priors, generator=generator) * 3
    boxes = random_boxes(generator, sum(counts))
    if ties:  # few different values, so that many assignments cost nearly the same
        locations, boxes, logits = (locations * 4).round() / 4, (boxes * 4).round() / 4, logits.round()
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    return MultiBoxOutput(locations, logits), random_boxes(generator, priors), Truths(boxes, owner)


def reference_cost(
    output: MultiBoxOutput, priors: torch.Tensor, truths: Truths, image: int, config: MultiBoxLossConfig
) -> np.ndarray:
    """Costs (M, K) of one image by the formula, confidences and all, in float64 and loops."""
    boxes = truths.boxes[truths.owner == image].double().tolist()
    table = np.zeros((len(boxes), len(priors)))
    for j, truth in enumerate(boxes):
        for i in range(len(priors)):
            start = (output.locations[image, i] if config.matching == "predictions" else priors[i]).double().tolist()
            table[j, i] = config.alpha / 2 * sum((a - b) ** 2 for a, b in zip(start, truth, strict=True))
            if config.matching == "predictions":
                c = 1 / (1 + math.exp(-float(output.logits[image, i])))
                table[j, i] += -math.log(c) + math.log(1 - c)
    return table


@settings(max_examples=120, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    priors=st.integers(1, 14),
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([0.3, 30.0, 1000.0]),
    matching=st.sampled_from(["predictions", "priors"]),
    ties=st.booleans(),
)
def test_matching_costs_what_scipys_assignment_costs(
    counts: list[int], priors: int, seed: int, alpha: float, matching: Matching, ties: bool
) -> None:
    output, prior_boxes, truths = case(counts, priors, seed, ties=ties)
    config = MultiBoxLossConfig(alpha=alpha, matching=matching)
    found = match(output, prior_boxes, truths, config)
    owner = truths.owner[found.truth]
    assert (np.diff(found.truth.numpy()) > 0).all()  # no truth twice
    for image, count in enumerate(counts):
        table = reference_cost(output, prior_boxes, truths, image, config)
        rows, columns = linear_sum_assignment(table)
        mine = owner == image
        assert int(mine.sum()) == min(count, priors)
        taken = found.prior[mine].numpy()
        assert len(set(taken)) == len(taken)  # no prior twice
        first = int((truths.owner < image).sum())
        cost = table[found.truth[mine].numpy() - first, taken].sum()
        assert cost == pytest.approx(table[rows, columns].sum(), rel=1e-4, abs=1e-3)
        if not ties and len(rows) and len(np.unique(table)) == table.size:
            best = sorted(zip(rows.tolist(), columns.tolist(), strict=True))
            pairs = sorted(zip((found.truth[mine] - first).tolist(), taken.tolist(), strict=True))
            margin = _second_best(table) - table[rows, columns].sum()
            assert pairs == best or margin < 1e-2


def _second_best(table: np.ndarray) -> float:
    """The cheapest assignment that lacks a pair of the best one."""
    best = np.inf
    for row, column in zip(*linear_sum_assignment(table), strict=True):
        other = table.copy()
        other[row, column] = 1e9
        rows, columns = linear_sum_assignment(other)
        best = min(best, float(other[rows, columns].sum()))
    return best


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    priors=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([0.3, 1000.0]),
)
def test_the_loss_is_the_papers_formula(counts: list[int], priors: int, seed: int, alpha: float) -> None:
    output, prior_boxes, truths = case(counts, priors, seed)
    config = MultiBoxLossConfig(alpha=alpha)
    matches = match(output, prior_boxes, truths, config)
    x = {(int(t), int(p)) for t, p in zip(matches.truth, matches.prior, strict=True)}
    total = 0.0
    for image in range(len(counts)):
        for i in range(priors):
            c = 1 / (1 + math.exp(-float(output.logits[image, i])))
            matched = 0
            for j in range(len(truths.boxes)):
                if int(truths.owner[j]) == image and (j, i) in x:
                    matched += 1
                    off = (output.locations[image, i] - truths.boxes[j]).double()
                    total += alpha / 2 * float((off * off).sum()) - math.log(c)
            total -= (1 - matched) * math.log(1 - c)
    loss = multibox_loss(output, truths, matches, config)
    assert float(loss.total) == pytest.approx(total / len(counts), rel=1e-4)
    assert float(loss.total) == pytest.approx(float(loss.location + loss.confidence), rel=1e-6)


def test_the_matching_makes_the_loss_least() -> None:
    output, priors, truths = case([3], 5, seed=7)
    config = MultiBoxLossConfig(alpha=50)
    best = match(output, priors, truths, config)
    least = float(multibox_loss(output, truths, best, config).total)
    for prior in permutations(range(5), 3):
        other = best._replace(prior=torch.tensor(prior))
        assert float(multibox_loss(output, truths, other, config).total) >= least - 1e-4


def test_images_without_truth_count_their_confidences() -> None:
    output, priors, truths = case([0, 0], 4, seed=0)
    config = MultiBoxLossConfig()
    matches = match(output, priors, truths, config)
    assert len(matches.truth) == 0
    loss = multibox_loss(output, truths, matches, config)
    assert float(loss.location) == 0
    expected = torch.nn.functional.softplus(output.logits).sum() / 2
    torch.testing.assert_close(loss.total, expected)


def test_more_truths_than_priors_match_every_prior() -> None:
    output, priors, truths = case([9, 1], 4, seed=2)
    matches = match(output, priors, truths, MultiBoxLossConfig())
    owner = truths.owner[matches.truth]
    assert sorted(matches.prior[owner == 0].tolist()) == [0, 1, 2, 3]
    assert int((owner == 1).sum()) == 1
    assert torch.isfinite(multibox_loss(output, truths, matches, MultiBoxLossConfig()).total)


def test_matching_to_priors_does_not_look_at_the_predictions() -> None:
    output, priors, truths = case([3, 2], 9, seed=4)
    other = MultiBoxOutput(output.locations.flip(1), output.logits * -2)
    config = MultiBoxLossConfig(matching="priors")
    first, second = (match(o, priors, truths, config) for o in (output, other))
    assert torch.equal(first.prior, second.prior)
    changed = match(other, priors, truths, MultiBoxLossConfig())
    assert not torch.equal(changed.prior, first.prior)


def test_an_exact_prediction_has_no_location_loss_and_certain_ones_no_loss() -> None:
    truths = Truths(torch.tensor([[0.1, 0.2, 0.5, 0.9]]), torch.zeros(1, dtype=torch.int64))
    locations = torch.tensor([[[0.6, 0.6, 0.7, 0.7], [0.1, 0.2, 0.5, 0.9]]])
    output = MultiBoxOutput(locations, torch.tensor([[-40.0, 40.0]]))
    matches = match(output, locations[0], truths, MultiBoxLossConfig())
    assert matches.prior.tolist() == [1]
    assert float(multibox_loss(output, truths, matches, MultiBoxLossConfig()).total) == pytest.approx(0, abs=1e-6)


def test_gradients_are_those_of_the_formula() -> None:
    output, priors, truths = case([2, 0], 5, seed=9)
    config = MultiBoxLossConfig(alpha=10)
    matches = match(output, priors, truths, config)
    locations, logits = output.locations.requires_grad_(), output.logits.requires_grad_()
    multibox_loss(MultiBoxOutput(locations, logits), truths, matches, config).total.backward()
    assert locations.grad is not None
    assert logits.grad is not None
    x = torch.zeros(2, 5)
    expected = torch.zeros(2, 5, 4)
    for truth, prior in zip(matches.truth.tolist(), matches.prior.tolist(), strict=True):
        image = int(truths.owner[truth])
        x[image, prior] = 1
        expected[image, prior] = 10 * (locations[image, prior] - truths.boxes[truth]).detach() / 2
    torch.testing.assert_close(locations.grad, expected)
    torch.testing.assert_close(logits.grad, (torch.sigmoid(logits.detach()) - x) / 2)


def test_values_that_are_not_finite_are_seen_in_the_loss_and_do_not_crash() -> None:
    output, priors, truths = case([2], 5, seed=1)
    broken = MultiBoxOutput(output.locations, output.logits.fill_(math.nan))
    matches = match(broken, priors, truths, MultiBoxLossConfig())
    assert not torch.isfinite(multibox_loss(broken, truths, matches, MultiBoxLossConfig()).total)
