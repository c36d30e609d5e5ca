"""MultiBox's head: where its priors lie, what it makes of maps, and how boxes become proposals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from proposals.boxes import encode, iou, is_valid
from proposals.multibox import (
    LevelGrid,
    MultiBoxConfig,
    MultiBoxHead,
    MultiBoxOutput,
    MultiBoxProposalConfig,
    grid_priors,
    ranked_boxes,
)
from proposals.types import Source

CONFIG = MultiBoxConfig(smallest=16, ratio=2, count=3, channels=8)
SIZES = (np.array([16.0, 32.0]), np.array([64.0]))
GRIDS = (LevelGrid(4, 6, (4.0, 4.0), (8.0, 8.0)), LevelGrid(2, 3, (8.0, 8.0), (16.0, 16.0)))


def head() -> MultiBoxHead:
    torch.manual_seed(0)
    return MultiBoxHead(5, SIZES, CONFIG).eval()


def maps(count: int = 1, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 5, grid.height, grid.width, generator=generator) for grid in GRIDS]


def placed(boxes: NDArray[np.float32], logits: list[float]) -> MultiBoxOutput:
    """An output that says of each of ``boxes`` ``(K, 4)``, its own prior, so much."""
    return MultiBoxOutput(torch.zeros(1, len(boxes), 4), torch.tensor([logits]), torch.from_numpy(boxes))


def test_priors_lie_around_the_cells_with_their_sizes_and_aspects() -> None:
    priors = grid_priors(SIZES, CONFIG.aspects, GRIDS)
    assert priors.shape == (4 * 6 * 6 + 2 * 3 * 3, 4)
    assert priors.dtype == np.float32
    sides = priors[:, 2:] - priors[:, :2]
    centres = (priors[:, :2] + priors[:, 2:]) / 2
    assert np.allclose(np.sqrt(sides.prod(axis=1))[:6], [16, 16, 16, 32, 32, 32])
    assert np.allclose((sides[:, 0] / sides[:, 1])[:6], [0.5, 1, 2] * 2)
    assert np.allclose(centres[:6], 4)
    assert np.allclose(centres[6], (12, 4))  # the next cell is to the right
    assert np.allclose(centres[36], (4, 12))  # and then down
    assert np.allclose(centres[-1], (8 + 2 * 16, 8 + 16))
    assert np.allclose(np.sqrt(sides.prod(axis=1))[144:], 64)


def test_outputs_stand_in_the_order_of_their_priors() -> None:
    """A cell that alone has something on its map changes what its own priors and its neighbours' say, no others'."""
    net, plain = head(), maps()
    net.norm = torch.nn.Identity()  # type: ignore[assignment]  # which would spread the change
    with torch.no_grad():
        deltas, logits = net(plain)
        changed = [x.clone() for x in plain]
        changed[0][0, :, 3, 5] += 10  # the last cell of level 0
        other_deltas, other_logits = net(changed)
    assert deltas.shape == (1, 162, 4)
    assert logits.shape == (1, 162)
    touched = (logits != other_logits)[0].numpy()
    cells = touched[:144].reshape(4, 6, 6).any(axis=2)
    expected = np.zeros((4, 6), bool)
    expected[2:, 4:] = True
    assert (cells <= expected).all()
    assert cells[3, 5]
    assert not touched[144:].any()
    moved = (deltas != other_deltas).any(dim=2)[0].numpy()
    assert (moved == touched).all()


def test_an_image_is_the_same_alone_and_in_a_batch() -> None:
    net, several = head(), maps(3)
    with torch.no_grad():
        deltas, logits = net(several)
        for number in range(3):
            one, its = net([x[number : number + 1] for x in several])
            assert torch.allclose(one[0], deltas[number], atol=1e-6)
            assert torch.allclose(its[0], logits[number], atol=1e-6)


def test_a_level_without_priors_says_nothing() -> None:
    net = MultiBoxHead(5, (SIZES[0], np.zeros(0)), CONFIG).eval()
    deltas, _ = net(maps())
    assert deltas.shape == (1, 144, 4)
    grids = [GRIDS[0], GRIDS[1]]
    assert net.priors(grids).shape == (144, 4)
    assert set(net.state_dict()) == {
        "shared.weight", "norm.weight", "norm.bias", "move.0.weight", "move.0.bias", "judge.0.weight", "judge.0.bias",
    }  # fmt: skip


def test_an_untrained_head_is_unsure_everywhere() -> None:
    with torch.no_grad():
        _, logits = head()(maps())
    assert float(logits.sigmoid().max()) < 0.1


def test_proposals_are_the_best_boxes_without_duplicates() -> None:
    boxes = np.array([[0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 60, 60], [70, 10, 90, 30]], np.float32)
    found = ranked_boxes(placed(boxes, [1.0, 2.0, 0.0, -1.0]), (1.0, 1.0), (100, 100), MultiBoxProposalConfig(keep=2))
    assert np.allclose(found.boxes, boxes[[1, 2]])
    assert np.allclose(found.scores, torch.tensor([2.0, 0.0]).sigmoid().numpy())
    assert (found.source == Source.MULTIBOX).all()
    assert found.image_size == (100, 100)
    few = ranked_boxes(
        placed(boxes, [1.0, 2.0, 0.0, -1.0]), (1.0, 1.0), (100, 100), MultiBoxProposalConfig(candidates=1)
    )
    assert len(few) == 1


def test_boxes_are_moved_scaled_and_cut_to_the_image() -> None:
    prior, wanted = np.array([[10, 10, 30, 30]], np.float32), np.array([[14.0, 4, 44, 24]])
    deltas = torch.from_numpy(encode(prior.astype(np.float64), wanted)).float()[None]
    output = MultiBoxOutput(deltas, torch.zeros(1, 1), torch.from_numpy(prior))
    found = ranked_boxes(output, (2.0, 3.0), (40, 120), MultiBoxProposalConfig())
    assert np.allclose(found.boxes, [[42, 8, 120, 40]], atol=1e-4)


def test_boxes_outside_the_image_are_no_proposals() -> None:
    boxes = np.array([[-30, -30, -10, -10], [5, 5, 15, 15]], np.float32)
    found = ranked_boxes(placed(boxes, [3.0, 0.0]), (1.0, 1.0), (20, 20), MultiBoxProposalConfig())
    assert np.allclose(found.boxes, boxes[1:])


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_head_says_the_proposals_are_valid_and_far_apart(seed: int) -> None:
    net = head()
    deltas, logits = net([20 * x for x in maps(seed=seed)])
    output = MultiBoxOutput(deltas.detach() * 30, logits.detach(), net.priors(GRIDS))
    found = ranked_boxes(output, (1.0, 1.0), (32, 48), MultiBoxProposalConfig(nms_threshold=0.5))
    assert is_valid(found.boxes).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [48, 32, 48, 32]).all()
    assert (np.diff(found.scores) <= 0).all()
    table = iou(found.boxes, found.boxes)
    np.fill_diagonal(table, 0)
    assert table.max(initial=0) <= 0.5


@pytest.mark.parametrize("wrong", [{"smallest": 0}, {"ratio": 1}, {"count": 0}, {"aspects": [0]}, {"channels": 12}])
def test_settings_that_make_no_priors_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MultiBoxConfig.model_validate(wrong)
