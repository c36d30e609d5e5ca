"""Whole runs on crops: what they learn, resumption to the bit, best and last weights, faults in data and loader."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shared_training import NET, crop_settings, made_up_pool, made_up_proposals, shared_settings, write_records

from detector.nets.googlenet import GoogLeNet, Logits
from detector.recipes.build import crop_trainer, shared_trainer
from detector.training.ahead import loader_threads, make_ahead
from detector.training.gradients import WeightAverage, flushed_denormals, is_flushing
from detector.training.loop import Interrupted
from detector.training.pool import ImagePool
from detector.training.processes import Machine
from detector.training.region_batch import UNREADABLE
from detector.training.region_loss import class_loss
from detector.training.region_settings import LearningConfig, ScheduleConfig
from detector.training.region_trainer import Progress, RegionTrainer, measure_statistics, truth_accuracy
from detector.training.run_files import load_checkpoint, save_checkpoint
from detector.training.sampling import SamplingConfig
from detector.training.shared_batches import SharedBatches
from proposals.errors import UserError

POOL = replace(made_up_pool(), ids=[f"photo-{i}" for i in range(7)])
CPU = torch.device("cpu")


def make(folder: Path, pool: ImagePool = POOL, worths: tuple[float, ...] = (), **changes: Any) -> Any:
    """A trainer; its validations are worth ``worths``, the last of them over and over, if there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    told: list[str] = []
    log: list[Progress] = []
    machine = Machine(CPU, checkpoint_minutes=1e9, log=told.append)
    about: dict[str, Any] = {"machine": machine, "report": log.append, "log_every": 1, "validate_every": 1}
    trainer: Any = crop_trainer(crop_settings(**changes), pool, pool, 2, folder, **about)
    trainer.told, trainer.lines = told, log
    if worths:
        asked = chain(worths, repeat(worths[-1]))
        trainer.measure = lambda net, last: next(asked)
    return trainer


def make_shared(folder: Path) -> Any:
    """A trainer on shared maps."""
    folder.mkdir(parents=True, exist_ok=True)
    config, machine = shared_settings(), Machine(CPU, checkpoint_minutes=1e9)
    batches = SharedBatches(POOL, made_up_proposals(POOL), 2, config)
    return shared_trainer(config, batches, folder, machine=machine, report=lambda entry: None, log_every=1)


def assert_same_state(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def logged(folder: Path) -> list[list[str]]:
    """The lines of the log, without how long they took."""
    with (folder / "log.csv").open(newline="") as file:
        return [[row[name] for name in ("step", "epoch", "rate", "loss", "top1_train")] for row in csv.DictReader(file)]


# --- the same run again ----------


@pytest.mark.parametrize("make", [make, make_shared])
def test_resumed_run_equals_uninterrupted_run_to_the_bit(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    expected = make(tmp_path / "whole").run().state_dict()
    first = make(tmp_path)

    def stop(entry: Progress) -> None:
        if entry.step == 3:  # as a scheduler would
            signal.raise_signal(signal.SIGTERM)

    first.report = stop
    with pytest.raises(Interrupted, match="stopped at step"):
        first.run()
    assert 3 <= first.step < 6
    second = make(tmp_path)
    torch.manual_seed(999)  # resumption must not depend on the state it finds
    second.resume()
    assert second.step == first.step
    assert_same_state(second.run().state_dict(), expected)
    assert logged(tmp_path) == logged(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_died_before_its_first_checkpoint_logs_each_step_once(tmp_path: Path) -> None:
    make(tmp_path, steps=4).run()
    (tmp_path / "checkpoint.pt").unlink()
    make(tmp_path).run()
    assert [row[0] for row in logged(tmp_path)] == ["1", "2", "3", "4", "5", "6"]


def test_the_same_seed_gives_the_same_net_and_another_another(tmp_path: Path) -> None:
    nets = [make(tmp_path / str(i), steps=2, seed=s).run().state_dict() for i, s in enumerate([1, 1, 2])]
    assert_same_state(nets[0], nets[1])
    assert not torch.equal(nets[0]["fc.weight"], nets[2]["fc.weight"])


def test_first_weights_have_a_seed_of_their_own(tmp_path: Path) -> None:
    a, b, c = (
        make(tmp_path / str(number), **seeds)
        for number, seeds in enumerate(({"seed": 1, "init_seed": 0}, {"seed": 2, "init_seed": 0}, {"seed": 2}))
    )
    assert torch.equal(a.net.fc.weight, b.net.fc.weight)
    assert not torch.equal(b.net.fc.weight, c.net.fc.weight)
    assert not torch.equal(a.batches.batch(0).images, b.batches.batch(0).images)
    assert torch.equal(b.batches.batch(0).images, c.batches.batch(0).images)


def test_another_configuration_is_not_resumed(tmp_path: Path) -> None:
    make(tmp_path, steps=2).run()
    with pytest.raises(UserError, match="another configuration"):
        make(tmp_path, steps=3).resume()


@pytest.mark.slow
def test_a_checkpoint_without_newer_settings_is_resumed(tmp_path: Path) -> None:
    expected = make(tmp_path / "whole").run().state_dict()
    trainer = make(tmp_path / "old")
    trainer.save()
    state = load_checkpoint(trainer.checkpoint_path)
    for new in ("precision", "patience", "result", "init_seed", "regions", "background", "head_rate", "optimizer"):
        del state["config"][new]
    del state["config"]["sampling"]["balance"], state["scaler"], state["watch"]
    save_checkpoint(trainer.checkpoint_path, state)
    again = make(tmp_path / "old")
    again.resume()
    assert_same_state(again.run().state_dict(), expected)


# --- what is learned ----------


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=60, batch_size=16, schedule=ScheduleConfig(rate=0.2))
    net = trainer.run()
    assert truth_accuracy(net, POOL, trainer.config) >= 0.9
    assert trainer.lines[-1].top1_val == pytest.approx(truth_accuracy(net, POOL, trainer.config), abs=1e-4)
    assert trainer.lines[-1].loss < trainer.lines[0].loss


@pytest.mark.slow
def test_boxes_and_overlaps_are_learned_from_crops_too(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=120, batch_size=16, grid=2, schedule=ScheduleConfig(rate=0.1))
    trainer.measure = None
    trainer.run()
    for name in ("box_loss", "overlap_loss"):
        losses = [getattr(entry, name) for entry in trainer.lines]
        assert np.mean(losses[-20:]) < np.mean(losses[:20])


def test_a_classifier_of_whole_pictures_sees_googlenets_crops(tmp_path: Path) -> None:
    sampling = SamplingConfig(foreground=1.0, perturbed=0.0, iou_foreground=1e-3)
    net = NET.model_copy(update={"num_outputs": 2})
    one_class = replace(POOL, labels=np.array([0, 1, 0, 1, 0, 1, 0, 0])).whole()
    trainer = make(tmp_path, pool=one_class, background=False, sampling=sampling, net=net, batch_size=64)
    batch = trainer.batches.batch(0)
    assert set(batch.labels.tolist()) == {0, 1}
    sides = np.array([shown.box[2:] - shown.box[:2] for shown in batch.shown])
    area, aspect = sides.prod(1) / (40 * 48), sides[:, 0] / sides[:, 1]
    assert 0.08 - 1e-3 <= area.min() < 0.2
    assert 0.8 < area.max() <= 1
    # Sides that would leave the picture are cut, so the widest crops may be a little outside of 3/4 to 4/3.
    assert ((aspect > 0.74) & (aspect < 1.34)).mean() > 0.9
    with pytest.raises(ValueError, match="foreground must be 1"):
        crop_settings(background=False)


def test_gradients_are_cut_to_the_clip(tmp_path: Path) -> None:
    trainer = make(tmp_path, clip=0.01)
    for p in trainer.net.parameters():
        p.grad = torch.ones_like(p)
    trainer.adjust_gradients()
    total = torch.cat([p.grad.flatten() for p in trainer.net.parameters()]).norm()
    assert float(total) == pytest.approx(0.01, rel=0.01)


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


@pytest.mark.parametrize(
    ("steps", "averaged", "decay"), [(5000, 0.2, 0.999), (50, 0.08, 0.9), (1, 0.08, 0.9), (5000, 0.0, 0.0)]
)
def test_weights_are_averaged_over_a_share_of_the_steps(steps: int, averaged: float, decay: float) -> None:
    config = LearningConfig(steps=steps, averaged=averaged)
    assert config.decay == pytest.approx(decay)


@pytest.mark.parametrize(("steps", "statistics"), [(5000, 50), (240, 30), (1, 10)])
def test_a_short_run_measures_statistics_on_few_batches(steps: int, statistics: int) -> None:
    assert LearningConfig(steps=steps, statistics_batches=50).statistics == statistics
    assert LearningConfig(steps=steps, statistics_batches=0).statistics == 0


def test_average_is_the_running_mean_of_weights_and_statistics() -> None:
    net = GoogLeNet(NET)
    average = WeightAverage(net, 0.9)
    before = average.state["fc.weight"].clone()
    net(torch.randn(4, 3, 32, 32))
    torch.nn.init.constant_(net.fc.weight, 1.0)
    average.update(net, step=10**6)
    average.update(net, step=10**6)
    torch.testing.assert_close(average.state["fc.weight"], 0.81 * before + 0.19)
    name = "conv1.bn.running_mean"
    torch.testing.assert_close(average.state[name], 0.19 * net.state_dict()[name])
    assert average.state["conv1.bn.num_batches_tracked"] == 1


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


def test_denormal_numbers_count_as_nothing_while_training_and_only_then(tmp_path: Path) -> None:
    seen: list[bool] = []
    assert not is_flushing()
    trainer = make(tmp_path)
    trainer.adjust_gradients = lambda: seen.append(is_flushing())
    trainer.run()
    assert seen == [True] * 6
    assert not is_flushing()
    with flushed_denormals(), flushed_denormals():
        assert is_flushing()
    assert not is_flushing()


# --- best, last, early stop ----------


def test_the_best_validation_is_kept_beside_the_last(tmp_path: Path) -> None:
    trainer = make(tmp_path, worths=(0.1, 0.7, 0.3, 0.7, 0.2, 0.5))
    last = trainer.run().state_dict()
    best = load_checkpoint(tmp_path / "best.pt")
    assert (best["step"], best["metric"]) == (2, 0.7)
    assert not torch.equal(best["net"]["fc.weight"], last["fc.weight"])
    trainer.clean_up()
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv", "best.pt"}


def test_the_best_can_be_the_result(tmp_path: Path) -> None:
    trainer = make(tmp_path, worths=(0.1, 0.7, 0.3, 0.6, 0.2, 0.5), result="best")
    found = trainer.run().state_dict()
    assert_same_state(found, load_checkpoint(tmp_path / "best.pt")["net"])
    trainer.clean_up()
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv"}


def test_patience_ends_the_run(tmp_path: Path) -> None:
    trainer = make(tmp_path, worths=(0.1, 0.4, 0.4, 0.3, 0.9), steps=50, patience=2)
    trainer.run()
    assert trainer.step == 4
    assert trainer.told == ["no better validation in 2: stopped at step 4"]


def test_patience_survives_an_interruption(tmp_path: Path) -> None:
    first = make(tmp_path, steps=50, patience=3)
    first.watch.note(1, 0.9, first.net)
    first.watch.stale, first.step = 2, 5
    first.save()
    second = make(tmp_path, worths=(0.5,), steps=50, patience=3)
    second.resume()
    second.run()
    assert second.step == 6
    assert second.watch.best_step == 1


# --- faults ----------


@pytest.mark.parametrize(
    ("pool", "classes", "fault"),
    [(POOL, 7, "3 outputs for 7 classes"), (ImagePool.load([]), 2, "no usable object")],
    ids=["classes", "objects"],
)
def test_data_that_do_not_fit(tmp_path: Path, pool: ImagePool, classes: int, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        crop_trainer(crop_settings(), pool, None, classes, tmp_path, machine=Machine(CPU), report=lambda entry: None)


def test_a_loss_that_is_not_finite_names_its_pictures(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=50, schedule=ScheduleConfig(rate=1e12, warmup=0))
    with pytest.raises(UserError, match=r"at step \d+, seed 3, on the batch of photo-\d \[.*\] label \d") as caught:
        trainer.run()
    assert str(caught.value).startswith(("the loss became nan", "the loss became inf"))
    assert "\n" not in str(caught.value)
    lines = (tmp_path / "not-finite-0.txt").read_text().splitlines()
    assert len(lines) == 8
    batch = trainer.batches.batch(trainer.step)
    assert [line.split()[0] for line in lines] == [shown.image for shown in batch.shown]
    assert [int(line.split()[-1]) for line in lines] == batch.labels.tolist()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_the_loader_keeps_the_order_and_its_faults_name_the_batch(threads: int) -> None:
    def make_batch(step: int) -> int:
        if step == 15:
            raise ZeroDivisionError("odd")
        return step * step

    made = make_ahead(make_batch, iter(range(20)), threads)
    assert [next(made) for _ in range(15)] == [i * i for i in range(15)]
    with pytest.raises(
        RuntimeError, match=r"the loader could not make the batch of 15: ZeroDivisionError\('odd'\)"
    ) as caught:
        next(made)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert list(make_ahead(make_batch, iter(range(12)), threads)) == [i * i for i in range(12)]


@pytest.mark.parametrize(("cores", "threads"), [(1, 0), (2, 0), (4, 0), (5, 1), (64, 1)])
def test_a_few_cores_have_no_loader_beside_the_net(cores: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert loader_threads(CPU, in_memory=True) == threads
    assert loader_threads(CPU, in_memory=False) == min(cores, 8)


def test_a_picture_that_becomes_unreadable_does_not_end_the_run(tmp_path: Path) -> None:
    records = write_records(tmp_path)
    pool = ImagePool.load(records, memory=0)
    trainer = make(tmp_path / "run", pool=pool, statistics_batches=0)
    records[3].path.write_bytes(b"no picture any more")
    trainer.run()
    assert set(trainer.batches.unreadable) == {"p3"}
    batches = [trainer.batches.batch(step) for step in range(6)]
    for batch in batches:
        gone = np.array([shown.image == "p3" for shown in batch.shown])
        np.testing.assert_array_equal(batch.labels.numpy() == UNREADABLE, gone)
    assert truth_accuracy(trainer.net, pool, trainer.config) in {i / 5 for i in range(6)}


@pytest.mark.gpu
def test_a_run_on_a_gpu_is_in_mixed_precision_and_can_be_resumed(tmp_path: Path) -> None:
    def on_gpu() -> RegionTrainer[Any]:
        machine = Machine(torch.device("cuda"), checkpoint_minutes=1e9)
        about: dict[str, Any] = {"machine": machine, "report": lambda entry: None, "log_every": 1}
        return crop_trainer(crop_settings(steps=8), POOL, POOL, 2, tmp_path, **about)

    trainer = on_gpu()
    assert trainer.gradients.dtype in (torch.bfloat16, torch.float16)
    net = trainer.run()
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert next(net.parameters()).dtype == torch.float32
    again = on_gpu()
    again.resume()
    assert again.step == 8
    torch.testing.assert_close(again.run().fc.weight, net.fc.weight)
