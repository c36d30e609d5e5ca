"""MultiBox's own boxes among the regions that train a classifier."""

from __future__ import annotations

import numpy as np
import torch

from detector.nets.region_net import SharedMaps
from detector.training.proposed_regions import ProposedRegions
from detector.training.region_batch import RegionBatch, Shown
from proposals.boxes import decode
from proposals.multibox import MultiBoxOutput

MAPS = SharedMaps(image_side=64, levels=2, region_side=24)
OBJECTS = torch.tensor([[0, 10, 10, 30, 30, 1, 1], [1, 40, 20, 60, 40, 0, 0]], dtype=torch.float32)
# Near the object, on background, on what is cut off in the second image, too small to be pooled.
PRIORS = torch.tensor([[11, 10, 31, 31], [2, 40, 22, 60], [41, 20, 61, 41], [50, 50, 52, 52]], dtype=torch.float32)


def made_up_batch(regions: int = 6) -> RegionBatch:
    rois = torch.tensor([[image, 0, 0, 8 + row, 8] for image in range(2) for row in range(regions)]).float()
    count = len(rois)
    return RegionBatch(
        torch.zeros(2, 3, 64, 64),
        torch.full((count,), 2),
        [Shown("x", np.zeros(4, np.float32))] * count,
        deltas=torch.ones(count, 4),
        overlaps=torch.linspace(0, 0.4, count),
        rois=rois,
        level=torch.zeros(count, dtype=torch.int64),
        objects=OBJECTS,
    )


def chosen(count: int, regions: int = 6) -> RegionBatch:
    choose = ProposedRegions(made_up_batch(regions), count, 2, MAPS)
    logits = torch.tensor([[2.0, 1.0, 3.0, 4.0]] * 2)
    rois, level = choose(MultiBoxOutput(torch.zeros(2, 4, 4), logits, PRIORS))
    batch = choose.batch
    assert batch.rois is not None
    assert batch.level is not None
    assert torch.equal(rois, batch.rois)
    assert torch.equal(level, batch.level)
    return batch


def test_a_box_within_an_ignored_object_is_no_background() -> None:
    inside = torch.tensor([[0, 0, 0, 64, 64, 0, 0]], dtype=torch.float32)
    choose = ProposedRegions(made_up_batch()._replace(objects=torch.cat([OBJECTS, inside])), 4, 2, MAPS)
    choose(MultiBoxOutput(torch.zeros(2, 4, 4), torch.tensor([[2.0, 1.0, 3.0, 4.0]] * 2), PRIORS))
    rois = choose.batch.rois
    assert rois is not None
    first = rois[rois[:, 0] == 0, 1:]
    assert torch.equal(first[-1], PRIORS[0])  # which lies on the true object
    assert not any(torch.equal(box, PRIORS[1]) for box in first)


def test_the_last_regions_of_an_image_make_room() -> None:
    before, batch = made_up_batch(), chosen(4)
    assert batch.rois is not None
    assert before.rois is not None
    assert len(batch.rois) == len(before.rois)
    first, second = (batch.rois[batch.rois[:, 0] == image, 1:] for image in range(2))
    # Most confident first; the last prior is too small.
    assert torch.equal(first, torch.cat([before.rois[:3, 1:], PRIORS[[2, 0, 1]]]))
    # The third lies on an object of which too little is left: it is no background.
    assert torch.equal(second, torch.cat([before.rois[6:10, 1:], PRIORS[[0, 1]]]))
    assert batch.level is not None
    assert len(batch.level) == len(batch.labels) == len(batch.rois)


def test_they_are_labelled_by_the_objects() -> None:
    batch = chosen(4)
    assert batch.deltas is not None
    assert batch.overlaps is not None
    assert batch.labels.tolist() == [2, 2, 2, 2, 1, 2] + [2] * 6
    moved = decode(PRIORS[:1].double().numpy(), batch.deltas[4:5].double().numpy())
    np.testing.assert_allclose(moved, OBJECTS[:1, 1:5].numpy(), atol=1e-4)
    assert not batch.deltas[[3, 5, 10, 11]].any()
    assert float(batch.overlaps[4]) > 0.8
    assert float(batch.overlaps[3]) == float(batch.overlaps[10]) == 0
    assert torch.equal(batch.overlaps[:3], made_up_batch().overlaps[:3])  # type: ignore[index]


def test_at_least_half_of_the_regions_stay() -> None:
    batch = chosen(4, regions=2)
    assert batch.rois is not None
    assert batch.rois[:, 0].tolist() == [0, 0, 1, 1]
    assert torch.equal(batch.rois[1, 1:], PRIORS[2])
