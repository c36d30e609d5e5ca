"""``detector train-localizer`` from annotated pictures to a detector with a localizer, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_line import run
from red_squares import red_squares

from detector.crop import CropConfig
from detector.images.read import read_image
from detector.model.config import BUNDLED_MODEL, read_model_config
from detector.model.load import read_member
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.localizer import read_localizer, read_localizer_facts
from detector.nets.weights import Normalization
from detector.recipes.region import read_localizer_recipe
from detector.training.localizer import LocalizerTrainer

NET: dict[str, Any] = {"norm": "batch", "width": 0.1, "stem": "stride4"}
RECIPE: dict[str, Any] = {
    "task": "localizer",
    "init": "random",
    "training": {
        "trunk": NET,
        "grid": 2,
        "crop": {"size": 32, "context_pad": 6},
        "steps": 8,
        "batch_size": 8,
        "average": 0.8,
        "statistics_batches": 1,
    },
    "model": {"licence": "MIT"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return red_squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with random weights."""
    torch.manual_seed(0)
    net = GoogLeNetConfig(num_outputs=2, **NET)
    folder = tmp_path_factory.mktemp("models") / "model"
    member = (net, GoogLeNet(net).state_dict(), CropConfig(size=32, context_pad=2), Normalization())
    save_model(folder, [member], name="m", class_names=("red",), class_keys=("red",), licence="MIT")
    return folder


def write_recipe(folder: Path, **changes: Any) -> Path:
    path = folder / "localizer.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


def test_from_pictures_to_detections(data: Path, model: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, scenes=[str(data)], init=str(model)), tmp_path / "out"
    assert run("train-localizer", data, "--config", recipe, "--model", model, "--out", out) == 0
    files = {path.name for path in out.iterdir()}
    assert files >= {
        "localizer.yaml", "localizer.safetensors", "model.yaml", "member-0.safetensors",
        "recipe.yaml", "config.yaml", "log.csv", "curves.png", "crops.png",
    }  # fmt: skip
    assert "checkpoint.pt" not in files
    facts = read_localizer_facts(out)
    assert (facts.licence, facts.name) == ("MIT", "out")
    assert set(facts.scores) == {"val_correlation", "val_error", "val_before", "val_after"}
    assert read_image(out / "crops.png").shape[2] == 3
    assert (out / "log.csv").read_text().splitlines()[-1].startswith("8,")
    config = read_model_config(out)
    assert config.localizer == facts.localizer
    assert config.postprocess.overlap_power == 2.0
    picture = data / "val" / "images" / "0.png"
    found = ("detect", picture, "--model", out, "--score-threshold", 0, "--device", "cpu", "--out", tmp_path / "found")
    assert run(*found) == 0
    assert json.loads((tmp_path / "found" / "detections.jsonl").read_text())["detections"]


def test_it_learns_from_proposals_too(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = {"selective_search": {"color_spaces": ["HSV"], "k": [50.0], "min_box_side": 8}, "search_side": None}
    jitter = {"proposed": 0.5, "scenes": 0.25}
    searching = {"pictures": 3, "val_pictures": 2, "proposals": search}
    recipe = write_recipe(tmp_path, searching=searching, training={**RECIPE["training"], "jitter": jitter})
    words = ("train-localizer", data, "--config", recipe, "--proposals", tmp_path / "store")
    assert run(*words, "--out", tmp_path / "out") == 0
    assert "val_proposed" in read_localizer_facts(tmp_path / "out").scores
    log = (tmp_path / "out" / "log.csv").read_text().splitlines()
    assert float(dict(zip(log[0].split(","), log[-1].split(","), strict=True))["correlation_proposed_val"]) <= 1
    assert len(list((tmp_path / "store").rglob("*.proposals"))) == 5
    assert run(*words, "--out", tmp_path / "again") == 0
    weights = ((tmp_path / folder / "localizer.safetensors").read_bytes() for folder in ("out", "again"))
    assert len(set(weights)) == 1
    plain = write_recipe(tmp_path, searching=searching)
    assert run(*words[:3], plain, "--proposals", tmp_path / "unused", "--out", tmp_path / "plain") == 0
    assert not (tmp_path / "unused").exists()


def test_the_trunk_begins_with_the_model_s_first_network(data: Path, model: Path, tmp_path: Path) -> None:
    still = {**RECIPE["training"], "schedule": {"rate": 1e-9}, "steps": 1}
    recipe = write_recipe(tmp_path, half=False, training=still)
    assert run("train-localizer", data, "--config", recipe, "--init", model, "--out", tmp_path / "out") == 0
    net = read_localizer(tmp_path / "out", read_localizer_facts(tmp_path / "out").localizer)
    first = load_first(model)
    torch.testing.assert_close(net.trunk.state_dict()["conv1.conv.weight"], first["conv1.conv.weight"])


def test_it_goes_on_from_another_localizer(data: Path, model: Path, tmp_path: Path) -> None:
    still = {**RECIPE["training"], "schedule": {"rate": 1e-9}, "steps": 1}
    recipe = write_recipe(tmp_path, half=False, training=still)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert run("train-localizer", data, "--config", recipe, "--model", model, "--out", first) == 0
    begun = read_localizer(first, read_localizer_facts(first).localizer).fc.weight
    (first / "localizer.yaml").rename(tmp_path / "away.yaml")  # then it is a model with one
    assert run("train-localizer", data, "--config", recipe, "--init", first, "--out", second) == 0
    assert run("train-localizer", data, "--config", recipe, "--init", second, "--out", third) == 0
    for folder in (second, third):
        net = read_localizer(folder, read_localizer_facts(folder).localizer)
        torch.testing.assert_close(net.fc.weight, begun)
    wider = {**still, "grid": 3}
    other = write_recipe(tmp_path, training=wider)
    assert run("train-localizer", data, "--config", other, "--init", second, "--out", tmp_path / "wider") == 1


def test_the_default_recipe_begins_with_the_bundled_trunk(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("train-localizer", data, "--steps", 1, "--out", out) == 0
    recipe = read_localizer_recipe(out / "recipe.yaml")
    assert (recipe.init, recipe.train_split, recipe.val_split) == ("bundled", "train", "val")
    bundled = read_model_config(BUNDLED_MODEL).members[0]
    mine = read_localizer_facts(out).localizer
    assert mine.trunk == bundled.net.model_copy(update={"num_outputs": mine.trunk.num_outputs})
    assert mine.crop.size == bundled.crop.size
    assert mine.crop.context_pad > bundled.crop.context_pad
    # One step at a low rate leaves the trunk nearly what it was.
    before, after = read_member(BUNDLED_MODEL, bundled, 20).net, read_localizer(out, mine).trunk
    torch.testing.assert_close(before.conv1.conv.weight, after.conv1.conv.weight, atol=0.02, rtol=0)


def test_with_a_model_the_default_recipe_learns_from_what_that_proposes(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load((model / "model.yaml").read_text())
    settings["proposals"] = {**settings["proposals"], "search_side": 48, "max_proposals": 7}
    mine = tmp_path / "mine"
    shutil.copytree(model, mine)
    (mine / "model.yaml").write_text(yaml.safe_dump(settings))
    out, store = tmp_path / "out", tmp_path / "store"
    assert run("train-localizer", data, "--steps", 1, "--model", mine, "--out", out, "--proposals", store) == 0
    recipe = read_localizer_recipe(out / "recipe.yaml")
    assert recipe.training.jitter.proposed == 0.5
    assert recipe.searching.proposals == read_model_config(mine).proposals
    assert (recipe.searching.proposals.search_side, recipe.searching.proposals.max_proposals) == (48, 7)
    assert any(store.iterdir())
    assert "val_proposed" in read_localizer_facts(out).scores
    alone = tmp_path / "alone"
    assert run("train-localizer", data, "--steps", 1, "--out", alone) == 0
    assert read_localizer_recipe(alone / "recipe.yaml").training.jitter.proposed == 0
    assert "val_proposed" not in read_localizer_facts(alone).scores


def load_first(model: Path) -> dict[str, torch.Tensor]:
    from detector.model.load import read_member

    return read_member(model, read_model_config(model).members[0]).net.state_dict()


def test_an_interrupted_run_is_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = LocalizerTrainer.outcome

    def stop_soon(self: LocalizerTrainer, batch: Any) -> Any:
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return original(self, batch)

    recipe, out = write_recipe(tmp_path), tmp_path / "out"
    arguments = ("train-localizer", data, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(LocalizerTrainer, "outcome", stop_soon)
        assert run(*arguments, "--config", recipe) == 130
    assert (out / "checkpoint.pt").exists()
    assert not (out / "localizer.yaml").exists()
    assert run(*arguments, "--config", recipe) == 1  # exists already
    assert run(*arguments, "--resume", "--steps", 9) == 1
    assert run(*arguments, "--resume") == 0
    assert "going on from step 4 of 8" in capsys.readouterr().err
    assert not (out / "model.yaml").exists()
    assert run(*arguments, "--resume") == 1  # finished


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--config", "RECIPE"], "nowhere"),
        (["empty"], "empty"),
        (["DATA", "--config", "missing.yaml"], "missing.yaml: no such file"),
        (["DATA", "--config", "RECIPE", "--init", "nowhere"], "nowhere: no such model directory"),
        (["DATA", "--config", "RECIPE", "--model", "nowhere"], "nowhere: no such model directory"),
        (["DATA", "--config", "RECIPE", "--device", "tpu"], "choose auto, cpu or cuda"),
        (["DATA", "--config", "CLASSES"], "task: "),
        (["DATA", "--config", "WIDE"], "leaves no room"),
    ],
)
def test_wrong_arguments_are_one_line(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    wide = {**RECIPE["training"], "crop": {"size": 32, "context_pad": 16}}
    recipes = {"RECIPE": RECIPE, "CLASSES": {**RECIPE, "task": "regions"}, "WIDE": {**RECIPE, "training": wide}}
    known = {"DATA": str(data)}
    for name, recipe in recipes.items():
        known[name] = str(tmp_path / f"{name}.yaml")
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    assert run("train-localizer", *(known.get(a, a) for a in arguments)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
