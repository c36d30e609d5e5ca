"""Learning from a teacher: which batches come again, what the pupil sees, the loss, and whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from shared_training import made_up_pool
from torch import Tensor

from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble, Member
from detector.model.config import BUNDLED_MODEL, read_model_config
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.weights import Normalization, to_tensor
from detector.recipes.build import crop_trainer, find_teacher
from detector.recipes.region import TrainRecipe
from detector.training.batches import RegionBatches
from detector.training.loop import Machine
from detector.training.pool import ImagePool
from detector.training.region_batch import UNREADABLE
from detector.training.region_loss import class_loss
from detector.training.region_settings import RegionTrainingConfig
from detector.training.region_trainer import Progress, RegionTrainer
from detector.training.sampling import SamplingConfig
from detector.training.schedule import ScheduleConfig
from detector.training.teaching import TaughtBatches, TeachingConfig, recolour
from proposals.errors import UserError

POOL = made_up_pool()
PLAIN = {"grey": 0.0, "saturation": 0.0, "cast": 0.0}
MACHINE = Machine(torch.device("cpu"), checkpoint_minutes=1e9)


class ByColour:
    """Says "red" of crops with more red than blue in the middle; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Tensor] = []

    def name_crops(self, crops: Tensor) -> Tensor:
        self.asked.append(crops.clone())
        middle = crops[:, :, 8:-8, 8:-8].mean((2, 3))
        return torch.softmax(torch.stack([middle[:, 0], middle[:, 2], torch.full_like(middle[:, 0], 100)], 1) / 20, 1)


def settings(**changes: Any) -> RegionTrainingConfig:
    fields: dict[str, Any] = {
        "net": GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4", dropout=0.0),
        "crop": CropConfig(size=32, context_pad=2),
        "schedule": ScheduleConfig(rate=0.05, warmup=0.1),
        "steps": 7,
        "batch_size": 8,
        "average": 0.5,
        "statistics_batches": 1,
        "seed": 3,
        "teaching": TeachingConfig(uses=3, kept=2),
    }
    return RegionTrainingConfig(**{**fields, **changes})


def source(seed: int = 3) -> RegionBatches:
    config = settings()
    return RegionBatches(
        POOL, 2, config.crop, config.normalization.fill, config.sampling, config.augment, config.batch_size, seed
    )


def trainer(folder: Path, teacher: ByColour | None, pool: ImagePool = POOL, **changes: Any) -> RegionTrainer[Any]:
    folder.mkdir(exist_ok=True)
    log: list[Progress] = []
    made = crop_trainer(
        settings(**changes), pool, pool, 2, folder, machine=MACHINE, report=log.append, log_every=1, teacher=teacher
    )
    made.told = log  # type: ignore[attr-defined]
    return made


def steps(start: int, count: int) -> Iterator[int]:
    return iter(range(start, start + count))


def taught_batches(teacher: ByColour, config: TeachingConfig, side: int = 32) -> TaughtBatches:
    return TaughtBatches(source(), teacher, config, lambda step: side)


def test_each_batch_is_asked_about_once_and_comes_again() -> None:
    teacher = ByColour()
    taught = taught_batches(teacher, TeachingConfig(uses=3, kept=2, **PLAIN))
    batches = list(taught.stream(steps(0, 12)))
    assert len(batches) == 12
    assert len(teacher.asked) == 4
    for number in range(4):
        fresh, drawn = batches[3 * number], source().batch(number)
        assert torch.equal(fresh.images, drawn.images.round())
        assert torch.equal(fresh.labels, drawn.labels)
        assert fresh.answers is not None
        torch.testing.assert_close(fresh.answers, ByColour().name_crops(fresh.images), atol=1e-3, rtol=0)
    for step, batch in enumerate(batches):
        number, mirror = taught.choose(step, np.random.default_rng([3, 9, step]))
        assert step // 3 - 1 <= number <= step // 3
        again = batches[3 * number]
        assert torch.equal(batch.images, again.images.flip(3) if mirror else again.images)
        assert batch.answers is not None
        assert again.answers is not None
        assert torch.equal(batch.answers, again.answers)
        assert batch.shown == again.shown
    assert len(taught._lessons) <= 2


def test_replays_reach_back_as_far_as_kept_and_some_are_mirrored() -> None:
    taught = taught_batches(ByColour(), TeachingConfig(uses=4, kept=5))
    chosen = [taught.choose(step, np.random.default_rng([0, 9, step])) for step in range(400)]
    back = {step // 4 - number for step, (number, _) in enumerate(chosen) if step % 4 and step >= 20}
    assert back == {0, 1, 2, 3, 4}
    mirrored = np.array([mirror for step, (_, mirror) in enumerate(chosen) if step % 4])
    assert 0.4 < mirrored.mean() < 0.6
    assert all(choice == (step // 4, False) for step, choice in enumerate(chosen) if step % 4 == 0)


@pytest.mark.parametrize("start", [1, 4, 5, 6])
def test_a_stream_may_begin_anywhere(start: int) -> None:
    config = TeachingConfig(uses=3, kept=2)
    whole = list(taught_batches(ByColour(), config).stream(steps(0, 10)))
    later = list(taught_batches(ByColour(), config).stream(steps(start, 10 - start)))
    for a, b in zip(whole[start:], later, strict=True):
        assert a.answers is not None
        assert b.answers is not None
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.answers, b.answers)


def test_the_pupil_may_see_smaller_crops_than_the_teacher() -> None:
    teacher = ByColour()
    taught = taught_batches(teacher, TeachingConfig(), side=24)
    (batch,) = taught.stream(steps(0, 1))
    assert batch.images.shape == (8, 3, 24, 24)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert teacher.asked[0].shape == (8, 3, 32, 32)


def test_recolour_changes_the_shares_that_it_is_told() -> None:
    crops = torch.rand(4000, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 255
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(recolour(crops, TeachingConfig(**PLAIN), generator), crops)
    grey = recolour(crops, TeachingConfig(grey=0.3, saturation=0.0, cast=0.0), generator)
    colourless = (grey.amax(1) - grey.amin(1)).amax((1, 2)) < 1e-3
    assert abs(float(colourless.float().mean()) - 0.3) < 0.03
    torch.testing.assert_close(grey[~colourless], crops[~colourless])
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close(grey[colourless].mean(1), (crops[colourless] * weights).sum(1))
    cast = recolour(crops / 2, TeachingConfig(grey=0.0, saturation=0.0, cast=0.5), generator)
    ratio = (cast / (crops / 2)).mean((2, 3))
    changed = (ratio - 1).abs().amax(1) > 1e-3
    assert abs(float(changed.float().mean()) - 0.5) < 0.03
    assert float(ratio.min()) > 0.74
    assert float(ratio.max()) < 1.35
    strong = recolour(crops, TeachingConfig(grey=0.0, saturation=1.0, cast=0.0), generator)
    assert float(strong.min()) >= 0
    assert float(strong.max()) <= 255


def test_loss_is_the_mean_of_the_labels_and_the_teachers() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, UNREADABLE, 2, 1])
    answers = torch.softmax(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), 1)
    read = labels >= 0
    log = logits.log_softmax(1)[read]
    hard = -log.gather(1, labels[read, None]).mean()
    soft = -(answers[read] * log).sum(1).mean()
    torch.testing.assert_close(class_loss(logits, labels, 0.0, answers, 0.7), 0.3 * hard + 0.7 * soft)
    torch.testing.assert_close(class_loss(logits, labels, 0.0), hard)


@pytest.mark.slow
def test_a_pupil_learns_what_only_its_teacher_says(tmp_path: Path) -> None:
    """The labels say nothing (all are 0); with the teacher's share at 1 the net still tells the colours apart."""
    blind = ImagePool(POOL.images, POOL.sizes, POOL.boxes, np.zeros_like(POOL.labels), POOL.owner, POOL.first)
    # Eight crops a step and one batch of statistics learned it on some processors only: too noisy to normalise by.
    changes: dict[str, Any] = {"steps": 60, "batch_size": 32, "statistics_batches": 4}
    changes["teaching"] = TeachingConfig(share=1.0, uses=3, **PLAIN)
    net = trainer(tmp_path, ByColour(), blind, **changes).run()
    config = settings()
    found = [
        crop_regions(POOL.images[owner], box[None], config.crop, config.normalization.fill)
        for owner, box in zip(POOL.owner, POOL.boxes, strict=True)
    ]
    with torch.inference_mode():
        guess = net(config.normalization(to_tensor(np.concatenate(found))))[:, :2].argmax(1)
    assert (guess.numpy() == POOL.labels).mean() >= 0.85


def test_a_taught_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    expected = trainer(tmp_path / "whole", ByColour()).run().state_dict()
    first = trainer(tmp_path / "parts", ByColour())
    stream = first.stream
    first.stream = lambda numbers: islice(stream(numbers), 4)  # type: ignore[method-assign]
    first.run()
    assert first.step == 4
    second = trainer(tmp_path / "parts", ByColour())
    second.resume()
    state = second.run().state_dict()
    for name, value in expected.items():
        assert torch.equal(value, state[name]), name


def test_parts_of_a_batch_keep_their_answers(tmp_path: Path) -> None:
    made = trainer(tmp_path, ByColour())
    (batch,) = made.batches.stream(steps(0, 1))
    assert batch.answers is not None
    parts = made.split(batch, 3)
    assert torch.equal(torch.cat([part.answers for part in parts if part.answers is not None]), batch.answers)


def test_teacher_and_settings_go_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"teacher and training\.teaching go together"):
        trainer(tmp_path, None)
    with pytest.raises(UserError, match=r"teacher and training\.teaching go together"):
        trainer(tmp_path, ByColour(), teaching=None)
    with pytest.raises(ValidationError, match=r"teacher and training\.teaching go together"):
        TrainRecipe(training=settings())
    with pytest.raises(ValidationError, match=r"teacher and training\.teaching go together"):
        TrainRecipe(teacher="bundled", training=settings(teaching=None))
    assert TrainRecipe(teacher="bundled", training=settings()).teacher == "bundled"
    whole = settings(background=False, sampling=SamplingConfig(foreground=1.0))
    with pytest.raises(ValidationError, match="has no teacher"):
        TrainRecipe(teacher="bundled", training=whole)


def test_a_teacher_must_know_the_same_classes(tmp_path: Path) -> None:
    keys = read_model_config(BUNDLED_MODEL).class_keys
    device = torch.device("cpu")
    with pytest.raises(UserError, match=rf"teacher bundled: knows {len(keys)} classes .* the data have 2"):
        find_teacher("bundled", ("cat", "dog"), device, "auto")
    with pytest.raises(UserError, match="nowhere"):
        find_teacher(str(tmp_path / "nowhere"), keys, device, "auto")


def test_an_ensemble_names_crops_as_it_names_regions() -> None:
    keys = read_model_config(BUNDLED_MODEL).class_keys
    found = find_teacher("bundled", keys, torch.device("cpu"), "auto")
    assert isinstance(found, Ensemble)
    assert found.num_outputs == len(keys) + 1
    torch.manual_seed(0)
    config = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
    crop, normalization = CropConfig(size=32, context_pad=2), Normalization()
    teacher = Ensemble([Member(GoogLeNet(config), crop, normalization) for _ in range(2)], torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    boxes = np.array([[3, 4, 60, 70], [20, 10, 90, 50], [0, 0, 100, 80]], np.float32)
    crops = to_tensor(crop_regions(image, boxes, crop, normalization.fill))
    expected = teacher.predict(image, boxes).probs
    np.testing.assert_allclose(teacher.name_crops(crops).numpy(), expected, atol=1e-6)
    doubled = torch.nn.functional.interpolate(crops, scale_factor=2, mode="nearest")
    assert teacher.name_crops(doubled).shape == expected.shape


def test_temperature_and_other_crop_sizes() -> None:
    def ensemble(temperature: float) -> Ensemble:
        torch.manual_seed(0)
        config = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
        crops = [CropConfig(size=size, context_pad=2) for size in (32, 48)]
        members = [Member(GoogLeNet(config), crop, Normalization()) for crop in crops]
        return Ensemble(members, torch.device("cpu"), temperature=temperature)

    crops = torch.rand(5, 3, 32, 32) * 255
    cold, warm = ensemble(1.0).name_crops(crops), ensemble(2.0).name_crops(crops)
    torch.testing.assert_close(warm, cold.sqrt() / cold.sqrt().sum(1, keepdim=True))
    torch.testing.assert_close(cold.sum(1), torch.ones(5))
