"""Classifiers of whole pictures: from one to a detector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from shared_recipes import RECIPE, TRAINING, write, write_class_folders, write_photographs

from detector.model.config import read_model_config
from detector.model.load import load_classifier, load_model
from detector.recipes.initialization import initial_weights, start_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("classes"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_from_a_classifier_to_a_detector(
    data: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {**TRAINING, "steps": 40, "statistics_batches": 8, "background": False}
    # Large crops: small ones miss the square, and what is learned then depends on the processor's rounding.
    training["sampling"] = {"foreground": 1.0, "perturbed": 0.0, "iou_foreground": 0.001, "area": [0.6, 1.0]}
    recipe = write(tmp_path, {"train_split": "train", "val_split": "val", "training": training})
    out = tmp_path / "c"
    assert run("train", folders, "--config", recipe, "--out", out) == 0
    config = read_model_config(out)
    assert (config.class_names, config.background) == (("blue", "red"), False)
    assert config.scores["val_top1_of_whole_images"] == 1.0
    image = np.full((40, 40, 3), (220, 20, 20), np.uint8)
    classifier = load_classifier(out, device="cpu")
    probs = classifier.classifier.predict(image, np.array([[0.0, 0, 40, 40]])).probs
    assert probs.shape == (1, 2)
    assert probs[0].argmax() == 1

    for crops in (1, 10, 144):
        measured = tmp_path / f"crops-{crops}"
        words = ("--metric", "images", "--crops", crops, "--model", out, "--out", measured, "--bootstrap", 0)
        assert run("evaluate", "--data", folders, *words) == 0
        content = json.loads((measured / "classification.json").read_text())
        assert content["result"]["crops"] == crops
        assert content["result"]["count"] == 6
        assert content["result"]["top1"] == 1.0

    assert run("train", data, "--config", write(tmp_path, RECIPE), "--init", out, "--out", tmp_path / "d") == 0
    assert load_model(tmp_path / "d", device="cpu").class_names == ("blue", "red")
    assert read_model_config(tmp_path / "d").provenance["init"] == str(out)
    for words in (
        ("evaluate", "--data", data, "--metric", "voc07", "--model", out),
        ("detect", data, "--model", out),
        ("calibrate", out, "--data", data),
    ):
        capsys.readouterr()
        assert run(*words) == 1
        assert "names whole images and cannot detect; give it to train --init" in capsys.readouterr().err


def test_first_weights_have_a_classifiers_last_layer_for_a_classifier_alone(folders: Path, tmp_path: Path) -> None:
    training = {**TRAINING, "background": False, "sampling": {"foreground": 1.0, "iou_foreground": 0.001}}
    recipe = write(tmp_path, {"train_split": "train", "training": training})
    assert run("train", folders, "--config", recipe, "--out", tmp_path / "c") == 0
    again = initial_weights(str(tmp_path / "c"), ("blue", "red"), background=False)
    assert again is not None
    assert again["fc.weight"].shape[0] == 2
    weights = initial_weights(str(tmp_path / "c"), ("blue", "red"))
    assert weights is not None
    assert "conv1.conv.weight" in weights
    assert not [name for name in weights if name.startswith("fc.")]
    start = start_of(str(tmp_path / "c"))
    assert (start.net.width, start.crop.size) == (0.1, 32)
