"""``detector train-multibox`` from annotated pictures to a detector with merged proposals, and what goes wrong."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_line import run
from PIL import Image
from red_squares import red_squares

from detector.crop import CropConfig
from detector.images.read import read_image
from detector.model.config import read_model_config
from detector.model.load import load_model
from detector.model.save import join_multibox, save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.multibox import build_source, read_multibox, read_multibox_facts
from detector.nets.weights import Normalization
from detector.training.multibox import MultiBoxTrainer
from proposals.errors import UserError
from proposals.merge import MergedSource
from proposals.priors import fit, write_google_priors
from proposals.resized import ResizedSource
from proposals.types import Source

NET: dict[str, Any] = {"norm": "batch", "width": 0.1, "stem": "stride4"}
RECIPE: dict[str, Any] = {
    "task": "multibox",
    "training": {
        "trunk": NET,
        "multibox": {"input_size": 32, "reduced": 8, "hidden": 32},
        "num_priors": 6,
        "scenes": {"whole": 1, "crop": 0.5, "mosaic": 0.5, "pieces": [2, 3]},
        "schedule": {"rate": 0.05, "warmup": 0.1},
        "steps": 30,
        "batch_size": 8,
        "average": 0.8,
    },
    "model": {"licence": "MIT", "merge": {"budget": {"multibox": 6}}},
}
CPU = torch.device("cpu")


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
    path = folder / "multibox.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


@pytest.fixture(scope="module")
def trained(data: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the verb makes with --model."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = write_recipe(folder)
    assert run("train-multibox", data, "--config", recipe, "--model", model, "--out", folder / "out") == 0
    return folder / "out"


def picture() -> np.ndarray:
    image = np.full((40, 48, 3), 128, np.uint8)
    image[8:28, 12:32] = (220, 20, 20)
    return image


@pytest.mark.slow
def test_the_folder_is_whole(trained: Path) -> None:
    files = {path.name for path in trained.iterdir()}
    assert files >= {
        "multibox.yaml", "multibox.safetensors", "multibox-priors.txt", "model.yaml", "member-0.safetensors",
        "recipe.yaml", "config.yaml", "log.csv", "curves.png", "pictures.png",
    }  # fmt: skip
    assert "checkpoint.pt" not in files
    facts = read_multibox_facts(trained)
    assert facts.licence == "MIT"
    assert facts.name == "out"
    assert 0 <= facts.scores["val_recall50_at_50"] <= 1
    assert "train" in facts.provenance["data"]
    assert read_image(trained / "pictures.png").shape[2] == 3
    rows = (trained / "log.csv").read_text().splitlines()
    assert rows[-1].startswith("30,")
    config = read_model_config(trained)
    assert config.multibox == facts.multibox
    assert config.class_names == ("red",)
    assert config.provenance["multibox data"] == facts.provenance["data"]


def test_the_model_proposes_with_both_sources(trained: Path) -> None:
    detector = load_model(trained, device="cpu", score_threshold=0.0)
    assert isinstance(detector.proposals, MergedSource)
    assert isinstance(detector.proposals.selective_search, ResizedSource)
    _, found = detector.detect(picture())
    counts = {source: int((found.source == source).sum()) for source in Source}
    assert 0 < counts[Source.MULTIBOX] <= 6  # the recipe's budget
    assert counts[Source.SELECTIVE_SEARCH] > 0
    tiny = detector.detect(np.zeros((1, 9, 3), np.uint8))[1]  # smaller than MultiBox's grid of 2x2
    assert set(tiny.source) <= {Source.SELECTIVE_SEARCH}


def test_selective_search_alone_or_another_multibox(trained: Path, model: Path) -> None:
    alone = load_model(trained, device="cpu", multibox=False).detect(picture())[1]
    assert set(alone.source) == {Source.SELECTIVE_SEARCH}
    assert isinstance(load_model(model, device="cpu").proposals, ResizedSource)
    lent = load_model(model, device="cpu", multibox=trained).detect(picture())[1]
    own = load_model(trained, device="cpu").detect(picture())[1]
    np.testing.assert_array_equal(lent.boxes, own.boxes)
    other = load_model(trained, device="cpu", proposals="single").detect(picture())[1]
    assert set(other.source) == {Source.SELECTIVE_SEARCH, Source.MULTIBOX}


def test_detect_records_both_sources_and_takes_another_preset(trained: Path, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    arguments = ("--model", trained, "--proposals", "single", "--score-threshold", 0, "--device", "cpu")
    assert run("detect", tmp_path / "a.png", *arguments, "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out/detections.jsonl").read_text())["detections"]
    settings = yaml.safe_load((tmp_path / "out/config.yaml").read_text())["config"]["proposals"]
    assert settings["selective_search"]["k"] == [100]
    assert settings["search_side"] == 500
    assert settings["multibox"]["merge"]["budget"]["multibox"] == 6
    assert settings["multibox"]["proposals"]["calibration"]["slope"] > 0


def test_what_is_saved_is_what_was_trained(trained: Path) -> None:
    facts = read_multibox_facts(trained)
    net = read_multibox(trained, facts.multibox)
    source = build_source(trained, facts.multibox, CPU)  # the trunk's normalisation is folded here
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        plain, folded = net(x), source.net(x)
    torch.testing.assert_close(plain.locations, folded.locations, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(plain.logits, folded.logits, atol=1e-3, rtol=1e-3)


def test_an_interrupted_run_is_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = MultiBoxTrainer.outcome

    def stop_soon(self: MultiBoxTrainer, batch: Any) -> Any:
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return original(self, batch)

    recipe, out = write_recipe(tmp_path), tmp_path / "out"
    arguments = ("train-multibox", data, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(MultiBoxTrainer, "outcome", stop_soon)
        assert run(*arguments, "--config", recipe, "--steps", 8) == 130
    assert (out / "checkpoint.pt").exists()
    assert not (out / "multibox.yaml").exists()
    assert run(*arguments, "--config", recipe) == 1  # exists already
    assert run(*arguments, "--resume", "--steps", 9) == 1
    assert run(*arguments, "--resume") == 0
    assert "going on from step 4 of 8" in capsys.readouterr().err
    assert read_multibox_facts(out).name == "out"
    assert not (out / "model.yaml").exists()
    assert run(*arguments, "--resume") == 1  # finished


def test_given_priors_and_first_weights(data: Path, model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.5, (40, 2))
    priors = fit(np.concatenate([corner, corner + 0.3], axis=1), 5)
    write_google_priors(tmp_path / "ipriors5.txt", priors)
    recipe = write_recipe(tmp_path)
    arguments = ("--config", recipe, "--steps", 1, "--priors", tmp_path / "ipriors5.txt", "--init", model)
    assert run("train-multibox", data, *arguments, "--out", tmp_path / "out") == 0
    net = read_multibox(tmp_path / "out", read_multibox_facts(tmp_path / "out").multibox)
    np.testing.assert_array_equal(net.priors.numpy(), priors.boxes)


@pytest.mark.slow
def test_the_default_recipe_needs_no_file(data: Path, tmp_path: Path) -> None:
    assert run("train-multibox", data, "--steps", 1, "--out", tmp_path / "out") == 0
    facts = read_multibox_facts(tmp_path / "out")
    assert len(read_multibox(tmp_path / "out", facts.multibox).priors) == 100
    source = build_source(tmp_path / "out", facts.multibox, CPU)
    assert source.propose(picture()).image_size == (40, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["DATA", "--resume"], "--resume needs --out"),
        (["DATA", "--resume", "--out", "OUT"], "no interrupted run to go on with"),
        (["DATA", "--config", "missing.yaml"], "missing.yaml: no such file"),
        (["DATA", "--config", "RECIPE", "--init", "nowhere"], "nowhere: no such model directory"),
        (["DATA", "--config", "RECIPE", "--model", "nowhere"], "nowhere: no such model directory"),
        (["DATA", "--config", "RECIPE", "--priors", "nowhere.txt"], "nowhere.txt: no such priors file"),
        (["DATA", "--config", "RECIPE", "--device", "tpu"], "choose auto, cpu or cuda"),
        (["DATA", "--config", "UNFIT"], "map of 8x8 but the trunk gives 2x2 for input_size 32: set it to 128"),
        (["DATA", "--config", "MANY"], "50000 priors cannot be fitted to"),
        (["DATA", "--config", "CLASSES"], "task: "),
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
    training = RECIPE["training"]
    recipes = {
        "RECIPE": RECIPE,
        "UNFIT": {**RECIPE, "training": {**training, "multibox": {"head": "convolutional", "input_size": 32}}},
        "MANY": {**RECIPE, "training": {**training, "num_priors": 50_000}},
        "CLASSES": {**RECIPE, "task": "regions"},
    }
    known = {"DATA": str(data), "OUT": str(tmp_path / "empty")}
    for name, recipe in recipes.items():
        known[name] = str(tmp_path / f"{name}.yaml")
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    assert run("train-multibox", *(known.get(a, a) for a in arguments)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def damage(source: Path, target: Path, name: str, content: bytes | None) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    if content is None:
        (target / name).unlink()
    else:
        (target / name).write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("multibox.safetensors", None, "MultiBox's multibox.safetensors is missing"),
        ("multibox-priors.txt", None, "MultiBox's multibox-priors.txt is missing"),
        ("multibox.safetensors", b"cut off", "SHA-256 differs"),
        ("multibox-priors.txt", b"priors 0\n", "SHA-256 differs"),
    ],
)
def test_damaged_members_are_one_line(
    trained: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    folder = damage(trained, tmp_path / "copy", name, content)
    with pytest.raises(UserError, match=message):
        load_model(folder, device="cpu")
    assert load_model(folder, device="cpu", multibox=False).class_names == ("red",)


def test_joining_faults(trained: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a model directory already"):
        join_multibox(model, trained, model)
    with pytest.raises(UserError, match=r"not a MultiBox folder: it has no multibox\.yaml"):
        join_multibox(model, model, tmp_path / "out")
    with pytest.raises(UserError, match="no such MultiBox folder"):
        load_model(model, device="cpu", multibox=tmp_path / "nowhere")
    joined = join_multibox(model, trained, tmp_path / "joined")
    assert joined.multibox is not None
    assert isinstance(load_model(tmp_path / "joined", device="cpu").proposals, MergedSource)


def test_a_member_that_leaves_the_folder_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = damage(trained, tmp_path / "copy", "nothing", b"")
    settings = yaml.safe_load((folder / "model.yaml").read_text())
    settings["multibox"]["file"] = "../multibox.safetensors"
    (folder / "model.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match=r"multibox\.file: .*must be the name of"):
        load_model(folder, device="cpu")


def test_detect_with_a_lent_multibox_and_without_the_own_one(trained: Path, model: Path, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    arguments = ("detect", tmp_path / "a.png", "--score-threshold", 0, "--device", "cpu", "--proposal-pictures")

    def settings(out: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((tmp_path / out / "config.yaml").read_text())["config"]["proposals"]
        return found

    assert run(*arguments, "--model", model, "--multibox", trained, "--out", tmp_path / "lent") == 0
    assert "multibox" in settings("lent")
    assert run(*arguments, "--model", trained, "--no-multibox", "--out", tmp_path / "alone") == 0
    assert "multibox" not in settings("alone")
    assert run(*arguments, "--model", trained, "--no-multibox", "--multibox", trained) == 1
    lent, alone = (read_image(tmp_path / name / "proposals" / "a.jpg") for name in ("lent", "alone"))
    assert lent.shape == alone.shape == picture().shape
    assert (lent != alone).any()


def test_evaluate_proposals_knows_multibox_and_both_ways_of_joining(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = "single,multibox,single+multibox,single-then-multibox"
    arguments = ("evaluate-proposals", "--data", data, "--split", "val", "--methods", methods, "--budgets", "3,6")
    settings = ("--multibox", trained, "--multibox-budget", 4, "--search-side", 96)
    assert run(*arguments, *settings, "--out", tmp_path / "out") == 0
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = {(row["method"], row["budget"]): row for row in csv.DictReader(file)}
    assert len(rows) == 4 * 3
    boxes = {name: float(rows[name, "all"]["boxes"]) for name in methods.split(",")}
    recalls = {name: float(rows[name, "all"]["recall@0.5"]) for name in methods.split(",")}
    assert boxes["single+multibox"] <= boxes["single-then-multibox"]
    assert boxes["single"] < boxes["single-then-multibox"] <= boxes["single"] + 6
    # Nothing is lost by joining: recall is at least selective search's.
    assert recalls["single-then-multibox"] >= recalls["single"]
    assert all(float(row["seconds"]) > 0 for row in rows.values())
    assert float(rows["multibox", "all"]["recall@0.9"]) <= float(rows["multibox", "all"]["recall@0.5"])
    with (tmp_path / "out" / "curve.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == set(methods.split(","))
    capsys.readouterr()
    assert run(*arguments, "--multibox", tmp_path / "nowhere") == 1
    assert "no such MultiBox folder" in capsys.readouterr().err
    assert run(*arguments[:-1], "ten") == 1
    assert "--budgets 'ten'" in capsys.readouterr().err


def test_methods_with_multibox_need_a_network(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate-proposals", "--data", data, "--methods", "single+multibox", "--out", tmp_path / "out") == 1
    assert "name a folder of train-multibox with --multibox" in capsys.readouterr().err
