"""Learning from a teacher: the loss, what it is asked, and whole runs on crops and on shared maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run
from pydantic import ValidationError
from shared_recipes import NET as SMALL_NET
from shared_recipes import RECIPE, TRAINING, write, write_photographs
from shared_training import NET as SMALL
from shared_training import crop_settings, made_up_pool, made_up_proposals, shared_settings
from torch import Tensor

from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble
from detector.detection.member import Member
from detector.model.config import BUNDLED_MODEL, read_model_config
from detector.model.load import load_model
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, Trunk
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import SharedMaps
from detector.nets.weights import Normalization, to_tensor
from detector.recipes.build import crop_trainer, shared_trainer
from detector.recipes.initialization import find_teacher
from detector.recipes.region import OneRecipe, SharedRecipe, TrainRecipe
from detector.training.pool import ImagePool
from detector.training.processes import Machine
from detector.training.region_batch import UNREADABLE
from detector.training.region_loss import class_loss
from detector.training.region_trainer import RegionTrainer
from detector.training.sampling import SamplingConfig
from detector.training.shared_batches import SharedBatches
from proposals.errors import UserError

CPU = torch.device("cpu")
POOL = made_up_pool()
BLIND = replace(POOL, labels=np.zeros_like(POOL.labels))
MACHINE = Machine(CPU, checkpoint_minutes=1e9)
NET = SMALL.model_copy(update={"dropout": 0.0})
TAUGHT: dict[str, Any] = {"net": NET, "teacher_share": 0.9}
KEYS = ("blue", "red")


def by_colour(colours: Tensor) -> Tensor:
    """Says "red" of regions whose mean colour ``(R, 3)`` has more red than blue."""
    return torch.softmax(torch.stack([colours[:, 0], colours[:, 2], torch.full_like(colours[:, 0], 100)], 1) / 20, 1)


class ByColour:
    """A teacher; counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def name_crops(self, crops: Tensor) -> Tensor:
        self.asked += len(crops)
        return by_colour(crops[:, :, 8:-8, 8:-8].mean((2, 3)))

    def name_regions(self, images: Tensor, rois: Tensor) -> Tensor:
        self.asked += len(rois)
        bounds = rois.round().int().tolist()
        middles = [images[i, :, y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] for i, x1, y1, x2, y2 in bounds]
        return by_colour(torch.stack([middle.mean((1, 2)) for middle in middles]))


def trainer(folder: Path, teacher: ByColour, pool: ImagePool = POOL, **changes: Any) -> RegionTrainer[Any]:
    folder.mkdir(exist_ok=True)
    about: dict[str, Any] = {"machine": MACHINE, "report": lambda entry: None, "log_every": 1, "teacher": teacher}
    return crop_trainer(crop_settings(**{**TAUGHT, **changes}), pool, pool, 2, folder, **about)


def test_loss_is_the_mean_of_the_labels_and_the_teachers() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, UNREADABLE, 2, 1])
    answers = torch.softmax(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), 1)
    read = labels >= 0
    log = logits.log_softmax(1)[read]
    hard = -log.gather(1, labels[read, None]).mean()
    soft = -(answers[read] * log).sum(1).mean()
    torch.testing.assert_close(class_loss(logits, labels, answers, 0.7), 0.3 * hard + 0.7 * soft)
    torch.testing.assert_close(class_loss(logits, labels), hard)


@pytest.mark.slow
def test_a_pupil_learns_what_only_its_teacher_says(tmp_path: Path) -> None:
    """The labels say nothing (all are 0); with the teacher's share at 1 the net still tells the colours apart."""
    # Eight crops a step and one batch of statistics learned it on some processors only: too noisy to normalise by.
    changes: dict[str, Any] = {"steps": 60, "batch_size": 32, "statistics_batches": 4, "teacher_share": 1.0}
    teacher = ByColour()
    net = trainer(tmp_path, teacher, BLIND, **changes).run()
    assert teacher.asked == 60 * 32
    config = crop_settings()
    found = [
        crop_regions(POOL.images[owner], box[None], config.crop, config.normalization.fill)
        for owner, box in zip(POOL.owner, POOL.boxes, strict=True)
    ]
    with torch.inference_mode():
        guess = net(config.normalization(to_tensor(np.concatenate(found))))[:, :2].argmax(1)
    assert (guess.numpy() == POOL.labels).mean() >= 0.85


@pytest.mark.slow
def test_a_pupil_on_shared_maps_learns_what_only_its_teacher_says(tmp_path: Path) -> None:
    config = shared_settings(net=NET, steps=60, statistics_batches=4, teacher_share=1.0)
    boxes = made_up_proposals(POOL)
    batches, teacher = SharedBatches(BLIND, boxes, 2, config), ByColour()
    made = shared_trainer(config, batches, tmp_path, machine=MACHINE, report=lambda entry: None, teacher=teacher)
    net = made.run()
    right = []
    for batch in (SharedBatches(POOL, boxes, 2, config).batch(step) for step in range(1000, 1008)):
        with torch.inference_mode():
            shows = batch.labels < 2
            guess = made.output(net, batch).classes[shows, :2].argmax(1)  # type: ignore[union-attr]
            right.append(guess == batch.labels[shows])
    assert float(torch.cat(right).float().mean()) >= 0.85
    assert teacher.asked == sum(len(batches.batch(step).labels) for step in range(60))


MAPS = {"maps": {"image_side": 64, "levels": 2, "region_side": 32}, "regions": 8, "net": SMALL_NET}
LEARNING = {key: value for key, value in TRAINING.items() if key not in ("net", "crop")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "asked"),
    [
        ({**RECIPE, "training": TRAINING}, "name_crops"),
        ({**RECIPE, "task": "shared", "init": "random", "training": {**LEARNING, **MAPS}}, "name_regions"),
    ],
    ids=["crops", "shared maps"],
)
def test_a_trained_model_teaches_the_next(
    recipe: dict[str, Any], asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    data, elder = write_photographs(tmp_path / "photos"), tmp_path / "elder"
    words = ("--proposals", tmp_path / "store", "--device", "cpu")
    assert run("train", data, "--config", write(tmp_path, recipe), "--out", elder, *words) == 0
    answer, answers = getattr(Ensemble, asked), []

    def listed(self: Ensemble, *regions: Tensor) -> Tensor:
        answers.append(answer(self, *regions))
        return answers[-1]

    monkeypatch.setattr(Ensemble, asked, listed)
    taught = {**recipe, "teacher": str(elder), "training": {**recipe["training"], "teacher_share": 0.9}}
    assert run("train", data, "--config", write(tmp_path, taught), "--out", tmp_path / "pupil", *words) == 0
    assert len(answers) == TRAINING["steps"]
    assert load_model(tmp_path / "pupil", device="cpu").class_names == KEYS


@pytest.mark.parametrize(("recipe", "training"), [(TrainRecipe, crop_settings), (SharedRecipe, shared_settings)])
def test_teacher_and_its_share_go_together(recipe: Any, training: Any) -> None:
    with pytest.raises(ValidationError, match=r"teacher and training\.teacher_share go together"):
        recipe(training=training(teacher_share=0.9))
    with pytest.raises(ValidationError, match=r"teacher and training\.teacher_share go together"):
        recipe(teacher="bundled", training=training())
    assert recipe(teacher="bundled", training=training(teacher_share=0.9)).teacher == "bundled"


def test_a_classifier_of_whole_images_has_no_teacher() -> None:
    whole = crop_settings(background=False, sampling=SamplingConfig(foreground=1.0), teacher_share=0.9)
    with pytest.raises(ValidationError, match="has no teacher"):
        TrainRecipe(teacher="bundled", training=whole)


def taught(teacher: str) -> OneRecipe:
    return SharedRecipe(teacher=teacher, training=shared_settings(teacher_share=0.9))


def test_a_teacher_must_know_the_same_classes_and_pool_as_its_pupil_does(tmp_path: Path) -> None:
    keys = read_model_config(BUNDLED_MODEL).class_keys
    with pytest.raises(UserError, match=rf"teacher bundled: knows {len(keys)} classes .* the data have 2"):
        find_teacher(taught("bundled"), KEYS, CPU)
    with pytest.raises(UserError, match="nowhere"):
        find_teacher(taught(str(tmp_path / "nowhere")), KEYS, CPU)
    nets = [(NET, GoogLeNet(NET).state_dict(), CropConfig(size=32, context_pad=2), Normalization())]
    save_model(tmp_path / "crops", nets, name="t", class_names=KEYS, class_keys=KEYS, licence="MIT")
    with pytest.raises(UserError, match="crops: classifies crops, and this recipe's networks learn on shared maps"):
        find_teacher(taught(str(tmp_path / "crops")), KEYS, CPU)
    of_crops = TrainRecipe(teacher=str(tmp_path / "crops"), training=crop_settings(teacher_share=0.9))
    assert isinstance(find_teacher(of_crops, KEYS, CPU), Ensemble)
    assert find_teacher(SharedRecipe(training=shared_settings()), KEYS, CPU) is None
    found = find_teacher(taught("bundled"), keys, CPU)
    assert found is not None
    assert found.num_outputs == len(keys) + 1


def test_an_ensemble_names_crops_as_it_names_regions() -> None:
    torch.manual_seed(0)
    crop, normalization = CropConfig(size=32, context_pad=2), Normalization()
    teacher = Ensemble([Member(GoogLeNet(NET), crop, normalization) for _ in range(2)], CPU)
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    boxes = np.array([[3, 4, 60, 70], [20, 10, 90, 50], [0, 0, 100, 80]], np.float32)
    crops = to_tensor(crop_regions(image, boxes, crop, normalization.fill))
    expected = teacher.predict(image, boxes).probs
    np.testing.assert_allclose(teacher.name_crops(crops).numpy(), expected, atol=1e-6)
    doubled = torch.nn.functional.interpolate(crops, scale_factor=2, mode="nearest")
    assert teacher.name_crops(doubled).shape == expected.shape


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_an_ensemble_names_regions_of_a_batch_as_it_names_them_in_each_image(temperature: float) -> None:
    torch.manual_seed(0)
    maps, shape = SharedMaps(image_side=96, levels=2, region_side=40), HeadShape(kind="softmax", grid=3, shared=True)
    members = []
    for _ in range(2):
        trunk = Trunk(NET)
        head = RegionHead(shape, 2, trunk.num_features)
        torch.nn.init.normal_(head.classify.weight, std=0.3)
        members.append(Member(trunk, CropConfig(size=32, context_pad=2), Normalization(), head, maps))
    teacher = Ensemble(members, CPU, temperature=temperature)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)  # of the maps' own side
    boxes = np.array([[3, 4, 60, 60], [20, 10, 40, 30], [0, 0, 96, 64]], np.float32)
    owner = np.repeat([0, 1], 3)[:, None]
    rois = torch.from_numpy(np.concatenate([owner, np.tile(boxes, (2, 1))], axis=1).astype(np.float32))
    expected = np.concatenate([teacher.predict(image, boxes).probs for image in images])
    found = teacher.name_regions(to_tensor(images), rois)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert np.ptp(expected[:, 0]) > 0.01


def test_temperature_and_other_crop_sizes() -> None:
    def ensemble(temperature: float) -> Ensemble:
        torch.manual_seed(0)
        crops = [CropConfig(size=size, context_pad=2) for size in (32, 48)]
        members = [Member(GoogLeNet(NET), crop, Normalization()) for crop in crops]
        return Ensemble(members, CPU, temperature=temperature)

    crops = torch.rand(5, 3, 32, 32) * 255
    cold, warm = ensemble(1.0).name_crops(crops), ensemble(2.0).name_crops(crops)
    torch.testing.assert_close(warm, cold.sqrt() / cold.sqrt().sum(1, keepdim=True))
    torch.testing.assert_close(cold.sum(1), torch.ones(5))
