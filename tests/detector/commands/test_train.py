"""``detector train`` from annotated pictures to a model that detects, and what goes wrong on the way."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from caffe_files import caffemodel
from command_line import run
from red_squares import red_squares
from shared_recipes import write_parts, write_photographs

import detector.training.region_trainer
from detector.commands.train_run import usual_parts
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
    },
    "model": {"licence": "MIT", "proposals": {"search_side": None}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return red_squares(tmp_path_factory.mktemp("squares") / "data", classes=("red", "blue"))


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
    assert [member.ranges for member in config.members] == [member.head is not None for member in config.members]
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

    recipe, out = write_recipe(tmp_path), tmp_path / "model"
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
        ("nowhere", "nowhere"),
        ("DATA --resume", "--resume needs --out"),
        ("DATA --resume --out OUT", "no interrupted run to go on with"),
        ("DATA --config missing.yaml", "missing.yaml: no such file"),
        ("DATA --config RECIPE --init nowhere", "nowhere: no such model directory"),
        ("DATA --config RECIPE --device tpu", "choose auto, cpu or cuda"),
        ("DATA --config UNKNOWN", "optimiser: unknown key"),
        ("DATA --recipe paper --minutes 5 --steps 5", "--minutes and --steps: choose one of them"),
        ("DATA --jobs 2", "--jobs is for an ensemble"),
        ("DATA --recipe svm", "--init: name the trained model"),
        ("DATA --recipe svm --init small --minutes 3", "--minutes and --steps are for the other recipes"),
        ("DATA --recipe svm --init small --out OUT --resume", "--resume is for the other recipes"),
        ("DATA --recipe svm --init small --members 2", "--members is for --recipe ensemble"),
    ],
)
def test_wrong_arguments_are_one_line(run_cli: Any, data: Path, tmp_path: Path, arguments: str, message: str) -> None:
    (tmp_path / "unknown").mkdir()
    recipes = {"RECIPE": write_recipe(tmp_path), "UNKNOWN": write_recipe(tmp_path / "unknown", optimiser="adam")}
    known = {"DATA": data, "OUT": tmp_path / "empty", **recipes}
    done = run_cli("train", *(known.get(word, word) for word in arguments.split()))
    assert done.code == 1
    assert done.error_lines[-1].startswith("error: ")
    assert message in done.error_lines[-1]


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
    with pytest.raises(UserError, match="another architecture"):
        net = GoogLeNet(GoogLeNetConfig(num_outputs=3, norm="batch", width=0.25))
        initialise(net, str(tmp_path / "googlenet-test.pth"))


def test_first_weights_from_caffes_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, net = GoogLeNet(paper_config(7, aux=False)), GoogLeNet(paper_config(21, aux=False))
    (tmp_path / "bvlc_googlenet.caffemodel").write_bytes(caffemodel(source.state_dict()))
    init, head = str(tmp_path / "bvlc_googlenet.caffemodel"), net.fc.weight.clone()
    initialise(net, init)
    assert torch.equal(net.inception5b.branch1.conv.weight, source.inception5b.branch1.conv.weight)
    assert torch.equal(net.fc.weight, head)  # the last layer stays new
    assert start_of(init).net == paper_config(aux=False)


def test_a_model_of_the_same_classes_gives_its_last_layer_too(tmp_path: Path) -> None:
    config = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
    source, folder = GoogLeNet(config), str(tmp_path / "m")
    facts: dict[str, Any] = {"name": "t", "class_names": ("cat", "dog"), "class_keys": ("n1", "n2"), "licence": "MIT"}
    crop = CropConfig(size=32, context_pad=2)
    save_model(tmp_path / "m", [(config, source.state_dict(), crop, Normalization())], half=False, **facts)
    same, other = GoogLeNet(config), GoogLeNet(config)
    new = other.fc.weight.clone()
    initialise(same, folder, ("n1", "n2"))
    initialise(other, folder, ("n1", "n3"))
    assert torch.equal(same.fc.weight, source.fc.weight)
    assert torch.equal(other.fc.weight, new)
    assert torch.equal(other.conv1.conv.weight, source.conv1.conv.weight)
    for factor in (0.5, 2.0):
        net = GoogLeNet(config.model_copy(update={"width": factor * config.width}))
        with pytest.raises(UserError, match=r"^init .*: weights of another architecture .*; set training\.net$"):
            initialise(net, folder, ("n1", "n2"))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "cannot be loaded"), (b"nonsense", "cannot be loaded"), ([1], r"test\.pth: holds no state dict")],
)
def test_damaged_first_weights(tmp_path: Path, content: Any, words: str) -> None:
    path = tmp_path / "googlenet-test.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=words) as caught:
        initialise(GoogLeNet(torchvision_config(5)), str(path))
    assert "\n" not in str(caught.value)


def test_a_faulty_validation_part_is_told_and_no_other_taken_in_its_place(tmp_path: Path) -> None:
    for name in ("photos", "parts"):
        (tmp_path / name).mkdir()
    data = write_parts(write_photographs(tmp_path / "photos"), tmp_path / "parts")
    train, val = usual_parts(data)
    assert val is not None
    assert (train.split, val.split) == ("train", "val")
    (data / "ImageSets/Main/val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"val\.txt"):
        usual_parts(data)
