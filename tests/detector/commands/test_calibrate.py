"""``detector calibrate``: the copy of a model, its temperature, and what it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_nets import MAPS, member
from small_nets import NET as NET_ON_MAPS

from detector.commands.calibrate import halves
from detector.crop import CropConfig
from detector.data import load_dataset
from detector.detection.suppression import calibrated
from detector.model.config import MODEL_FILE, read_model_config
from detector.model.load import load_model
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.weights import Normalization
from detector.recipes.export import join_members
from proposals.errors import UserError

NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of noise with a dark patch of noise each, in YOLO's format."""
    root = tmp_path_factory.mktemp("calibrate") / "photos"
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for i in range(24):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        pixels[8:32, 4:36] //= 8
        Image.fromarray(pixels).save(root / "images" / "val" / f"{i}.png")
        (root / "labels" / "val" / f"{i}.txt").write_text(f"{rng.integers(2)} 0.5 0.5 0.8 0.6\n")
    names = {"names": ["cat", "dog"], "path": ".", "train": "images/val", "val": "images/val"}
    (root / "data.yaml").write_text(yaml.safe_dump(names))
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is sure of what it cannot know."""
    torch.manual_seed(0)
    net = GoogLeNet(NET)
    net(torch.randn(8, 3, 32, 32))
    with torch.no_grad():
        logits = net.eval()(torch.randn(64, 3, 32, 32))
        net.fc.weight.mul_(4 / logits.std(0).max())
        net.fc.bias.sub_((logits * 4 / logits.std(0).max()).mean(0))
    folder = tmp_path_factory.mktemp("calibrate") / "model"
    facts: dict[str, Any] = {"name": "t", "class_names": ("cat", "dog"), "class_keys": ("cat", "dog"), "licence": "MIT"}
    save_model(folder, [(NET, net.state_dict(), CropConfig(size=32, context_pad=2), Normalization())], **facts)
    return folder


def numbers_in(done: Any, pattern: str) -> list[float]:
    """What was said, and the numbers in it from 1 on."""
    found = re.search(pattern, done.out)
    assert found is not None, done.out
    return [0, *map(float, found.groups())]


def test_the_copy_is_less_sure_and_names_the_same(run_cli: Any, data: Path, model: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    done = run_cli("calibrate", model, "--data", data, "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 0, done.err
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    config = read_model_config(tmp_path / "out")
    assert config.temperature > 1.5
    said = numbers_in(done, r"error of (\d+) others \(15 bins\): ([\d.]+) % before, ([\d.]+) % after")
    fitted = numbers_in(done, r"temperature ([\d.]+), fitted to (\d+) objects")
    assert said[1] + fitted[2] == 24
    assert fitted[1] == pytest.approx(config.temperature, rel=1e-3)
    assert said[3] < said[2]
    assert config.scores["calibration_error"] == pytest.approx(said[3] / 100, abs=1e-3)
    assert config.provenance["calibrated"].split()[0] == "detector"
    image = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    boxes = np.array([[2, 2, 30, 30], [5, 0, 40, 20]], np.float32)
    old = load_model(model, device="cpu").classifier.predict(image, boxes).probs.astype(np.float64)
    new = load_model(tmp_path / "out", device="cpu").classifier.predict(image, boxes).probs
    expected = old ** (1 / config.temperature)
    np.testing.assert_allclose(new, expected / expected.sum(axis=1, keepdims=True), atol=1e-4)

    # Calibrating the copy again finds the same: its own temperature is replaced.
    again = run_cli("calibrate", tmp_path / "out", "--data", data, "--out", tmp_path / "again", "--device", "cpu")
    assert again.out.splitlines()[:2] == done.out.splitlines()[:2]
    assert "already exists" in run_cli("calibrate", model, "--data", data, "--out", tmp_path / "out").fault


@pytest.mark.slow
def test_detections_scores_are_calibrated_and_found_as_before(
    run_cli: Any, data: Path, model: Path, tmp_path: Path
) -> None:
    arguments = ("--data", data, "--of", "detections", "--device", "cpu")
    done = run_cli("calibrate", model, *arguments, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    config = read_model_config(tmp_path / "out")
    assert config.temperature == 1
    calibration = config.postprocess.calibration
    said = numbers_in(done, r"error of (\d+) others \(15 bins\): ([\d.]+) % before, ([\d.]+) % after")
    fitted = numbers_in(done, r"fitted to (\d+) detections, (\d+) of them right")
    assert 0 < fitted[2] < fitted[1] / 2
    assert said[3] < said[2]
    assert config.scores["detection_calibration_error"] == pytest.approx(said[3] / 100, abs=1e-3)
    assert re.search(r"scores of 0.5 and more before: \d+; [\d.]+ % are right", done.out)
    # The same detections with other scores, of which the sigmoid makes one of the other.
    image = load_dataset(data, "val").read(0)
    old, new = (load_model(m, device="cpu", score_threshold=0.0)(image) for m in (model, tmp_path / "out"))
    np.testing.assert_array_equal(new.boxes, old.boxes)
    np.testing.assert_allclose(new.scores, calibrated(old.scores, calibration), rtol=1e-5)
    again = run_cli("calibrate", tmp_path / "out", *arguments, "--out", tmp_path / "again")
    assert again.out.splitlines()[:4] == done.out.splitlines()[:4]


@pytest.mark.slow
def test_detections_of_other_classes_do_not_count(run_cli: Any, data: Path, model: Path, tmp_path: Path) -> None:
    """The network calls everything a dog."""
    other = tmp_path / "other"
    shutil.copytree(model, other)
    text = (other / MODEL_FILE).read_text()
    (other / MODEL_FILE).write_text(text.replace("- dog\n", "- bird\n", 1))
    options = ("--of", "detections", "--out", tmp_path / "x", "--device", "cpu")
    assert "no detections" in run_cli("calibrate", other, "--data", data, *options).fault
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--of", "everything"), "say regions, detections or activations"), (("--first", 1), "both need some")],
)
def test_what_cannot_be_calibrated_is_one_line(
    run_cli: Any, data: Path, model: Path, tmp_path: Path, options: tuple[Any, ...], words: str
) -> None:
    done = run_cli("calibrate", model, "--data", data, *options, "--out", "x", "--device", "cpu")
    assert words in done.fault
    assert not (tmp_path / "x").exists()


def test_halves_are_all_pictures_once_and_depend_on_names_alone(data: Path) -> None:
    dataset = load_dataset(data, "val")
    one, other = halves(dataset)
    assert sorted([*one.image_ids, *other.image_ids]) == sorted(dataset.image_ids)
    assert min(len(one), len(other)) >= 5
    turned = halves(dataset.subset(np.arange(len(dataset))[::-1]))
    assert [set(part.image_ids) for part in turned] == [set(one.image_ids), set(other.image_ids)]


@pytest.mark.parametrize("value", [0, -1.5, float("inf"), float("nan"), "warm"])
def test_a_wrong_temperature_in_model_yaml_is_one_line(model: Path, tmp_path: Path, value: Any) -> None:
    content = yaml.safe_load((model / MODEL_FILE).read_text())
    assert content.pop("temperature") == 1.0
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / MODEL_FILE).write_text(yaml.safe_dump(content))
    assert read_model_config(tmp_path).temperature == 1.0  # as models of before say nothing of it
    (tmp_path / MODEL_FILE).write_text(yaml.safe_dump({**content, "temperature": value}))
    with pytest.raises(UserError, match="temperature"):
        read_model_config(tmp_path)


@pytest.mark.int8
def test_with_the_ranges_of_activations_a_model_has_int8(run_cli: Any, data: Path, model: Path, tmp_path: Path) -> None:
    one = member()
    assert one.head is not None
    facts: dict[str, Any] = {"class_names": ("cat", "dog", "cow"), "class_keys": ("cat", "dog", "cow")}
    nets: list[Any] = [(NET_ON_MAPS, one.net.state_dict(), one.crop, one.normalization)]
    save_model(tmp_path / "plain", nets, heads=[one.head], shared=MAPS, name="t", licence="MIT", **facts)
    with pytest.raises(UserError, match="--of activations"):
        load_model(tmp_path / "plain", device="cpu", precision="int8")
    arguments = ("--data", data, "--of", "activations", "--out", tmp_path / "out")
    done = run_cli("calibrate", tmp_path / "plain", *arguments)
    assert done.code == 0, done.err
    config = read_model_config(tmp_path / "out")
    assert [m.ranges for m in config.members] == [True]
    assert config.provenance["activations calibrated"].split()[0] == "detector"
    image, boxes = load_dataset(data, "val").read(0), np.array([[2, 2, 30, 30], [5, 0, 40, 20]], np.float32)
    exact, whole = (
        load_model(tmp_path / "out", device="cpu", precision=precision).classifier.predict(image, boxes).probs
        for precision in ("float32", "int8")
    )
    np.testing.assert_allclose(whole, exact, atol=0.02)
    assert not np.array_equal(whole, exact)
    plain = load_model(tmp_path / "plain", device="cpu", precision="float32").classifier.predict(image, boxes).probs
    np.testing.assert_array_equal(exact, plain)

    joined = join_members([tmp_path / "out", tmp_path / "out"], empty(tmp_path / "two"), "two")
    assert [m.ranges for m in joined.members] == [True, True]
    load_model(tmp_path / "two", device="cpu", precision="int8")
    with torch.no_grad():
        dead = one.net.inception4a.branch1.bn
        dead.weight.zero_()
        dead.bias.fill_(-1)
    nets = [(NET_ON_MAPS, one.net.state_dict(), one.crop, one.normalization)]
    save_model(tmp_path / "dead", nets, heads=[one.head], shared=MAPS, name="t", licence="MIT", **facts)
    silent = run_cli("calibrate", tmp_path / "dead", "--data", data, "--of", "activations", "--out", tmp_path / "no")
    assert "a layer of the networks had nothing to say" in silent.fault
    refused = run_cli("calibrate", model, "--data", data, "--of", "activations", "--out", tmp_path / "no")
    assert "has a network without a head, which has no int8" in refused.fault


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder
