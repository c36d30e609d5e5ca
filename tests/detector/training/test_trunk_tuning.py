"""Tuning a trunk on regions, and the choice of proposals before it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.crop import CropConfig, crop_regions
from detector.model.proposals import search_source
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_net import RegionNet
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, to_tensor
from detector.recipes.build_head import tuning_trainer
from detector.training.augment import AugmentConfig
from detector.training.loop import Interrupted, Machine
from detector.training.pool import ImagePool
from detector.training.proposal_choice import Candidate, ProposalChoiceConfig, choose_proposals
from detector.training.region_table import RegionTable, RegionTableConfig, make_table
from detector.training.region_trainer import Progress, RegionTrainer
from detector.training.trunk_tuning import (
    TuningBatches,
    TuningConfig,
    mine_background,
    tuned_net,
)
from proposals.errors import UserError

NET = GoogLeNetConfig(norm="batch", width=0.1, stem="stride4")
CROP = CropConfig(size=32, context_pad=2)
PLAIN = AugmentConfig(mirror=0, brightness=0, contrast=0, saturation=0, hue_shift=0, random_interpolation=False)
COLOURS = ((220, 30, 30), (30, 30, 220))


def discs(images: int, objects: int, side: int, size: int = 160, seed: int = 0) -> ImagePool:
    """Discs of two colours, in turn, on grey noise."""
    rng = np.random.default_rng(seed)
    pictures, boxes, labels = [], [], []
    for image in range(images):
        picture = rng.integers(100, 150, (size, size, 3), dtype=np.uint8)
        for place in range(objects):
            row, column = divmod(place, 4)
            x, y = column * 40 + int(rng.integers(0, 39 - side)), row * 40 + int(rng.integers(0, 39 - side))
            label = (image + place) % 2
            cv2.circle(picture, (x + side // 2, y + side // 2), side // 2, COLOURS[label], -1)
            boxes.append([x, y, x + side, y + side])
            labels.append(label)
        pictures.append(picture)
    return ImagePool(
        images=pictures,
        sizes=np.full((images, 2), size, np.float32),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        owner=np.repeat(np.arange(images), objects),
        first=np.arange(images + 1) * objects,
    )


def grid_boxes(size: int = 160) -> NDArray[np.float32]:
    x, y = (a.ravel() for a in np.meshgrid(np.arange(0, size - 30, 10), np.arange(0, size - 30, 10)))
    return np.stack([x, y, x + 30, y + 30], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def pool() -> ImagePool:
    return discs(4, 6, 24)


@pytest.fixture(scope="module")
def table(pool: ImagePool) -> RegionTable:
    return make_table(pool, [grid_boxes()] * 4, 2, RegionTableConfig(), 0)


def batches(pool: ImagePool, table: RegionTable, **settings: object) -> TuningBatches:
    config = TuningConfig.model_validate({"batch_size": 20, "steps": 10, **settings})
    return TuningBatches(pool, table, 2, CROP, Normalization().fill, config)


def test_a_batch_is_composed_as_told(pool: ImagePool, table: RegionTable) -> None:
    batch = batches(pool, table, foreground=0.4).batch(3)
    assert batch.images.shape == (20, 3, 32, 32)
    assert int((batch.labels < 2).sum()) == 8
    assert torch.all(batch.deltas[8:] == 0)
    assert torch.all(batch.deltas[:8].abs().sum(1) > 0)


def test_batches_depend_on_seed_and_step_alone(pool: ImagePool, table: RegionTable) -> None:
    first, again = batches(pool, table).batch(5), batches(pool, table).batch(5)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.deltas, again.deltas)
    assert not torch.equal(first.images, batches(pool, table).batch(6).images)
    assert not torch.equal(first.images, batches(pool, table, seed=1).batch(5).images)


def test_a_mirrored_crop_has_its_object_on_the_other_side(pool: ImagePool, table: RegionTable) -> None:
    plain = batches(pool, table, augment=PLAIN).batch(0)
    mirrored = batches(pool, table, augment=PLAIN.model_copy(update={"mirror": 1.0})).batch(0)
    assert torch.equal(mirrored.images, plain.images.flip(3))
    assert torch.equal(mirrored.deltas, plain.deltas * torch.tensor([-1.0, 1, 1, 1]))


def test_smaller_crops_show_the_same(pool: ImagePool, table: RegionTable) -> None:
    made = batches(pool, table, augment=PLAIN)
    small = made.changed(made.config, scale=0.5)
    whole, half = made.batch(0), small.batch(0)
    assert half.images.shape == (20, 3, 16, 16)
    assert small.crop.context_pad == 1
    assert torch.equal(half.deltas, whole.deltas)
    shrunk = torch.nn.functional.avg_pool2d(whole.images, 2)
    assert (shrunk - half.images).abs().mean() < 12


def test_rare_classes_are_drawn_more_often(table: RegionTable) -> None:
    pool = discs(4, 6, 24)
    rare = np.zeros(len(pool.labels), np.int64)
    rare[:4] = 1  # 4 of 24
    few = ImagePool(pool.images, pool.sizes, pool.boxes, rare, pool.owner, pool.first)
    odds = {b: batches(few, table, balance=b).odds[:4].sum() for b in (0.0, 0.5, 1.0)}
    assert odds[0.0] == pytest.approx(4 / 24)
    assert odds[0.5] == pytest.approx(2 / (2 + np.sqrt(20)))
    assert odds[1.0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param(np.zeros((0, 4), np.float32), id="no proposals"),
        pytest.param(np.array([[130, 130, 160, 160]], np.float32), id="all far from objects"),
    ],
)
def test_background_of_one_kind_or_none_is_enough(pool: ImagePool, boxes: NDArray[np.float32]) -> None:
    made = make_table(pool, [boxes] * 4, 2, RegionTableConfig(shifts=0), 0)
    batch = batches(pool, made).batch(0)
    assert len(batch.labels) == (7 if not len(boxes) else 20)  # 0.35 of 20 show objects


def tuner(
    pool: ImagePool, table: RegionTable, folder: Path, log: list[Progress], **settings: object
) -> RegionTrainer[RegionNet]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    made = batches(pool, table, **settings)
    state = {f"trunk.{name}": tensor for name, tensor in Trunk(NET).state_dict().items()}
    machine = Machine(torch.device("cpu"))
    return tuning_trainer(made.config, NET, state, made, folder, machine, log.append, log_every=5)


def test_tuning_learns_both_things(pool: ImagePool, table: RegionTable, tmp_path: Path) -> None:
    log: list[Progress] = []
    settings = {"steps": 40, "batch_size": 32, "schedule": {"rate": 0.2, "warmup": 0.1}}
    tuner(pool, table, tmp_path / "run", log, **settings).run()
    assert log[-1].loss < 0.8 * log[0].loss
    assert log[-1].top1_train > 0.7
    assert log[-1].box_loss is not None
    assert log[0].box_loss is not None
    assert log[-1].box_loss < log[0].box_loss
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 9


def test_background_comes_in_the_shares_told(pool: ImagePool, table: RegionTable) -> None:
    mined = np.flatnonzero(table.overlap < 0.1)[:1]
    made = batches(pool, table, near=0.5, mined=0.3, batch_size=200, foreground=0.5)
    made = made.changed(made.config, mined=mined)
    rows = made._background(np.random.default_rng(0), 100)
    assert len(rows) == 100
    assert (rows == mined[0]).sum() == pytest.approx(30, abs=1)
    assert ((table.overlap[rows] >= 0.1) & (table.overlap[rows] < 0.5)).sum() == pytest.approx(50, abs=1)


def test_what_is_mined_is_background_that_looks_like_objects(pool: ImagePool, table: RegionTable) -> None:
    made = batches(pool, table, mine_regions=1000, mine_score=0.3)
    torch.manual_seed(0)
    net = tuned_net(NET, 2, made.config).eval()
    torch.nn.init.normal_(net.head.classify.weight, std=1.0)  # an opinion about everything
    mined = mine_background(net, Normalization(), made, 0)
    far = np.flatnonzero(table.overlap < 0.1)
    assert 0 < len(mined) < len(far)
    assert set(mined.tolist()) <= set(far.tolist())
    crops = [crop_regions(pool.images[np.searchsorted(table.first, row, side="right") - 1], table.boxes[row][None],
                          CROP, Normalization().fill) for row in far]  # fmt: skip
    with torch.inference_mode():
        logits = net(Normalization()(to_tensor(np.concatenate(crops)))).classes
    shows = 1 - torch.softmax(logits, 1)[:, 2].numpy()
    doubtful = set(far[np.abs(shows - 0.3) < 1e-3].tolist())
    assert set(far[shows >= 0.3].tolist()) - doubtful == set(mined.tolist()) - doubtful
    few = mine_background(net, Normalization(), batches(pool, table, mine_regions=3), 0)
    assert len(few) <= 3 * len(pool.images)


def test_an_interrupted_tuning_ends_as_if_it_had_not_been(pool: ImagePool, table: RegionTable, tmp_path: Path) -> None:
    whole = tuner(pool, table, tmp_path / "whole", []).run().state_dict()
    first = tuner(pool, table, tmp_path / "parts", [])
    first.report = lambda entry: setattr(first, "_stop", True)  # as a signal does, at the log's first line
    with pytest.raises(Interrupted):
        first.run()
    second = tuner(pool, table, tmp_path / "parts", [])
    second.resume()
    assert second.step == 5
    parts = second.run().state_dict()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


# --- proposals ----------


def candidates(*sides: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(side=side, k=(25.0, 50.0)) for side in sides)


def test_the_fewest_regions_that_cover_the_objects_are_chosen() -> None:
    pool = discs(3, 8, 24)
    config = ProposalChoiceConfig(candidates=candidates(160), counts=(2, 400, 800), tolerance=0.02)
    choice = choose_proposals(pool, config, 0)
    assert choice.count == 400
    assert choice.recall > 0.95
    assert len(choice.tried) == 3
    found = search_source(choice.proposals).propose(pool.images[0])
    assert found.image_size == (160, 160)
    assert len(found) > 0


def test_small_objects_need_a_larger_copy() -> None:
    """Discs of 10 pixels are lost on a copy of a quarter of the size, whose smallest box is 5 pixels wide."""
    pool = discs(3, 12, 10)
    config = ProposalChoiceConfig(candidates=candidates(40, 160), counts=(100,))
    assert choose_proposals(pool, config, 0).side == 160


def test_time_is_bounded() -> None:
    ticks = iter([0.0, 100.0, 200.0])
    pool = discs(2, 4, 24)
    config = ProposalChoiceConfig(candidates=candidates(160, 120, 80), counts=(50,), seconds=10)
    assert len(choose_proposals(pool, config, 0, clock=lambda: next(ticks)).tried) == 1


def test_no_object_is_no_choice() -> None:
    with pytest.raises(UserError, match="no usable object"):
        choose_proposals(discs(2, 0, 24), ProposalChoiceConfig(), 0)
