"""``detector train`` from annotated pictures to a model that detects, and what goes wrong on the way."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from caffe_files import caffemodel
from command_line import run
from PIL import Image

import detector.training.region_trainer
from detector.commands.train_common import read_data
from detector.crop import CropConfig
from detector.images.read import read_image
from detector.model.config import read_model_config
from detector.model.load import load_model
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, paper_config, torchvision_config
from detector.nets.weights import Normalization
from detector.recipes.initialization import initialise, start_of
from proposals.errors import UserError

RECIPE: dict[str, Any] = {
    "train_split": "train",
    "val_split": "val",
    "training": {
        "net": {"norm": "batch", "width": 0.1, "stem": "stride4"},
        "crop": {"size": 32, "context_pad": 2},
        "schedule": {"rate": 0.1, "warmup": 0.1},
        "steps": 60,
        "batch_size": 16,
        "average": 0.9,
    },
    "model": {"licence": "MIT", "proposals": {"search_side": None}},
}
XML = """<annotation><filename>{name}.png</filename><size><width>48</width><height>40</height><depth>3</depth></size>
<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>
</annotation>"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC data set of red and blue squares on grey noise."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for i in range(16):
        image = rng.integers(90, 160, (40, 48, 3), dtype=np.uint8)
        x, y, side, label = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(14, 24)), i % 2
        image[y : y + side, x : x + side] = (220, 20, 20) if label == 0 else (20, 20, 220)
        Image.fromarray(image).save(root / "JPEGImages" / f"{i}.png")
        fields = {"x1": x + 1, "y1": y + 1, "x2": x + side, "y2": y + side}
        (root / "Annotations" / f"{i}.xml").write_text(XML.format(name=i, label=("red", "blue")[label], **fields))
    (root / "ImageSets/Main/train.txt").write_text("".join(f"{i}\n" for i in range(12)))
    (root / "ImageSets/Main/val.txt").write_text("".join(f"{i}\n" for i in range(12, 16)))
    return root


def write_recipe(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


@pytest.mark.slow
def test_trained_model_finds_the_squares(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    assert run("train", data, "--config", write_recipe(tmp_path), "--out", out) == 0
    files = {path.name for path in out.iterdir()}
    assert files >= {"model.yaml", "member-0.safetensors", "log.csv", "curves.png", "crops.png", "config.yaml"}
    assert "checkpoint.pt" not in files
    config = read_model_config(out)
    assert sorted(config.class_names) == ["blue", "red"]
    assert config.licence == "MIT"
    assert config.scores["val_top1_on_annotated_boxes"] >= 0.75
    assert read_image(out / "crops.png").shape[2] == 3
    assert "the model is in" in capsys.readouterr().err

    model = load_model(out, device="cpu", score_threshold=0.5)
    image = np.full((40, 48, 3), 128, np.uint8)
    image[8:28, 12:32] = (220, 20, 20)
    found = model(image)
    assert model.class_names[found.labels[0]] == "red"
    assert np.abs(found.boxes[0] - [12, 8, 32, 28]).max() <= 4


@pytest.mark.slow
def test_an_interrupted_run_is_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = detector.training.region_trainer.RegionTrainer
    original = trainer._log

    def stop_at_first_line(self: Any, *args: Any) -> None:
        original(self, *args)
        signal.raise_signal(signal.SIGTERM)

    recipe = write_recipe(tmp_path)
    out = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_log", stop_at_first_line)
        assert run("train", data, "--config", recipe, "--out", out) == 130
    assert (out / "checkpoint.pt").exists()
    assert not (out / "model.yaml").exists()
    assert run("train", data, "--config", recipe, "--out", out) == 1  # exists already
    assert run("train", data, "--out", out, "--resume") == 0
    assert (out / "model.yaml").exists()
    assert run("train", data, "--out", out, "--resume") == 1  # finished


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["DATA", "--resume"], "--resume needs --out"),
        (["DATA", "--resume", "--out", "OUT"], "no interrupted run to go on with"),
        (["DATA", "--config", "missing.yaml"], "missing.yaml: no such file"),
        (["DATA", "--config", "RECIPE", "--init", "nowhere"], "nowhere: no such model directory"),
        (["DATA", "--config", "RECIPE", "--device", "tpu"], "choose auto, cpu or cuda"),
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
    known = {"DATA": str(data), "RECIPE": str(write_recipe(tmp_path)), "OUT": str(tmp_path / "empty")}
    assert run("train", *(known.get(a, a) for a in arguments)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_unknown_key_in_a_recipe(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", data, "--config", write_recipe(tmp_path, optimiser="adam")) == 1
    assert "optimiser: unknown key" in capsys.readouterr().err


def test_first_weights_from_torchvisions_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = GoogLeNet(torchvision_config(1000, aux=True))
    torch.save(source.state_dict(), tmp_path / "googlenet-test.pth")
    net = GoogLeNet(torchvision_config(21))
    head = net.fc.weight.clone()
    initialise(net, str(tmp_path / "googlenet-test.pth"))
    assert torch.equal(net.conv1.conv.weight, source.conv1.conv.weight)
    assert torch.equal(net.fc.weight, head)  # the last layer stays new
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(net.eval().features(x), source.eval().features(x))


def test_first_weights_from_caffes_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, net = GoogLeNet(paper_config(7, aux=False)), GoogLeNet(paper_config(21, aux=False))
    (tmp_path / "bvlc_googlenet.caffemodel").write_bytes(caffemodel(source.state_dict()))
    init, head = str(tmp_path / "bvlc_googlenet.caffemodel"), net.fc.weight.clone()
    initialise(net, init)
    assert torch.equal(net.inception5b.branch1.conv.weight, source.inception5b.branch1.conv.weight)
    assert torch.equal(net.fc.weight, head)  # the last layer stays new
    assert start_of(init).net == paper_config(aux=False)


def write_two_classes(folder: Path) -> GoogLeNet:
    """A model directory of the classes n1 and n2, exact; its net."""
    config = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
    source = GoogLeNet(config)
    facts: dict[str, Any] = {"name": "t", "class_names": ("cat", "dog"), "class_keys": ("n1", "n2"), "licence": "MIT"}
    crop = CropConfig(size=32, context_pad=2)
    save_model(folder, [(config, source.state_dict(), crop, Normalization())], half=False, **facts)
    return source


def test_a_model_of_the_same_classes_gives_its_last_layer_too(tmp_path: Path) -> None:
    source = write_two_classes(tmp_path / "m")
    same, other = GoogLeNet(source.config), GoogLeNet(source.config)
    new = other.fc.weight.clone()
    initialise(same, str(tmp_path / "m"), ("n1", "n2"))
    initialise(other, str(tmp_path / "m"), ("n1", "n3"))
    assert torch.equal(same.fc.weight, source.fc.weight)
    assert torch.equal(other.fc.weight, new)
    assert torch.equal(other.conv1.conv.weight, source.conv1.conv.weight)


def test_first_weights_of_another_architecture(tmp_path: Path) -> None:
    torch.save(GoogLeNet(torchvision_config(1000)).state_dict(), tmp_path / "googlenet-test.pth")
    net = GoogLeNet(GoogLeNetConfig(num_outputs=3, norm="batch", width=0.25))
    with pytest.raises(UserError, match="another architecture"):
        initialise(net, str(tmp_path / "googlenet-test.pth"))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_first_weights_of_another_width(tmp_path: Path, factor: float) -> None:
    source = write_two_classes(tmp_path / "m")
    net = GoogLeNet(source.config.model_copy(update={"width": factor * source.config.width}))
    with pytest.raises(UserError, match=r"^init .*: weights of another architecture .*; set training\.net$"):
        initialise(net, str(tmp_path / "m"), ("n1", "n2"))


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_damaged_first_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "googlenet-test.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        initialise(GoogLeNet(torchvision_config(5)), str(path))
    assert "\n" not in str(caught.value)


def test_first_weights_that_are_none(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth: holds no state dict"):
        initialise(GoogLeNet(torchvision_config(5)), str(tmp_path / "list.pth"))


def test_a_faulty_validation_part_is_told_and_no_other_taken_in_its_place(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    (copy / "ImageSets/Main/test.txt").write_text("12\n13\n")
    train, val = read_data(copy, None)
    assert val is not None
    assert (train.split, val.split) == ("train", "val")
    (copy / "ImageSets/Main/val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"val\.txt"):
        read_data(copy, None)
