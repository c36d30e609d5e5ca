"""``detector train --recipe head`` from annotated pictures to a model that detects, and what goes wrong on the way."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_line import run
from PIL import Image

from detector.crop import CropConfig
from detector.images.read import read_image
from detector.model.config import read_model_config
from detector.model.load import load_model
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, torchvision_config
from detector.nets.weights import Normalization
from detector.recipes.head import HeadRecipe, read_head_recipe
from detector.training.features import FeatureExtractor
from proposals.boxes import iou

XML = """<annotation><filename>{name}.png</filename><size><width>64</width><height>56</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = """<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>
"""  # noqa: E501
COLOURS = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 200, 20)}
RECIPE: dict[str, Any] = {
    "task": "head",
    "tuning": {"steps": 12, "batch_size": 16},
    "choice": {"candidates": [{"side": 64, "k": [25.0, 50.0]}], "counts": [40], "pictures": 4},
    "head": {"softmax": {"steps": 50}},
}


def add_picture(root: Path, name: str, labels: list[str], rng: np.random.Generator) -> None:
    """Grey noise with a square of each label, side by side."""
    image = rng.integers(90, 160, (56, 64, 3), dtype=np.uint8)
    objects = ""
    for place, label in enumerate(labels):
        side = int(rng.integers(16, 26))
        x, y = 32 * place + int(rng.integers(0, 31 - side)), int(rng.integers(0, 56 - side))
        image[y : y + side, x : x + side] = COLOURS[label]
        objects += OBJECT.format(label=label, x1=x + 1, y1=y + 1, x2=x + side, y2=y + side)
    Image.fromarray(image).save(root / f"{name}.png")
    (root / f"{name}.xml").write_text(XML.format(name=name, objects=objects))


def make_data(root: Path, pictures: list[list[str]], seed: int = 0) -> Path:
    root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number, labels in enumerate(pictures):
        add_picture(root, f"p{number}", labels, rng)
    return root


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a small untrained network."""
    config = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
    torch.manual_seed(0)
    facts: dict[str, Any] = {"name": "t", "class_names": ("a", "b"), "class_keys": ("a", "b"), "licence": "MIT"}
    folder = tmp_path_factory.mktemp("trunk") / "model"
    save_model(folder, [(config, GoogLeNet(config).state_dict(), CropConfig(size=32, context_pad=2), Normalization())],
               **facts)  # fmt: skip
    return folder


def train(data: Path, folder: Path, trunk: Path, out: str = "model", *more: object, **changes: Any) -> int:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return run(
        "train", data, "--config", path, "--init", trunk, "--out", folder / out, "--cache", folder / "cache",
        "--proposals", folder / "proposals", "--device", "cpu", *more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_trained_model_finds_the_squares(tmp_path: Path, trunk: Path, kind: str) -> None:
    data = make_data(tmp_path / "data", [["red", "blue"], ["red"], ["blue"], ["blue", "red"]] * 4)
    assert train(data, tmp_path, trunk, "model", "--head", kind) == 0
    out = tmp_path / "model"
    files = {path.name for path in out.iterdir()}
    assert files >= {
        "model.yaml", "member-0.safetensors", "config.yaml", "recipe.yaml", "crops.png",
        "log.csv", "curves.png", "stages.csv", "proposals.txt",
    }  # fmt: skip
    model = load_model(out, device="cpu", score_threshold=0.2)
    hits = 0
    for number, label in ((1, "red"), (2, "blue")):
        image = read_image(data / f"p{number}.png")
        found = model(image)
        squares = np.argwhere((image == COLOURS[label]).all(axis=2))
        (y1, x1), (y2, x2) = squares.min(axis=0), squares.max(axis=0) + 1
        best = iou(np.array([[x1, y1, x2, y2]], np.float64), found.boxes[:1].astype(np.float64))
        hits += bool(len(found)) and model.class_names[found.labels[0]] == label and float(best.max()) > 0.5
    assert hits == 2


FROZEN: dict[str, Any] = {"tuning": None}


def test_odd_data_train_all_the_same(tmp_path: Path, trunk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class of a single object, one that only the class list knows, a picture without objects, an unreadable one."""
    data = make_data(tmp_path / "data", [["red"], ["red"], ["blue"], ["red"], []])
    (data / "p3.png").write_bytes(b"not a picture")
    assert train(data, tmp_path, trunk, "model", "--head", "svm", **FROZEN) == 0
    said = capsys.readouterr().err
    assert "skipped: " in said
    assert "p3.png" in said
    assert "4 read, 3 objects of 2 classes" in said
    model = load_model(tmp_path / "model", device="cpu", score_threshold=0.0)
    assert model.class_names == ("blue", "red")
    assert np.isfinite(model(read_image(data / "p0.png")).scores).all()


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_one_class_and_one_object(tmp_path: Path, trunk: Path, kind: str) -> None:
    data = make_data(tmp_path / "data", [["red"]])
    assert train(data, tmp_path, trunk, "model", "--head", kind, **FROZEN) == 0
    found = load_model(tmp_path / "model", device="cpu", score_threshold=0.0)(read_image(data / "p0.png"))
    assert set(found.labels.tolist()) == {0}


def test_a_set_without_objects_is_one_line(tmp_path: Path, trunk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", [["red"], []])
    (data / "p0.png").write_bytes(b"not a picture")  # the only object is in it
    assert train(data, tmp_path, trunk) == 1
    assert "the training data hold no usable object" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_rerun_goes_on_from_the_cache(
    tmp_path: Path, trunk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "data", [["red", "blue"], ["blue"], ["red"], ["blue"]])
    extract = FeatureExtractor.__call__
    calls: list[int] = []

    def kill_at_third(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return extract(*arguments)

    monkeypatch.setattr(FeatureExtractor, "__call__", kill_at_third)
    assert train(data, tmp_path, trunk) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert train(data, tmp_path, trunk) == 0
    said = capsys.readouterr().err
    assert "step 12/12" not in said  # the trunk was tuned before
    assert "2 of 4 images were new" in said
    monkeypatch.undo()
    assert train(data, tmp_path, trunk, "again") == 0
    assert "0 of 4 images were new" in capsys.readouterr().err
    again, first = (tmp_path / name / "member-0.safetensors" for name in ("again", "model"))
    assert again.read_bytes() == first.read_bytes()


def test_a_head_model_is_a_trunk_for_the_next(tmp_path: Path, trunk: Path) -> None:
    data = make_data(tmp_path / "data", [["red"], ["blue"]])
    assert train(data, tmp_path, trunk, "first", **FROZEN) == 0
    assert train(data, tmp_path, tmp_path / "first", "second", **FROZEN) == 0
    weights = [(tmp_path / name / "member-0.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]


def test_torchvisions_weights_are_a_trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path / "data", [["red"], ["blue"]])
    torch.manual_seed(0)
    torch.save(GoogLeNet(torchvision_config(10)).state_dict(), tmp_path / "googlenet.pth")
    crop = {"size": 32, "context_pad": 2}
    assert train(data, tmp_path, tmp_path / "googlenet.pth", crop=crop, head={"grid": 1}, **FROZEN) == 0
    config = read_model_config(tmp_path / "model")
    assert config.members[0].net.transform_input
    assert len(load_model(tmp_path / "model", device="cpu", score_threshold=0.0)(read_image(data / "p0.png"))) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--init", "random"], "a head stands on a trained trunk", id="random"),
        pytest.param(["--split", "nowhere"], "split", id="split"),
    ],
)
def test_wrong_options_are_one_line(
    tmp_path: Path, trunk: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    data = make_data(tmp_path / "data", [["red"]])
    assert train(data, tmp_path, trunk, "model", *options, **FROZEN) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_its_options_are_for_this_recipe_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", [["red"]])
    assert run("train", data, "--recipe", "paper", "--head", "svm", "--out", tmp_path / "m") == 1
    assert "--head is for --recipe head" in capsys.readouterr().err
    assert run("train", data, "--members", "3", "--out", tmp_path / "m") == 1
    assert "--members is for --recipe ensemble" in capsys.readouterr().err


def test_it_is_the_recipe_of_a_run_that_names_none(tmp_path: Path, trunk: Path) -> None:
    data = make_data(tmp_path / "data", [["red", "blue"], ["red"]])
    words = [
        "train", data, "--init", trunk, "--out", tmp_path / "model", "--steps", 2, "--cache", tmp_path / "cache",
        "--proposals", tmp_path / "proposals", "--device", "cpu",
    ]  # fmt: skip
    assert run(*words) == 0
    made = (tmp_path / "model" / "member-0.safetensors").stat().st_mtime_ns
    assert run(*words, "--resume", "auto") == 0  # finished already
    assert (tmp_path / "model" / "member-0.safetensors").stat().st_mtime_ns == made


def test_the_file_in_configs_is_the_default() -> None:
    path = Path(__file__).resolve().parents[3] / "configs" / "head.yaml"
    assert read_head_recipe(path) == HeadRecipe()
