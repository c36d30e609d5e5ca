"""Training MultiBox: priors, batches, learning, resumption to the bit, calibration, faults."""

from __future__ import annotations

import csv
import functools
import signal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from detector.nets.googlenet import GoogLeNetConfig
from detector.training.loop import Interrupted, Machine
from detector.training.multibox import (
    MultiBoxProgress,
    MultiBoxTrainer,
    MultiBoxTrainingConfig,
    SceneBatches,
    calibrate,
    fit_priors,
    make_optimizer,
    propose_whole,
    relative_truths,
    validation_recall,
)
from detector.training.pool import ImagePool
from detector.training.scenes import SceneConfig
from detector.training.schedule import ScheduleConfig
from proposals.boxes import iou
from proposals.errors import UserError
from proposals.multibox import MultiBoxConfig
from proposals.multibox_loss import MultiBoxLossConfig
from proposals.priors import Priors, grid_priors

MACHINE = Machine(torch.device("cpu"), checkpoint_minutes=1e9)
TRUNK = GoogLeNetConfig(norm="batch", width=0.1, stem="stride4")


def make_pool(n: int = 24, seed: int = 0) -> ImagePool:
    """Grey noise with one red square on each picture."""
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for _ in range(n):
        image = rng.integers(90, 160, (40, 48, 3), dtype=np.uint8)
        x, y, side = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(14, 24))
        image[y : y + side, x : x + side] = (220, 20, 20)
        images.append(image)
        boxes.append([x, y, x + side, y + side])
    return ImagePool(
        images=images,
        sizes=np.full((n, 2), (40, 48), np.float32),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.zeros(n, np.int64),
        owner=np.arange(n),
        first=np.arange(n + 1),
    )


POOL = make_pool()


def config(**changes: Any) -> MultiBoxTrainingConfig:
    settings: dict[str, Any] = {
        "trunk": TRUNK,
        "multibox": MultiBoxConfig(input_size=32, reduced=8, hidden=32),
        "num_priors": 8,
        "scenes": SceneConfig(whole=1, crop=1, mosaic=1, pieces=(2, 3)),
        "schedule": ScheduleConfig(rate=0.05, warmup=0.1),
        "steps": 6,
        "batch_size": 8,
        "average": 0.9,
        "seed": 5,
    }
    return MultiBoxTrainingConfig(**{**settings, **changes})


@functools.cache
def priors_of(head: Literal["global", "convolutional"]) -> Priors:
    return fit_priors(config(multibox=MultiBoxConfig(head=head, input_size=32)), POOL)


def make_trainer(folder: Path, log: list[MultiBoxProgress] | None = None, **changes: Any) -> MultiBoxTrainer:
    folder.mkdir(exist_ok=True)
    take = (lambda entry: None) if log is None else log.append
    settings = config(**changes)
    return MultiBoxTrainer(
        settings,
        priors_of(settings.multibox.head),
        POOL,
        POOL,
        folder,
        machine=MACHINE,
        report=take,
        log_every=2,
    )


def assert_same_state(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"multibox": MultiBoxConfig(head="convolutional", input_size=128), "batch_size": 2, "steps": 4},
        {
            "optimizer": "sgd",
            "loss": MultiBoxLossConfig(matching="priors"),
            "multibox": MultiBoxConfig(input_size=32, dropout=0.5),
        },
    ],
    ids=["global", "convolutional", "sgd-priors-dropout"],
)
def test_resumed_run_equals_uninterrupted_run_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    whole = make_trainer(tmp_path / "whole", **changes)
    expected = whole.run().state_dict()

    first = make_trainer(tmp_path / "cut", **changes)
    write = first.log.write

    def write_and_stop(entry: Any) -> None:
        write(entry)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(first.log, "write", write_and_stop)
    with pytest.raises(Interrupted, match="stopped at step 2"):
        first.run()
    second = make_trainer(tmp_path / "cut", **changes)
    torch.manual_seed(999)  # resumption must not depend on the state it finds
    second.resume()
    assert second.step == 2
    assert_same_state(second.run().state_dict(), expected)
    columns = ("step", "rate", "loss", "location_loss", "confidence_loss", "iou_matched", "recall_val")
    rows = [
        [[row[c] for c in columns] for row in csv.DictReader((tmp_path / f / "log.csv").read_text().splitlines())]
        for f in ("whole", "cut")
    ]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_it_learns_where_the_squares_are(tmp_path: Path) -> None:
    log: list[MultiBoxProgress] = []
    trainer = make_trainer(
        tmp_path / "run", log, steps=70, batch_size=16, scenes=SceneConfig(whole=1, crop=0, mosaic=0), average=0.8
    )
    start = trainer.averaged_net()
    net = trainer.run()
    assert log[-1].loss < 0.7 * log[0].loss
    found = {}
    for name, each in (("before", start), ("after", net)):
        ranked = propose_whole(each, POOL, trainer.config.normalization, range(24), 1)
        overlap = [iou(r.boxes, t).max() for r, t in zip(ranked, relative_truths(POOL, range(24)), strict=True)]
        found[name] = float(np.mean(overlap))
    assert found["after"] > found["before"] + 0.15  # the best box alone
    assert log[-1].recall_val == pytest.approx(
        validation_recall(net, POOL, trainer.config.normalization, None), abs=1e-4
    )
    calibration = calibrate(net, POOL, trainer.config.normalization)
    ranked = propose_whole(net, POOL, trainer.config.normalization, range(24), 8)
    truths = relative_truths(POOL, range(24))
    hits = np.concatenate([iou(r.boxes, t)[:, 0] >= 0.5 for r, t in zip(ranked, truths, strict=True)])
    scores = np.concatenate([calibration(r.logits) for r in ranked])
    assert scores.mean() == pytest.approx(hits.mean(), abs=0.05)


def test_the_same_seed_gives_the_same_net_and_another_another(tmp_path: Path) -> None:
    nets = [make_trainer(tmp_path / str(i), steps=1, seed=s).run().state_dict() for i, s in enumerate([1, 1, 2])]
    assert_same_state(nets[0], nets[1])
    assert not torch.equal(nets[0]["head.location.weight"], nets[2]["head.location.weight"])


def test_a_batch_depends_on_its_step_alone() -> None:
    batches = SceneBatches(POOL, config())
    fourth = batches.batch(4)
    for step in (9, 0, 4):
        again = batches.batch(step)
    assert torch.equal(fourth.pictures, again.pictures)
    assert torch.equal(fourth.truths.boxes, again.truths.boxes)
    assert torch.equal(fourth.truths.owner, again.truths.owner)
    assert (fourth.truths.owner.diff() >= 0).all()
    streamed = list(batches.stream(iter([3, 4])))
    assert torch.equal(streamed[1].pictures, fourth.pictures)


def test_every_picture_comes_once_an_epoch() -> None:
    batches = SceneBatches(POOL, config())
    shown = [batches.order[i] for i in range(48)]
    assert sorted(shown[:24]) == sorted(shown[24:]) == list(range(24))
    assert shown[:24] != shown[24:]


def test_boxes_of_a_batch_are_on_the_squares_mirrored_or_not() -> None:
    batch = SceneBatches(POOL, config(scenes=SceneConfig(whole=1, crop=0, mosaic=0))).batch(0)
    assert len(batch.truths.boxes) == 8
    for picture, box in zip(batch.pictures, batch.truths.boxes, strict=True):
        x1, y1, x2, y2 = (box * 32).round().int().tolist()
        inner = picture[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean((1, 2))
        assert inner[0] > inner[1] + 60
        assert inner[0] > picture[0].mean()


def test_priors_follow_the_scenes() -> None:
    whole = fit_priors(config(scenes=SceneConfig(whole=1, crop=0, mosaic=0)), POOL)
    mosaic = fit_priors(config(scenes=SceneConfig(whole=0, crop=0, mosaic=1)), POOL)
    areas = [np.prod(p.boxes[:, 2:] - p.boxes[:, :2], axis=1).mean() for p in (whole, mosaic)]
    assert areas[1] < 0.7 * areas[0]
    grids = fit_priors(config(multibox=MultiBoxConfig(head="convolutional", input_size=128)), POOL)
    np.testing.assert_array_equal(grids.boxes, grid_priors().boxes)


def test_optimizers() -> None:
    net = torch.nn.Linear(3, 2)
    adamw = make_optimizer(net, config(weight_decay=0.3))
    assert isinstance(adamw, torch.optim.AdamW)
    assert [g["weight_decay"] for g in adamw.param_groups] == [0.3, 0.0]
    sgd = make_optimizer(net, config(optimizer="sgd", momentum=0.5))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["momentum"] == 0.5


def test_gradients_are_cut(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", clip=1e-3)
    outcome = trainer.outcome(trainer.batches.batch(0))
    outcome.loss.backward()  # type: ignore[no-untyped-call]
    trainer.adjust_gradients()
    norm = torch.stack([p.grad.square().sum() for p in trainer.net.parameters() if p.grad is not None]).sum().sqrt()
    assert float(norm) == pytest.approx(1e-3, rel=1e-2)


def test_pictures_without_objects_are_taken(tmp_path: Path) -> None:
    pool = ImagePool(
        images=[*POOL.images, np.zeros((30, 30, 3), np.uint8)],
        sizes=np.concatenate([POOL.sizes, [[30, 30]]]).astype(np.float32),
        boxes=POOL.boxes,
        labels=POOL.labels,
        owner=POOL.owner,
        first=np.concatenate([POOL.first, POOL.first[-1:]]),
    )
    settings = config(steps=2)
    trainer = MultiBoxTrainer(
        settings, fit_priors(settings, pool), pool, pool, tmp_path, machine=MACHINE, report=lambda entry: None
    )
    trainer.run()
    assert trainer.last_recall is not None


def test_faults(tmp_path: Path) -> None:
    empty = make_pool(0)
    some = Priors(np.array([[0, 0, 1, 1]], np.float32), np.ones((1, 4), np.float32))
    with pytest.raises(UserError, match="no usable object"):
        fit_priors(config(), empty)
    with pytest.raises(UserError, match="no usable object"):
        MultiBoxTrainer(config(), some, empty, None, tmp_path, machine=MACHINE, report=lambda entry: None)
    with pytest.raises(UserError, match="priors cannot be fitted to 1 distinct boxes"):
        fit_priors(config(scenes=SceneConfig(whole=1, crop=0, mosaic=0)), make_pool(1))
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step"):
        make_trainer(tmp_path, steps=40, schedule=ScheduleConfig(rate=1e25, warmup=0), clip=1e30, optimizer="sgd").run()


def test_parts_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, multibox=MultiBoxConfig(input_size=32, dropout=0.0))
    batch = trainer.batches.batch(0)
    parts = trainer.split(batch, 3)
    assert torch.equal(torch.cat([part.pictures for part in parts]), batch.pictures)
    assert torch.equal(torch.cat([part.truths.boxes for part in parts]), batch.truths.boxes)
    assert [name for part in parts for name in trainer.describe(part)] == trainer.describe(batch)
    trainer.net.eval()  # batch normalisation would see other batches
    whole = trainer.outcome(batch)
    each = [trainer.outcome(part) for part in parts]
    assert sum(o.examples for o in each) == whole.examples == len(batch.pictures)
    mean = sum(float(o.loss.detach()) * o.examples for o in each) / whole.examples
    assert mean == pytest.approx(float(whole.loss.detach()), rel=1e-5)
