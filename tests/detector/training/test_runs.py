"""What a run keeps and says: best and last weights, early stop, old checkpoints, faults in data and loader, the log."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel
from shared_training import made_up_pool

from detector.crop import CropConfig
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.recipes.build import crop_trainer
from detector.training.ahead import make_ahead
from detector.training.batches import loader_threads
from detector.training.checkpoint import load_checkpoint, save_checkpoint
from detector.training.denormals import flushed_denormals, is_flushing
from detector.training.machine import Machine
from detector.training.pool import ImagePool, Pictures
from detector.training.region_batch import UNREADABLE
from detector.training.region_settings import RegionTrainingConfig
from detector.training.region_trainer import RegionTrainer, truth_accuracy
from detector.training.run_log import RunLog
from detector.training.sampling import SamplingConfig
from detector.training.schedule import ScheduleConfig
from detector.types import GroundTruth, ImageRecord
from proposals.errors import UserError

POOL = replace(made_up_pool(), ids=[f"photo-{i}" for i in range(7)])


def config(**changes: Any) -> RegionTrainingConfig:
    settings: dict[str, Any] = {
        "net": GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4"),
        "crop": CropConfig(size=32, context_pad=2),
        "schedule": ScheduleConfig(rate=0.05, warmup=0.1),
        "steps": 6,
        "batch_size": 8,
        "average": 0.5,
        "statistics_batches": 1,
        "seed": 3,
    }
    return RegionTrainingConfig(**{**settings, **changes})


class Judged(RegionTrainer[Any]):
    """A run whose validations are worth what the test says."""

    worths: tuple[float, ...] = ()
    asked: int = 0

    def validate(self, net: GoogLeNet, last: bool) -> float | None:
        self.asked += 1
        return self.worths[min(self.asked, len(self.worths)) - 1]


def make(folder: Path, kind: type[RegionTrainer[Any]] = RegionTrainer, pool: ImagePool = POOL, **changes: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    told: list[str] = []
    trainer = crop_trainer(
        config(**changes),
        pool,
        pool,
        2,
        folder,
        machine=Machine(torch.device("cpu"), checkpoint_minutes=1e9, tell=told.append),
        report=lambda entry: None,
        log_every=1,
        validate_every=1,
        kind=kind,
    )
    trainer.told = told  # type: ignore[attr-defined]
    return trainer


# --- best, last, early stop ----------


def test_the_best_validation_is_kept_beside_the_last(tmp_path: Path) -> None:
    trainer = make(tmp_path, Judged)
    trainer.worths = (0.1, 0.7, 0.3, 0.7, 0.2, 0.5)
    last = trainer.run().state_dict()
    best = load_checkpoint(tmp_path / "best.pt")
    assert (best["step"], best["metric"]) == (2, 0.7)
    assert not torch.equal(best["net"]["fc.weight"], last["fc.weight"])
    trainer.clean_up()
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv", "best.pt"}


def test_the_best_can_be_the_result(tmp_path: Path) -> None:
    trainer = make(tmp_path, Judged, result="best")
    trainer.worths = (0.1, 0.7, 0.3, 0.6, 0.2, 0.5)
    found = trainer.run().state_dict()
    best = load_checkpoint(tmp_path / "best.pt")["net"]
    assert all(torch.equal(found[name], best[name]) for name in best)
    trainer.clean_up()
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv"}


def test_patience_ends_the_run(tmp_path: Path) -> None:
    trainer = make(tmp_path, Judged, steps=50, patience=2)
    trainer.worths = (0.1, 0.4, 0.4, 0.3, 0.9)
    trainer.run()
    assert trainer.step == 4
    assert trainer.told == ["no better validation in 2: stopped at step 4"]


def test_patience_survives_an_interruption(tmp_path: Path) -> None:
    first = make(tmp_path, Judged, steps=50, patience=3)
    first.watch.note(1, 0.9, first.net)
    first.watch.stale, first.step = 2, 5
    first.save()
    second = make(tmp_path, Judged, steps=50, patience=3)
    second.worths = (0.5,)
    second.resume()
    second.run()
    assert second.step == 6
    assert second.watch.best_step == 1


# --- checkpoints of before ----------


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
    found = again.run().state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_first_weights_have_a_seed_of_their_own(tmp_path: Path) -> None:
    def first(name: str, **seeds: int) -> RegionTrainer[Any]:
        return make(tmp_path / name, **seeds)

    a, b, c = first("a", seed=1, init_seed=0), first("b", seed=2, init_seed=0), first("c", seed=2)
    assert torch.equal(a.net.fc.weight, b.net.fc.weight)
    assert not torch.equal(b.net.fc.weight, c.net.fc.weight)
    assert not torch.equal(a.batches.batch(0).images, b.batches.batch(0).images)
    assert torch.equal(b.batches.batch(0).images, c.batches.batch(0).images)


# --- faults ----------


def test_a_loss_that_is_not_finite_names_its_pictures(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=50, schedule=ScheduleConfig(rate=1e12, warmup=0))
    with pytest.raises(UserError, match=r"at step \d+, seed 3, on the batch of photo-\d \[.*\] label \d") as caught:
        trainer.run()
    assert "\n" not in str(caught.value)
    lines = (tmp_path / "not-finite-0.txt").read_text().splitlines()
    assert len(lines) == 8
    batch = trainer.batches.batch(trainer.step)
    assert [line.split()[0] for line in lines] == [shown.image for shown in batch.shown]
    assert [int(line.split()[-1]) for line in lines] == batch.labels.tolist()


@pytest.mark.parametrize("threads", [0, 2])
def test_the_loaders_faults_name_the_batch(threads: int) -> None:
    def make_batch(step: int) -> int:
        if step == 5:
            raise ZeroDivisionError("odd")
        return step

    made = make_ahead(make_batch, iter(range(9)), threads)
    assert [next(made) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(
        RuntimeError, match=r"the loader could not make the batch of 5: ZeroDivisionError\('odd'\)"
    ) as caught:
        next(made)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(("cores", "threads"), [(1, 0), (2, 0), (4, 0), (5, 1), (64, 1)])
def test_a_few_cores_have_no_loader_beside_the_net(cores: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = SimpleNamespace(in_memory=True)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert loader_threads(pool, torch.device("cpu")) == threads  # type: ignore[arg-type]
    assert loader_threads(SimpleNamespace(in_memory=False), torch.device("cpu")) == min(cores, 8)  # type: ignore[arg-type]


def test_the_loaders_order_does_not_depend_on_its_threads() -> None:
    for threads in (0, 1, 3):
        assert list(make_ahead(lambda i: i * i, iter(range(20)), threads)) == [i * i for i in range(20)]


def write_pictures(folder: Path, n: int = 6) -> list[ImageRecord]:
    records = []
    for i in range(n):
        path = folder / f"{i}.png"
        Image.fromarray(np.full((40, 48, 3), 20 * i, np.uint8)).save(path)
        truth = GroundTruth.of(np.array([[4, 4, 30, 36]], np.float32), np.array([i % 2]))
        records.append(ImageRecord(f"p{i}", path, (40, 48), truth))
    return records


def test_pictures_beyond_the_memory_are_read_when_needed(tmp_path: Path) -> None:
    records = write_pictures(tmp_path)
    some, all_ = ImagePool.load(records, memory=2 * 40 * 48 * 3, workers=1), ImagePool.load(records)
    assert all_.in_memory
    assert not some.in_memory
    assert isinstance(some.images, Pictures)
    assert sum(isinstance(entry, ImageRecord) for entry in some.images.entries) >= 2
    for a, b in zip(some.images, all_.images, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(some.sizes, all_.sizes)
    assert list(some.ids) == ["p0", "p1", "p2", "p3", "p4", "p5"]


def test_a_picture_that_becomes_unreadable_does_not_end_the_run(tmp_path: Path) -> None:
    records = write_pictures(tmp_path)
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


def test_denormal_numbers_count_as_nothing_while_training_and_only_then(tmp_path: Path) -> None:
    class Looking(RegionTrainer[Any]):
        def adjust_gradients(self) -> None:
            seen.append(is_flushing())

    seen: list[bool] = []
    assert not is_flushing()
    make(tmp_path, Looking).run()
    assert seen == [True] * 6
    assert not is_flushing()
    with flushed_denormals(), flushed_denormals():
        assert is_flushing()
    assert not is_flushing()


# --- whole pictures ----------


def test_whole_pictures_as_objects() -> None:
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    whole = replace(POOL, labels=labels).whole()  # the last picture has objects of both classes
    assert len(whole.images) == 7
    assert whole.boxes.tolist() == [[0, 0, 48, 40]] * 6
    assert whole.labels.tolist() == labels[:6].tolist()
    assert len(whole.truth(6)) == 0


def test_a_classifier_of_whole_pictures_sees_googlenets_crops(tmp_path: Path) -> None:
    sampling = SamplingConfig(foreground=1.0, perturbed=0.0, iou_foreground=1e-3)
    net = GoogLeNetConfig(num_outputs=2, norm="batch", width=0.1, stem="stride4")
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
    trainer.run()


def test_without_background_everything_is_foreground() -> None:
    with pytest.raises(ValueError, match="foreground must be 1"):
        config(background=False)


# --- the log ----------


class Entry(BaseModel):
    step: int
    loss: float
    top1_val: float | None


def test_tensorboard_is_written_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            written.append(folder)

        def add_scalar(self, *values: Any) -> None:
            written.append(values)

        def flush(self) -> None: ...

        def close(self) -> None:
            written.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "tensorboard" else None)
    log = RunLog(tmp_path)
    log.write(Entry(step=5, loss=0.25, top1_val=None))
    log.close()
    assert written == [str(tmp_path / "tensorboard"), ("loss", 0.25, 5), "closed"]
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss,top1_val", "5,0.25,"]


def test_the_log_is_cut_where_a_run_goes_on(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step in (2, 4, 6):
        log.write(Entry(step=step, loss=0.5, top1_val=1.0))
    log.cut(4)
    log.write(Entry(step=6, loss=0.1, top1_val=None))
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss,top1_val", "2,0.5,1.0", "4,0.5,1.0", "6,0.1,"]


@pytest.mark.parametrize("rest", ["", "6,0.", "6,0.1,1.0", "6x,0.1,1.0\n", "\xff\n"])
def test_what_a_full_disk_left_of_a_line_is_dropped(tmp_path: Path, rest: str) -> None:
    log = RunLog(tmp_path)
    log.write(Entry(step=2, loss=0.5, top1_val=1.0))
    with (tmp_path / "log.csv").open("a", encoding="latin-1") as file:
        file.write(rest)
    log.cut(6)
    log.write(Entry(step=8, loss=0.1, top1_val=None))
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss,top1_val", "2,0.5,1.0", "8,0.1,"]


@pytest.mark.parametrize("text", ["", "step,lo", "step,loss,top1_val\n2,0.5,1.0\n"])
def test_a_log_of_which_nothing_is_kept_begins_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    log = RunLog(tmp_path)
    log.cut(0)
    log.write(Entry(step=2, loss=0.1, top1_val=None))
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss,top1_val", "2,0.1,"]


def test_a_process_that_does_not_write_writes_nothing(tmp_path: Path) -> None:
    log = RunLog(tmp_path, writes=False)
    log.write(Entry(step=2, loss=0.5, top1_val=1.0))
    log.cut(1)
    log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
def test_a_run_on_a_gpu_is_in_mixed_precision_and_can_be_resumed(tmp_path: Path) -> None:
    def on_gpu() -> RegionTrainer[Any]:
        machine = Machine(torch.device("cuda"), checkpoint_minutes=1e9, tell=lambda line: None)
        log: list[Any] = []
        return crop_trainer(config(steps=8), POOL, POOL, 2, tmp_path, machine=machine, report=log.append, log_every=1)

    trainer = on_gpu()
    assert trainer.gradients.dtype in (torch.bfloat16, torch.float16)
    net = trainer.run()
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert next(net.parameters()).dtype == torch.float32
    again = on_gpu()
    again.resume()
    assert again.step == 8
    torch.testing.assert_close(again.run().fc.weight, net.fc.weight)
