"""``detector train --recipe head`` from annotated pictures to a model that detects, and what goes wrong on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detector.cli import main
from detector.crop import CropConfig
from detector.images import read_image
from detector.model import load_model, save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.weights import Normalization
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


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


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
        "model.yaml", "member-0.safetensors", "head-0.safetensors", "config.yaml", "recipe.yaml", "crops.png",
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
