"""Training a localizer: regions of every overlap, batches, the loss, learning, resumption to the bit, faults."""

from __future__ import annotations

import copy
import csv
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared_training import made_up_pool

from detector.crop import CropConfig
from detector.detection.localize import RegionLocalizer
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.localizer import DELTA_SCALE, Localizer, LocalizerOutput
from detector.training.augment import AugmentConfig
from detector.training.localizer import LocalizerProgress, LocalizerTrainer, localizer_loss, validate_localizer
from detector.training.localizer_batches import (
    JitterConfig,
    LocalizerBatches,
    LocalizerTrainingConfig,
    boxes_anywhere,
    draw_regions,
)
from detector.training.loop import Interrupted, Machine
from detector.training.pool import ImagePool
from detector.training.schedule import ScheduleConfig
from proposals.boxes import decode, iou
from proposals.errors import UserError

MACHINE = Machine(torch.device("cpu"), checkpoint_minutes=1e9)
POOL = made_up_pool(15)
PLAIN = AugmentConfig(mirror=0, brightness=0, contrast=0, saturation=0, hue_shift=0, random_interpolation=False)


def config(**changes: Any) -> LocalizerTrainingConfig:
    settings: dict[str, Any] = {
        "trunk": GoogLeNetConfig(norm="batch", width=0.1, stem="stride4"),
        "grid": 2,
        "crop": CropConfig(size=32, context_pad=6),
        "schedule": ScheduleConfig(rate=0.02, warmup=0.1),
        "steps": 6,
        "batch_size": 8,
        "average": 0.9,
        "statistics_batches": 2,
        "seed": 5,
    }
    return LocalizerTrainingConfig(**{**settings, **changes})


def make_trainer(
    folder: Path, log: list[LocalizerProgress] | None = None, scenes: ImagePool | None = None, **changes: Any
) -> LocalizerTrainer:
    folder.mkdir(exist_ok=True)
    report = (lambda entry: None) if log is None else log.append
    return LocalizerTrainer(config(**changes), POOL, POOL, scenes, folder, machine=MACHINE, report=report, log_every=2)


# --- regions and batches ----------


@given(st.integers(0, 10_000))
def test_regions_lie_inside_and_know_the_object_they_cover_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    objects = rng.integers(0, len(POOL.boxes), 12)
    regions = draw_regions(rng, POOL, objects, JitterConfig())
    for region, overlap, found, image in zip(*regions, POOL.owner[objects].tolist(), strict=True):
        height, width = POOL.sizes[image]
        assert (region[:2] >= 0).all()
        assert (region[2:] <= [width, height]).all()
        assert (region[2:] - region[:2] >= 0.04 * max(height, width)).all()
        overlaps = iou(region[None], POOL.truth(image))[0]
        assert overlap == pytest.approx(overlaps.max(), abs=1e-6)
        np.testing.assert_array_equal(found, POOL.truth(image)[overlaps.argmax()])


def test_overlaps_are_even_or_as_they_come() -> None:
    objects = np.arange(2000) % len(POOL.boxes)
    overlaps = draw_regions(np.random.default_rng(0), POOL, objects, JitterConfig(even=1)).overlaps
    counts = np.histogram(overlaps, 5, (0, 1))[0]
    assert counts.min() > 0.6 * 400
    assert counts.max() < 1.4 * 400
    as_they_come = draw_regions(np.random.default_rng(0), POOL, objects, JitterConfig(even=0)).overlaps
    assert (as_they_come < 0.2).mean() > 0.4


@given(st.integers(0, 10_000))
def test_boxes_anywhere_are_inside_and_of_all_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 400, (64, 2)).astype(np.float32)
    boxes = boxes_anywhere(rng, sizes, 0.05)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= sizes[:, ::-1] + 1e-3).all()
    share = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / np.prod(sizes, axis=1)
    assert (share <= 1 + 1e-5).all()
    assert 0.2 < (share < 0.05).mean() < 0.9  # half of the octaves from 1/400 to 1, and what the sides were cut to


def test_an_object_too_small_for_any_region_is_one_itself() -> None:
    box = np.array([[20, 20, 22, 22]], np.float32)
    one = np.zeros(1, np.int64)
    small = ImagePool([np.zeros((60, 60, 3), np.uint8)], np.array([[60, 60]], np.float32), box, one, one, np.arange(2))
    jitter = JitterConfig(minimum_side=0.2, anywhere=0, strength=0.1)
    regions = draw_regions(np.random.default_rng(0), small, one, jitter)
    assert regions.overlaps.tolist() == [1.0]
    np.testing.assert_array_equal(regions.boxes, box)


def test_a_batch_depends_on_its_step_alone() -> None:
    batches = LocalizerBatches(POOL, made_up_pool(3), config())
    fourth = batches.batch(4)
    for step in (9, 0, 4):
        again = batches.batch(step)
    for a, b in zip(fourth[:3], again[:3], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(list(batches.stream(iter([3, 4])))[1].crops, fourth.crops)
    assert fourth.crops.shape == (8, 3, 32, 32)
    assert not torch.equal(fourth.overlaps, batches.batch(5).overlaps)


def test_a_mirrored_crop_has_its_object_on_the_other_side() -> None:
    plain, mirrored = (
        LocalizerBatches(POOL, None, config(augment=PLAIN.model_copy(update={"mirror": m}))).batch(1) for m in (0, 1)
    )
    torch.testing.assert_close(plain.crops.flip(3), mirrored.crops)
    torch.testing.assert_close(plain.deltas * torch.tensor([-1.0, 1, 1, 1]), mirrored.deltas)
    assert torch.equal(plain.overlaps, mirrored.overlaps)
    assert (plain.deltas[:, 0] != 0).any()


def test_scenes_are_a_share_of_each_batch() -> None:
    scenes = made_up_pool(2)
    with_names = ImagePool(*[getattr(scenes, name) for name in scenes.__slots__[:-1]], ids=("a", "b"))
    shown = LocalizerBatches(POOL, with_names, config(jitter=JitterConfig(scenes=0.25))).batch(0).shown
    assert sum(name in ("a", "b") for name in shown) == 2
    alone = LocalizerBatches(POOL, with_names, config(jitter=JitterConfig(scenes=0.0)))
    assert not {"a", "b"} & set(alone.batch(0).shown)
    assert alone.steps_per_epoch == len(POOL.boxes) / 8


def some_proposals(pool: ImagePool, numbers: list[int], seed: int = 3) -> dict[int, np.ndarray]:
    """Twenty boxes anywhere in each of these pictures."""
    rng = np.random.default_rng(seed)
    return {n: boxes_anywhere(rng, np.repeat(pool.sizes[[n]], 20, axis=0), 0.2) for n in numbers}


def test_proposals_are_a_share_of_the_regions() -> None:
    scenes = made_up_pool(2)
    known, in_scenes = some_proposals(POOL, [2, 5]), some_proposals(scenes, [0, 1])
    jitter = JitterConfig(proposed=0.5, scenes=0.25, even=0.5)
    batches = LocalizerBatches(POOL, scenes, config(batch_size=16, jitter=jitter), known, in_scenes)
    assert [(p.share, p.proposals is None) for p in batches.parts] == [(6, True), (2, True), (6, False), (2, False)]
    rng = np.random.default_rng(0)
    for part, source in zip(batches.parts[2:], (known, in_scenes), strict=True):
        objects, regions = part.draw(rng, 3, jitter)
        for image, region in zip(part.pool.owner[objects].tolist(), regions.boxes, strict=True):
            assert image in source
            assert (region == source[image]).all(1).any()
    assert batches.batch(0).crops.shape[0] == 16
    assert batches.steps_per_epoch == len(POOL.boxes) / 6


def test_regions_among_proposals_are_even_or_as_they_come() -> None:
    known = some_proposals(POOL, list(range(len(POOL.images))))
    objects = np.arange(4000) % len(POOL.boxes)
    drawn, even = (
        draw_regions(np.random.default_rng(0), POOL, objects, JitterConfig(even=share), known).overlaps
        for share in (0, 1)
    )
    every = np.concatenate([iou(known[image], POOL.truth(image)).max(1) for image in POOL.owner.tolist()])
    assert abs(drawn.mean() - every.mean()) < 0.02
    assert even.mean() > drawn.mean() + 0.05


def test_without_searched_pictures_every_region_is_drawn() -> None:
    asked, plain = (
        LocalizerBatches(POOL, None, config(jitter=JitterConfig(proposed=share))).batch(3) for share in (0.5, 0.0)
    )
    assert torch.equal(asked.crops, plain.crops)


def test_every_object_comes_once_an_epoch() -> None:
    batches = LocalizerBatches(POOL, None, config(batch_size=len(POOL.boxes)))
    assert batches.steps_per_epoch == 1
    for step in range(2):
        owners = [POOL.name(int(image)) for image in POOL.owner]
        assert sorted(batches.batch(step).shown) == sorted(owners)


# --- the loss ----------


def test_the_loss_is_cross_entropy_of_the_iou_and_smooth_l1_of_near_regions() -> None:
    torch.manual_seed(0)
    overlaps, deltas = torch.tensor([0.9, 0.1, 0.5]), 0.1 * torch.randn(3, 4)
    output = LocalizerOutput(torch.randn(3), 0.1 * torch.randn(3, 4))
    loss = localizer_loss(output, overlaps, deltas, config(move_iou=0.4))
    p = output.logits.sigmoid()
    expected = -(overlaps * p.log() + (1 - overlaps) * (1 - p).log()).mean()
    torch.testing.assert_close(loss.overlap, expected)
    unit = torch.tensor(DELTA_SCALE)
    gap = ((output.deltas - deltas) / unit).abs()[[0, 2]]
    each = torch.where(gap < 1, gap**2 / 2, gap - 0.5)
    torch.testing.assert_close(loss.move, each.sum() / 3)


# --- runs ----------


def test_it_learns_how_much_of_a_square_is_covered_and_where_it_lies(tmp_path: Path) -> None:
    log: list[LocalizerProgress] = []
    schedule = ScheduleConfig(rate=0.05, warmup=0.1)
    trainer = make_trainer(
        tmp_path / "run", log, steps=90, batch_size=32, average=0.8, augment=PLAIN, schedule=schedule
    )
    net = trainer.run()
    found = validate_localizer(net, POOL, trainer.config)
    assert found == trainer.last_validation
    assert found.correlation > 0.6
    assert found.error < 0.22
    assert found.after > found.before
    assert log[-1].correlation_val == pytest.approx(found.correlation, abs=1e-4)
    assert log[-1].iou_moved_val == pytest.approx(found.after, abs=1e-4)
    assert log[-1].loss < log[0].loss


def test_it_is_measured_on_proposals_too(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run")
    net = trainer.new_net().eval()
    known = some_proposals(POOL, [1, 4, 6])
    measured = validate_localizer(net, POOL, trainer.config, searched=known)
    one = validate_localizer(net, POOL, trainer.config)
    assert measured[:4] == one[:4]
    assert np.isnan(one.proposed)
    looker = RegionLocalizer(copy.deepcopy(net), trainer.config.crop, trainer.config.normalization, MACHINE.device)
    predicted = np.concatenate([looker.predict(POOL.images[n], boxes).overlap for n, boxes in known.items()])
    true = np.concatenate([iou(boxes, POOL.truth(n)).max(1) for n, boxes in known.items()])
    assert measured.proposed == pytest.approx(np.corrcoef(predicted, true)[0, 1], abs=1e-3)


def test_the_output_moves_a_region_to_its_object(tmp_path: Path) -> None:
    batch = LocalizerBatches(POOL, None, config(augment=PLAIN)).batch(0)
    rng = np.random.default_rng([5, 2, 0])
    order = LocalizerBatches(POOL, None, config()).parts[0].order
    regions = draw_regions(rng, POOL, np.array([order[i] for i in range(8)]), JitterConfig())
    np.testing.assert_allclose(decode(regions.boxes, batch.deltas.numpy()), regions.objects, atol=1e-3)


def test_resumed_run_equals_uninterrupted_run_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = made_up_pool(3)
    expected = make_trainer(tmp_path / "whole", scenes=scenes).run().state_dict()
    first = make_trainer(tmp_path / "cut", scenes=scenes)
    write = first.log.write

    def write_and_stop(entry: Any) -> None:
        write(entry)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(first.log, "write", write_and_stop)
    with pytest.raises(Interrupted, match="stopped at step 2"):
        first.run()
    second = make_trainer(tmp_path / "cut", scenes=scenes)
    torch.manual_seed(999)  # resumption must not depend on the state it finds
    second.resume()
    assert second.step == 2
    resumed = second.run().state_dict()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in expected.items())
    columns = ("step", "rate", "loss", "overlap_loss", "move_loss", "correlation_val")
    rows = [
        [[row[c] for c in columns] for row in csv.DictReader((tmp_path / f / "log.csv").read_text().splitlines())]
        for f in ("whole", "cut")
    ]
    assert rows[0] == rows[1]


def test_parts_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run")
    batch = trainer.batches.batch(0)
    parts = trainer.split(batch, 3)
    for number in range(3):
        assert torch.equal(torch.cat([part[number] for part in parts]), batch[number])
    assert [name for part in parts for name in part.shown] == batch.shown
    assert trainer.describe(batch)[0] == f"{batch.shown[0]} IoU {batch.overlaps[0]:.2f}"


def test_validation_without_objects_or_spread(tmp_path: Path) -> None:
    net = Localizer(config().trunk, 2)
    torch.nn.init.zeros_(net.fc.weight)
    found = validate_localizer(net, POOL, config(), limit=2)
    assert np.isnan(found.correlation)  # all predictions are equal
    assert found.after == pytest.approx(found.before, abs=1e-5)
    assert net.training
    nothing = make_trainer(tmp_path / "run")
    nothing.val = None
    assert nothing.validate(net, True) is None


def test_pools_without_objects_are_refused(tmp_path: Path) -> None:
    none = ImagePool([], np.zeros((0, 2), np.float32), np.zeros((0, 4), np.float32), *[np.zeros(0, np.int64)] * 2,
                     first=np.zeros(1, np.int64))  # fmt: skip
    for pools in ((none, None), (POOL, none)):
        with pytest.raises(UserError, match="no usable object"):
            LocalizerTrainer(config(), pools[0], None, pools[1], tmp_path, machine=MACHINE, report=lambda entry: None)
