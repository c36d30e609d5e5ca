"""Teachers: from published weights to a pupil that learns from them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_line import run
from published_weights import published_weights
from shared_recipes import RECIPE, TRAINING, write, write_photographs
from shared_training import made_up_pool

from detector.crop import CropConfig
from detector.model.config import SMALL_MODEL, read_model_config
from detector.model.load import load_ensemble, load_model, read_member
from detector.model.save import save_model
from detector.nets.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig, folded_weights
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.weights import Normalization
from detector.recipes.build import crop_trainer, start_crop_net
from detector.recipes.initialization import initialise, start_of
from detector.recipes.region import TrainRecipe
from detector.training.loop import Interrupted
from detector.training.machine import Machine
from detector.training.region_batch import RegionBatch
from detector.training.region_trainer import RegionTrainer
from proposals.errors import UserError

CPU = torch.device("cpu")
MACHINE = Machine(CPU, checkpoint_minutes=1e9)
CLASSES = ("blue", "red")
TEACHER: dict[str, Any] = {
    "init": "random",
    "training": {
        **{key: value for key, value in TRAINING.items() if key not in ("net", "statistics_batches")},
        "net": {"kind": "efficientnet_lite", "num_outputs": 3, "size": 32},
        "frozen_blocks": 3,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "clip": 2.0,
        "statistics_batches": 0,
        "schedule": {"rate": 0.01, "warmup": 0.1},
        "batch_size": 8,
    },
    "model": {"licence": "MIT", "name": "elder"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "lite0.pth"
    torch.save(published_weights(1000), path)
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(folder: Path, keys: tuple[str, ...] = CLASSES) -> EfficientNetLite:
    """A model directory with a net of random weights, in float32."""
    torch.manual_seed(0)
    net = EfficientNetLite(EfficientNetLiteConfig(num_outputs=len(keys) + 1, size=32))
    nets = [(net.config, net.state_dict(), CropConfig(size=40), Normalization())]
    save_model(folder, nets, half=False, name="t", class_names=keys, class_keys=keys, licence="MIT")
    return net


def trainer(folder: Path, init: str = "random", **changes: Any) -> RegionTrainer[Any]:
    pool, training = made_up_pool(), {**TEACHER["training"], "steps": 5, **changes}
    recipe = TrainRecipe.model_validate({**TEACHER, "init": init, "training": training})
    folder.mkdir(exist_ok=True)
    start = partial(start_crop_net, recipe=recipe, class_keys=CLASSES)
    about: dict[str, Any] = {"machine": MACHINE, "report": lambda entry: None, "start": start}
    return crop_trainer(recipe.training, pool, pool, len(CLASSES), folder, **about)


@pytest.mark.slow
def test_from_published_weights_to_a_pupil(data: Path, published: Path, tmp_path: Path) -> None:
    recipe, out = write(tmp_path, TEACHER), tmp_path / "t"
    words = ("train", data, "--config", recipe, "--init", published, "--out", out)
    assert run(*words) == 0
    config = read_model_config(out)
    assert (config.name, config.licence, config.class_names) == ("elder", "MIT", CLASSES)
    assert config.provenance["init"] == str(published)
    assert config.members[0].net.num_outputs == 3
    assert run(*words, "--resume", "auto") == 0  # finished already

    first = folded_weights(published_weights(1000))
    trained = read_member(out, config.members[0]).net.state_dict()
    same = {name for name in trained if name in first and torch.equal(trained[name], first[name].half().float())}
    frozen = ("stem.", *(f"blocks.{i}." for i in range(3)))
    assert same == {name for name in first if name.startswith(frozen) or ".depthwise." in name}
    assert trained["fc.weight"].shape == (3, 1280)

    answers = load_ensemble(out, config, CPU).name_crops(torch.rand(4, 3, 32, 32) * 255)
    assert answers.shape == (4, 3)
    torch.testing.assert_close(answers.sum(1), torch.ones(4))

    training = {**RECIPE["training"], "regions": "drawn", "teacher_share": 0.9}
    pupil = write(tmp_path, {**RECIPE, "training": training, "teacher": str(out)})
    assert run("train", data, "--config", pupil, "--out", tmp_path / "pupil") == 0
    assert load_model(tmp_path / "pupil", device="cpu").class_names == CLASSES
    image = np.full((64, 64, 3), 120, np.uint8)
    assert load_model(out, device="cpu", score_threshold=0.0)(image).image_size == (64, 64)  # it detects as well


@pytest.mark.slow
def test_the_recipe_without_a_file_is_for_the_small_models_crops(data: Path, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "t"
    assert run("train", data, "--recipe", "teacher", "--init", published, "--steps", 1, "--out", out) == 0
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    small = read_model_config(SMALL_MODEL).members[0]
    assert recipe["training"]["crop"] == small.crop.model_dump(mode="json")
    assert recipe["training"]["net"]["num_outputs"] == 3
    assert recipe["training"]["steps"] == 1


@pytest.mark.slow
def test_a_teacher_learns_colours(published: Path, tmp_path: Path) -> None:
    changes = {"steps": 60, "batch_size": 32, "schedule": {"rate": 0.002, "warmup": 0.1}, "frozen_blocks": 0}
    net, sampling = (
        {"kind": "efficientnet_lite", "num_outputs": 3, "size": 32, "dropout": 0.0},
        {"foreground": 0.75, "perturbed": 0.3},
    )
    made = trainer(tmp_path, str(published), **changes, net=net, sampling=sampling)
    made.run()
    assert made.last_metric is not None
    assert made.last_metric >= 0.85


def test_frozen_blocks_do_not_learn_and_the_others_do(tmp_path: Path) -> None:
    for frozen in (0, 16):
        made = trainer(tmp_path / str(frozen), frozen_blocks=frozen, steps=2)
        before = {name: t.clone() for name, t in made.net.state_dict().items()}
        made.run()
        after = made.net.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        learning = {name for name, p in made.net.named_parameters() if p.requires_grad}
        assert changed <= learning
        parts = {name.split(".")[0] for name in changed}
        assert parts == ({"blocks", "head", "fc"} if frozen == 0 else {"head", "fc"})


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    expected = trainer(tmp_path / "whole").run().state_dict()
    first = trainer(tmp_path / "parts")
    stream = first.stream

    def stopped(steps: Iterator[int]) -> Iterator[RegionBatch]:
        for number, batch in enumerate(stream(steps)):
            if number == 2:
                signal.raise_signal(signal.SIGTERM)  # as a scheduler would; this step is done first
            yield batch

    first.stream = stopped  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        first.run()
    assert first.step == 3
    second = trainer(tmp_path / "parts")
    torch.manual_seed(999)  # dropout goes on where it was, whatever state resumption finds
    second.resume()
    state = second.run().state_dict()
    for name, value in expected.items():
        assert torch.equal(value, state[name]), name


def test_gradients_are_cut_to_the_clip(tmp_path: Path) -> None:
    made = trainer(tmp_path, clip=0.01)
    for p in made.net.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    made.adjust_gradients()
    total = torch.cat([p.grad.flatten() for p in made.net.parameters() if p.grad is not None]).norm()
    assert float(total) == pytest.approx(0.01, rel=0.01)


def test_a_model_directory_keeps_the_network(tmp_path: Path) -> None:
    net = saved(tmp_path / "t").eval()
    crops = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        expected = net(Normalization()(crops)).softmax(1)
    config = read_model_config(tmp_path / "t")
    found = load_ensemble(tmp_path / "t", config, CPU).name_crops(crops)
    torch.testing.assert_close(found, expected)
    short = load_ensemble(tmp_path / "t", config, CPU, precision="bfloat16").name_crops(crops)
    assert short.dtype == torch.float32
    torch.testing.assert_close(short, expected, atol=0.05, rtol=0)


def test_the_last_layer_is_taken_from_a_teacher_of_the_same_classes_alone(tmp_path: Path) -> None:
    old = saved(tmp_path / "t").state_dict()
    torch.manual_seed(1)
    net = EfficientNetLite(EfficientNetLiteConfig(num_outputs=3, size=32))
    own = {name: t.clone() for name, t in net.state_dict().items()}
    initialise(net, str(tmp_path / "t"), ("cat", "dog"))
    state = net.state_dict()
    assert torch.equal(state["fc.weight"], own["fc.weight"])
    assert torch.equal(state["head.weight"], old["head.weight"])
    initialise(net, str(tmp_path / "t"), CLASSES)
    assert torch.equal(net.state_dict()["fc.weight"], old["fc.weight"])


def test_weights_of_another_trunk_are_one_line(tmp_path: Path) -> None:
    saved(tmp_path / "t")
    with pytest.raises(UserError, match=r"another architecture \(efficientnet_lite\)"):
        start_of(str(tmp_path / "t"))
    with pytest.raises(UserError, match="weights of another architecture"):
        initialise(GoogLeNet(GoogLeNetConfig(num_outputs=3, width=0.1)), str(tmp_path / "t"), CLASSES)
    with pytest.raises(UserError, match="weights of another architecture"):
        initialise(EfficientNetLite(EfficientNetLiteConfig(num_outputs=3, size=32)), "bundled", CLASSES)


def test_faults_of_the_command_are_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = count()

    def fault(*words: object) -> str:
        assert run("train", data, "--out", tmp_path / f"t{next(runs)}", *words) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(lines) == 1
        return lines[0]

    recipe = write(tmp_path, TEACHER)
    assert "--init" in fault("--recipe", "teacher")
    assert "from published weights only" in fault("--recipe", "teacher", "--init", "random")
    assert "gone.pth: cannot be loaded" in fault("--config", recipe, "--init", "gone.pth")
    torch.save({"fc.weight": torch.zeros(2)}, "other.pth")
    assert "not the weights of EfficientNet-Lite0" in fault("--config", recipe, "--init", "other.pth")
    torch.save([1], "list.pth")
    assert "holds no state dict" in fault("--config", recipe, "--init", "list.pth")
