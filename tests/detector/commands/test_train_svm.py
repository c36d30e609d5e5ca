"""``detector train --recipe svm``: SVMs on the features of a trained model, and what goes wrong on the way."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run
from PIL import Image
from red_squares import COLOURS
from two_processes import run_two
from voc_sets import voc_xml

from detector.crop import CropConfig
from detector.data import load_dataset
from detector.detection.precision import fast_bfloat16
from detector.detection.suppression import PostprocessConfig
from detector.images.read import read_image
from detector.model.config import ProposalConfig, read_model_config
from detector.model.load import load_model
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Trunk
from detector.nets.int8 import layers_with_ranges
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import SharedMaps
from detector.nets.weights import Normalization, read_weights
from proposals.calibration import Calibration
from proposals.selective_search import SelectiveSearchConfig

CLASSES = ("blue", "red")


def make_data(root: Path, pictures: list[list[str]]) -> Path:
    """Images of grey noise with a square of each label, side by side, and annotations beside them."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, labels in enumerate(pictures):
        image = rng.integers(90, 160, (56, 64, 3), dtype=np.uint8)
        objects = []
        for place, label in enumerate(labels):
            side = int(rng.integers(16, 26))
            x, y = 32 * place + int(rng.integers(0, 31 - side)), int(rng.integers(0, 56 - side))
            image[y : y + side, x : x + side] = COLOURS[label]
            objects.append((label, (x, y, x + side, y + side)))
        Image.fromarray(image).save(root / f"p{number}.png")
        (root / f"p{number}.xml").write_text(voc_xml(f"p{number}.png", (56, 64), objects))
    return root


def save(folder: Path, *, shared: bool = True) -> Path:
    """A model of two classes with random weights; random features are enough for red and blue squares."""
    torch.manual_seed(0)
    config = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.25, stem="stride4")
    search = SelectiveSearchConfig(k=(25.0, 50.0), min_box_side=5.0)
    facts: dict[str, Any] = {
        "name": "t", "class_names": CLASSES, "class_keys": CLASSES, "licence": "MIT",
        "proposals": ProposalConfig(selective_search=search, search_side=64, max_proposals=60),
        "postprocess": PostprocessConfig(score_threshold=0.2, calibration=Calibration(offset=-0.5)),
        "scores": {"val_mean_ap": 0.5},
    }  # fmt: skip
    inputs = CropConfig(size=32, context_pad=2), Normalization()
    if not shared:
        save_model(folder, [(config, GoogLeNet(config).state_dict(), *inputs)], **facts)
        return folder
    trunk = Trunk(config)
    head = RegionHead(HeadShape(kind="softmax", grid=2, shared=True, overlap=2), 2, trunk.num_features)
    maps = SharedMaps(image_side=64, levels=1, region_side=16)
    ranges = dict.fromkeys(layers_with_ranges(trunk), 8.0)
    save_model(folder, [(config, trunk.state_dict(), *inputs)], heads=[head], shared=maps, ranges=ranges, **facts)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("init") / "model")


def train(data: Path, folder: Path, init: Path, *more: object) -> int:
    return run(
        "train", data, "--recipe", "svm", "--init", init, "--out", folder / "svms",
        "--proposals", folder / "proposals", "--device", "cpu", *more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shared", "least"), [pytest.param(True, 0.75, id="shared maps"), pytest.param(False, 0.95, id="crops")]
)
def test_svms_name_the_squares(tmp_path: Path, shared: bool, least: float) -> None:
    """On random features; those of shared maps know the neighbours as well."""
    data = make_data(tmp_path / "data", [["red", "blue"], ["red"], ["blue"], ["blue", "red"]] * 4)
    init = save(tmp_path / "init", shared=shared)
    assert train(data, tmp_path, init) == 0
    out = tmp_path / "svms"
    assert {path.name for path in out.iterdir()} == {"model.yaml", "member-0.safetensors", "config.yaml", "recipe.yaml"}
    detector = load_model(out, device="cpu", score_threshold=0.0)
    dataset = load_dataset(data)
    right = []
    for index in range(len(dataset)):
        truth = dataset.ground_truth(index)
        probs = detector.classifier.predict(dataset.read(index), truth.boxes).probs
        right += (probs[:, :2].argmax(axis=1) == truth.labels).tolist()
    assert np.mean(right) >= least
    found = detector(dataset.read(0))
    assert len(found) > 0
    assert np.all(np.diff(found.scores) <= 0)


def test_all_but_the_classes_stays_the_models(tmp_path: Path, model: Path) -> None:
    assert train(make_data(tmp_path / "data", [["red"], ["blue"]]), tmp_path, model) == 0
    before, after = read_model_config(model), read_model_config(tmp_path / "svms")
    assert after.members[0].head == HeadShape(kind="svm", grid=2, shared=True, overlap=2)
    assert after.postprocess.calibration == Calibration() != before.postprocess.calibration  # it was the softmax's, too
    after = after.model_copy(update={"postprocess": before.postprocess})
    assert after.members[0].ranges
    kept: set[str] = {"proposals", "postprocess", "refinement", "class_names", "class_keys", "background"}
    assert after.model_dump(include=kept) == before.model_dump(include=kept)
    assert after.scores == {}  # they were the softmax's
    old, new = (read_weights(folder / "member-0.safetensors") for folder in (model, tmp_path / "svms"))
    assert {name for name in old.keys() | new.keys() if name not in old or name not in new} == {
        "head.slope", "head.offset",
    }  # fmt: skip
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"head.classify.weight", "head.classify.bias"}


def test_the_same_seed_gives_the_same_bytes_and_a_finished_run_is_left_alone(tmp_path: Path, model: Path) -> None:
    data = make_data(tmp_path / "data", [["red", "blue"], ["blue"], ["red"]])
    for name in ("a", "b"):
        assert train(data, tmp_path / name, model) == 0
    again, first = (tmp_path / name / "svms" / "member-0.safetensors" for name in ("a", "b"))
    assert again.read_bytes() == first.read_bytes()
    made = first.stat().st_mtime_ns
    assert train(data, tmp_path / "b", model, "--resume", "auto") == 0
    assert first.stat().st_mtime_ns == made


@pytest.mark.slow
def test_two_processes_make_the_svms_of_one(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.detection.precision.fast_bfloat16", fast_bfloat16)  # as in the two
    data = make_data(tmp_path / "data", [["red", "blue"], ["blue"], ["red"], ["red", "blue"], []])
    out, threads = tmp_path / "together", torch.get_num_threads()
    words = ("--recipe", "svm", "--init", model, "--out", out, "--proposals", tmp_path / "store", "--device", "cpu")
    said = run_two("-m", "detector", "train", data, *words)
    assert "2 SVMs on" in said[0]
    assert "SVMs on" not in said[1]  # only one of them tells
    torch.set_num_threads(1)
    assert train(data, tmp_path, model) == 0
    torch.set_num_threads(threads)
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "svms").iterdir())
    one, two = (read_weights(folder / "member-0.safetensors") for folder in (tmp_path / "svms", out))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-5)


def test_odd_data_train_all_the_same(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class of a single object, an image without objects, an unreadable one."""
    data = make_data(tmp_path / "data", [["red"], ["red"], ["blue"], ["red"], []])
    (data / "p3.png").write_bytes(b"not an image")
    assert train(data, tmp_path, model) == 0
    said = capsys.readouterr().err
    assert "skipped: " in said
    assert "p3.png" in said
    found = load_model(tmp_path / "svms", device="cpu", score_threshold=0.0)(read_image(data / "p0.png"))
    assert np.isfinite(found.scores).all()


def test_a_class_without_objects_is_never_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", [["red", "blue"], ["red"]])
    (data / "p0.png").write_bytes(b"not an image")  # the only blue is in it
    assert train(data, tmp_path, save(tmp_path / "init")) == 0
    assert "1 classes have no example to train an SVM from" in capsys.readouterr().err
    found = load_model(tmp_path / "svms", device="cpu", score_threshold=0.01)(read_image(data / "p1.png"))
    assert set(found.labels.tolist()) <= {1}


def test_a_set_without_objects_is_one_line(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", [["red", "blue"], []])
    (data / "p0.png").write_bytes(b"not an image")  # the only objects are in it
    assert train(data, tmp_path, model) == 1
    assert "the training data hold no usable object" in capsys.readouterr().err
    assert not list(tmp_path.glob("svms*"))


def test_a_run_that_is_stopped_leaves_nothing(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **given: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("detector.commands.train_svm_run.svm_head", stop)
    assert train(make_data(tmp_path / "data", [["red", "blue"]]), tmp_path, model) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list(tmp_path.glob("svms*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "bundled"], "knows other classes (aeroplane, bicycle, bird, ...)"),
        (["--split", "nowhere"], "split"),
    ],
)
def test_wrong_options_are_one_line(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    data = make_data(tmp_path / "data", [["red", "blue"]])
    assert train(data, tmp_path, model, *options) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
