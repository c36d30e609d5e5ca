"""Training: batches, schedule, averaging, resumption to the bit, interruption, faults."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detector.crop import CropConfig
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Logits
from detector.nets.region_net import RegionNet
from detector.nets.weights import Normalization
from detector.recipes.build import crop_trainer
from detector.training.augment import AugmentConfig, apply_distortion, draw_distortion
from detector.training.average import WeightAverage
from detector.training.batches import RegionBatches
from detector.training.checkpoint import load_checkpoint, save_checkpoint
from detector.training.loop import Interrupted
from detector.training.machine import Machine
from detector.training.pool import ImagePool, _free_in_groups, free_memory
from detector.training.region_loss import class_loss
from detector.training.region_settings import RegionTrainingConfig
from detector.training.region_trainer import Progress, RegionTrainer, measure_statistics, truth_accuracy
from detector.training.sampling import SamplingConfig
from detector.training.schedule import ScheduleConfig
from detector.types import GroundTruth, ImageRecord
from proposals.boxes import decode, iou
from proposals.errors import UserError

MACHINE = Machine(torch.device("cpu"), checkpoint_minutes=1e9)
NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4", dropout=0.3)


def make_records(folder: Path, n: int = 12) -> list[ImageRecord]:
    """Grey noise with a red or a blue square on it: two classes that a tiny net tells apart."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(n):
        image = rng.integers(90, 160, (40, 48, 3), dtype=np.uint8)
        x, y, side, label = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(14, 24)), i % 2
        image[y : y + side, x : x + side] = (220, 20, 20) if label == 0 else (20, 20, 220)
        path = folder / f"{i}.png"
        Image.fromarray(image).save(path)
        truth = GroundTruth.of(np.array([[x, y, x + side, y + side]], np.float32), np.array([label]))
        records.append(ImageRecord(str(i), path, (40, 48), truth))
    return records


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ImagePool:
    return ImagePool.load(make_records(tmp_path_factory.mktemp("pictures")))


def config(**changes: Any) -> RegionTrainingConfig:
    settings: dict[str, Any] = {
        "net": NET,
        "crop": CropConfig(size=32, context_pad=2),
        "schedule": ScheduleConfig(rate=0.05, warmup=0.1),
        "steps": 8,
        "batch_size": 8,
        "average": 0.9,
        "seed": 5,
    }
    return RegionTrainingConfig(**{**settings, **changes})


def make_trainer(
    pool: ImagePool, folder: Path, log: list[Progress] | None = None, **changes: Any
) -> RegionTrainer[Any]:
    folder.mkdir(exist_ok=True)
    take = (lambda entry: None) if log is None else log.append
    return crop_trainer(config(**changes), pool, pool, 2, folder, machine=MACHINE, report=take, log_every=2)


def assert_same_state(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


class Stopping(RegionTrainer[Any]):
    """Sends itself SIGTERM after a given step, as a scheduler would."""

    stop_after = 3

    def _log(self, *args: Any) -> None:
        super()._log(*args)
        if self.step >= self.stop_after:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, []),
        ({"memory.max": "max", "memory.current": "5"}, []),
        ({"memory.max": "1000", "memory.current": "300"}, [700]),
        ({"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "1100"}, [0]),
    ],
)
def test_a_container_s_limit_counts(files: dict[str, str], free: list[int], tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert list(_free_in_groups(tmp_path)) == free
    assert free_memory() > 0


def test_resumed_run_equals_uninterrupted_run_to_the_bit(pool: ImagePool, tmp_path: Path) -> None:
    whole = make_trainer(pool, tmp_path / "whole")
    expected = whole.run().state_dict()

    first = crop_trainer(
        config(), pool, pool, 2, tmp_path, machine=MACHINE, report=lambda entry: None, log_every=2, kind=Stopping
    )
    with pytest.raises(Interrupted, match="stopped at step"):
        first.run()
    assert 3 <= first.step < 8
    second = make_trainer(pool, tmp_path)
    torch.manual_seed(999)  # resumption must not depend on the state it finds
    second.resume()
    assert second.step == first.step
    assert_same_state(second.run().state_dict(), expected)
    rows = [list(csv.DictReader((f / "log.csv").read_text().splitlines())) for f in (tmp_path, tmp_path / "whole")]
    deterministic = ("step", "epoch", "rate", "loss", "top1_train")
    whole_rows = {r["step"]: [r[k] for k in deterministic] for r in rows[1]}
    for row in rows[0]:
        if int(row["step"]) > first.step + 2:
            assert [row[k] for k in deterministic] == whole_rows[row["step"]]
    assert [r["step"] for r in rows[0]][-1] == "8"


@pytest.mark.slow
def test_a_run_that_died_before_its_first_checkpoint_logs_each_step_once(pool: ImagePool, tmp_path: Path) -> None:
    make_trainer(pool, tmp_path, steps=4).run()
    (tmp_path / "checkpoint.pt").unlink()
    make_trainer(pool, tmp_path).run()
    steps = [row["step"] for row in csv.DictReader((tmp_path / "log.csv").read_text().splitlines())]
    assert steps == ["2", "4", "6", "8"]


def test_the_same_seed_gives_the_same_net_and_another_another(pool: ImagePool, tmp_path: Path) -> None:
    nets = [make_trainer(pool, tmp_path / str(i), steps=2, seed=s).run().state_dict() for i, s in enumerate([1, 1, 2])]
    assert_same_state(nets[0], nets[1])
    assert not torch.equal(nets[0]["fc.weight"], nets[2]["fc.weight"])


def test_gradients_are_cut_to_the_clip(pool: ImagePool, tmp_path: Path) -> None:
    trainer = make_trainer(pool, tmp_path, clip=0.01)
    for p in trainer.net.parameters():
        p.grad = torch.ones_like(p)
    trainer.adjust_gradients()
    total = torch.cat([p.grad.flatten() for p in trainer.net.parameters() if p.grad is not None]).norm()
    assert float(total) == pytest.approx(0.01, rel=0.01)


@pytest.mark.slow
def test_boxes_and_overlaps_are_learned_from_crops_too(pool: ImagePool, tmp_path: Path) -> None:
    log: list[Progress] = []
    trainer = make_trainer(
        pool, tmp_path / "run", log, steps=120, batch_size=16, grid=2, schedule=ScheduleConfig(rate=0.1)
    )
    assert isinstance(trainer.run(), RegionNet)
    box = [entry.box_loss for entry in log if entry.box_loss is not None]
    overlap = [entry.overlap_loss for entry in log if entry.overlap_loss is not None]
    for losses in (box, overlap):
        assert np.mean(losses[-10:]) < np.mean(losses[:10])


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_deltas_of_crops_lead_to_the_object(pool: ImagePool, mirror: float) -> None:
    settings = config(batch_size=32, augment=AugmentConfig(mirror=mirror))
    batch = RegionBatches(pool, settings).batch(3)
    assert batch.deltas is not None
    assert batch.overlaps is not None
    shows = np.flatnonzero(batch.labels.numpy() < 2)
    regions = np.stack([batch.shown[row].box for row in shows]).astype(np.float64)
    deltas = batch.deltas.numpy()[shows].astype(np.float64)
    deltas[:, 0] *= -1 if mirror else 1
    owners = [int(batch.shown[row].image) for row in shows]
    truth = pool.boxes[[int(pool.first[owner]) for owner in owners]]
    np.testing.assert_allclose(decode(regions, deltas), truth, atol=1e-3)
    np.testing.assert_allclose(
        batch.overlaps.numpy()[shows], np.diag(iou(regions, truth.astype(np.float64))), atol=1e-5
    )
    empty = np.flatnonzero(batch.labels.numpy() == 2)
    assert not batch.deltas[empty].any()
    assert (batch.overlaps[empty] < 0.5).all()


@pytest.mark.slow
def test_it_learns(pool: ImagePool, tmp_path: Path) -> None:
    log: list[Progress] = []
    trainer = make_trainer(pool, tmp_path / "run", log, steps=60, batch_size=16, schedule=ScheduleConfig(rate=0.2))
    net = trainer.run()
    assert truth_accuracy(net, pool, trainer.config) >= 0.9
    assert log[-1].top1_val == pytest.approx(truth_accuracy(net, pool, trainer.config), abs=1e-4)
    assert log[-1].loss < log[0].loss


def test_another_configuration_is_not_resumed(pool: ImagePool, tmp_path: Path) -> None:
    make_trainer(pool, tmp_path, steps=2).run()
    with pytest.raises(UserError, match="another configuration"):
        make_trainer(pool, tmp_path, steps=3).resume()


def test_exploding_loss_stops_with_the_step(pool: ImagePool, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step"):
        make_trainer(pool, tmp_path, steps=50, schedule=ScheduleConfig(rate=1e12, warmup=0)).run()


def test_net_must_fit_the_classes(pool: ImagePool, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 outputs for 7 classes"):
        crop_trainer(config(), pool, None, 7, tmp_path, machine=MACHINE, report=lambda entry: None)


def test_no_objects(tmp_path: Path) -> None:
    empty = ImagePool.load([])
    with pytest.raises(UserError, match="no usable object"):
        crop_trainer(config(), empty, None, 2, tmp_path, machine=MACHINE, report=lambda entry: None)


def test_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_while_weights_are_written_is_named(tmp_path: Path) -> None:
    """PyTorch's own error would speak of positions in the file."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"could not be written \(File too large\)"):
            save_checkpoint(path, {"step": 2, "net": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_pool_skips_what_cannot_be_used(tmp_path: Path) -> None:
    good, bad = make_records(tmp_path, 2)
    bad.path.write_bytes(b"no picture")
    truth = GroundTruth(
        np.array([[0, 0, 10, 10], [5, 5, 5, 9], [90, 90, 99, 99], [1, 1, 9, 9], [2, 2, 8, 8]], np.float32),
        np.arange(5, dtype=np.int64),
        np.array([False, False, False, True, False]),
        np.array([False, False, False, False, True]),
        np.ones(5),
    )
    pool = ImagePool.load([bad, ImageRecord("x", good.path, (40, 48), truth)])
    assert len(pool.images) == 1
    np.testing.assert_array_equal(pool.labels, [0])
    assert len(pool.skipped) == 2
    assert str(bad.path) in pool.skipped[0]
    assert "2 boxes without area" in pool.skipped[1]


@pytest.fixture
def batches(pool: ImagePool) -> RegionBatches:
    return RegionBatches(pool, config(batch_size=16, seed=3))


def test_a_batch_depends_on_its_step_alone(pool: ImagePool, batches: RegionBatches) -> None:
    fourth = batches.batch(4)
    for step in (9, 0, 4):
        again = batches.batch(step)
    assert torch.equal(fourth.images, again.images)
    assert torch.equal(fourth.labels, again.labels)
    parts = [batches.batch(4, part) for part in (slice(0, 7), slice(7, 16))]
    assert torch.equal(torch.cat([part.images for part in parts]), fourth.images)


def test_a_batch_has_its_share_of_background(batches: RegionBatches) -> None:
    labels = batches.batch(0).labels
    assert (labels == 2).sum() == 4
    assert set(labels[:12].tolist()) == {0, 1}


def test_every_object_comes_once_an_epoch(batches: RegionBatches) -> None:
    positions = [batches.order[i] for i in range(24)]
    assert sorted(positions[:12]) == sorted(positions[12:]) == list(range(12))
    assert positions[:12] != positions[12:]


def test_crops_show_their_label(pool: ImagePool) -> None:
    plain = AugmentConfig(mirror=0, brightness=0, contrast=0, saturation=0, hue_shift=0, random_interpolation=False)
    sampling = SamplingConfig(iou_foreground=0.7, iou_background=0.1)
    crop = CropConfig(size=32, context_pad=0)
    source = RegionBatches(pool, config(crop=crop, sampling=sampling, augment=plain, batch_size=16, seed=0))
    for step in range(5):
        batch = source.batch(step)
        red, _, blue = batch.images[:, :, 8:24, 8:24].mean((2, 3)).T
        assert (red[batch.labels == 0] > blue[batch.labels == 0] + 60).all()
        assert (blue[batch.labels == 1] > red[batch.labels == 1] + 60).all()
        assert ((red - blue)[batch.labels == 2].abs() < 60).all()


def test_distortion_keeps_the_range_and_can_be_off() -> None:
    crops = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    off = AugmentConfig(brightness=0, contrast=0, saturation=0, hue_shift=0)
    torch.testing.assert_close(
        apply_distortion(crops, draw_distortion(len(crops), off, torch.Generator())), crops.float(), atol=1e-3, rtol=0
    )
    much = AugmentConfig(brightness=0.9, hue_shift=50)
    strong = apply_distortion(crops, draw_distortion(len(crops), much, torch.Generator().manual_seed(0)))
    assert strong.min() >= 0
    assert strong.max() <= 255
    assert not torch.allclose(strong, crops.float(), atol=1)


def test_schedules() -> None:
    cosine = ScheduleConfig(kind="cosine", rate=1.0, warmup=0.1)
    rates = [cosine.at(step, 100, 1.0) for step in range(100)]
    assert rates[4] == pytest.approx(0.5)
    assert max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert ScheduleConfig(kind="linear", rate=1.0, warmup=0).at(49, 100, 1.0) == pytest.approx(0.5)
    stepped = ScheduleConfig(kind="googlenet", rate=1.0, warmup=0)
    # "decreasing the learning rate by 4% every 8 epochs": epochs of 10 steps
    assert [stepped.at(step, 1000, 10.0) for step in (0, 79, 80, 160)] == pytest.approx([1, 1, 0.96, 0.96**2])


def test_auxiliary_losses_weigh_a_third_or_so() -> None:
    labels = torch.tensor([0, 1])
    main, first, second = (torch.randn(2, 3) for _ in range(3))
    cross = torch.nn.functional.cross_entropy
    expected = cross(main, labels) + 0.3 * cross(first, labels) + 0.3 * cross(second, labels)
    torch.testing.assert_close(class_loss(Logits(main, first, second), labels), expected)


def test_average_is_the_running_mean() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, 0.0)
    average = WeightAverage(net, 0.9)
    torch.nn.init.constant_(net.weight, 1.0)
    average.update(net, step=10**6)
    average.update(net, step=10**6)
    torch.testing.assert_close(average.state["weight"], torch.tensor([[0.19]]))


def test_average_includes_normalisation_statistics() -> None:
    net = GoogLeNet(NET)
    average = WeightAverage(net, 0.5)
    net(torch.randn(4, 3, 32, 32))
    average.update(net, step=10**6)
    name = "conv1.bn.running_mean"
    torch.testing.assert_close(average.state[name], net.state_dict()[name] / 2)


def test_statistics_are_measured_on_the_averaged_weights() -> None:
    net = GoogLeNet(NET)
    inputs = [torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    first = torch.cat([net.conv1.conv(x) for x in inputs])
    state = torch.get_rng_state()
    measure_statistics(net, inputs, lambda net, x: net(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    torch.testing.assert_close(net.conv1.bn.running_mean, first.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    measure_statistics(net, [], lambda net, x: net(x))
    assert_same_state(net.state_dict(), before)


def test_background_regions_are_below_the_overlap(pool: ImagePool) -> None:
    # The sampler's promise, seen from the pool that the batches use.
    from detector.training.sampling import background_region

    for image in range(len(pool.images)):
        region = background_region(np.random.default_rng(image), pool.truth(image), (40, 48), SamplingConfig())
        assert region is not None
        assert iou(region, pool.truth(image)).max() < 0.5


def test_normalization_makes_the_fill_zero() -> None:
    normal = Normalization()
    fill = torch.tensor(normal.fill, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert normal(fill).abs().max() < 0.01
