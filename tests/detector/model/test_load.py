"""Model directories: what is written is what is read, and every fault is one clear line."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save

from detector.crop import CropConfig
from detector.model.config import BUNDLED_MODEL, MODEL_FILE, read_model_config
from detector.model.load import load_classifier, load_model
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.weights import Normalization, save_weights, sha256
from proposals.errors import UserError

NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
CROP = CropConfig(size=32, context_pad=2)
MEMBER = "member-0.safetensors"


def write_model(folder: Path, members: int = 2, **facts: Any) -> Path:
    nets = []
    for seed in range(members):
        torch.manual_seed(seed)
        nets.append((NET, GoogLeNet(NET).state_dict(), CROP, Normalization()))
    given = {"name": "test", "class_names": ("cat", "dog"), "class_keys": ("n1", "n2"), "licence": "MIT", **facts}
    save_model(folder, nets, **given)
    return folder


def edit(folder: Path, **changes: Any) -> Path:
    path = folder / MODEL_FILE
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def test_round_trip(tmp_path: Path) -> None:
    scores = {"map": 0.25}
    folder = write_model(tmp_path / "m", scores=scores, provenance={"data": "made up"}, description="Ünïcode")
    config = read_model_config(folder)
    assert (config.scores, config.class_names, config.description) == (scores, ("cat", "dog"), "Ünïcode")
    assert [m.file for m in config.members] == ["member-0.safetensors", "member-1.safetensors"]
    detector = load_model(folder, device="cpu", score_threshold=0.0, max_proposals=40)
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found, proposals = detector.detect(image)
    assert detector.class_names == ("cat", "dog")
    assert found.image_size == proposals.image_size == (48, 64)
    assert len(found) > 0
    again = load_model(folder, device="cpu", score_threshold=0.0, max_proposals=40)(image)
    np.testing.assert_array_equal(again.boxes, found.boxes)
    np.testing.assert_array_equal(again.scores, found.scores)


def test_half_precision_halves_the_file_and_keeps_the_values(tmp_path: Path) -> None:
    state = GoogLeNet(NET).state_dict()
    save_weights(tmp_path / "full.safetensors", state)
    save_weights(tmp_path / "half.safetensors", state, half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.65 * sizes[1]  # the header does not shrink


def test_classes_can_be_left_out(model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    limits = {"score_threshold": 0.0, "max_detections": 10_000}
    everything = load_model(model, device="cpu", **limits)(image)  # type: ignore[arg-type]
    dogs = load_model(model, device="cpu", classes=["n2"], **limits)(image)  # type: ignore[arg-type]
    assert set(everything.labels) == {0, 1}
    assert set(dogs.labels) == {1}
    np.testing.assert_array_equal(dogs.scores, everything.scores[everything.labels == 1])
    with pytest.raises(UserError, match="the model has no class 'doge'; did you mean 'dog'"):
        load_model(model, classes=["doge"])
    with pytest.raises(UserError, match=f"no class 'bird'; its 2 names stand in {model / MODEL_FILE}$"):
        load_model(model, classes=["bird"])


def test_members_can_be_left_out(model: Path) -> None:
    assert load_model(model, device="cpu", members=1).classifier.num_members == 1  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"members 3: .* has 2"):
        load_model(model, members=3)


def test_a_model_without_background_names_whole_images_and_does_not_detect(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", class_names=("a", "b", "c"), class_keys=("1", "2", "3"), background=False)
    classifier, names = load_classifier(folder, device="cpu", members=1)
    probs = classifier.predict(np.zeros((20, 30, 3), np.uint8), np.array([[0, 0, 30, 20]], np.float32)).probs
    assert (probs.shape, names) == ((1, 3), ("a", "b", "c"))
    with pytest.raises(UserError, match="names whole images and cannot detect"):
        load_model(folder, device="cpu")
    assert "3 classes need 4" in fault_of(edit(folder, background=True))


def test_a_model_is_not_overwritten(model: Path) -> None:
    with pytest.raises(UserError, match="is a model directory already"):
        write_model(model)


def test_auxiliary_heads_are_not_stored(tmp_path: Path) -> None:
    net = NET.model_copy(update={"aux": True, "aux_pool": "adaptive"})
    facts: dict[str, Any] = {"name": "t", "class_names": ("a", "b"), "class_keys": ("a", "b"), "licence": "MIT"}
    save_model(tmp_path / "m", [(net, GoogLeNet(net).state_dict(), CROP, Normalization())], **facts)
    assert load_model(tmp_path / "m", device="cpu").class_names == ("a", "b")


def fault_of(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_model(folder, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_no_model(tmp_path: Path) -> None:
    assert "no such model directory" in fault_of(tmp_path / "nowhere")
    assert f"it has no {MODEL_FILE}" in fault_of(tmp_path)


def rewrite(folder: Path, file: str, change: Callable[[bytes], bytes], recorded: bool = False) -> None:
    """Change the bytes of a file; with its checksum in ``model.yaml``, if that is to be the new one."""
    path = folder / file
    path.write_bytes(change(path.read_bytes()))
    if recorded:
        members = yaml.safe_load((folder / MODEL_FILE).read_text())["members"]
        members[0]["sha256"] = sha256(path)
        edit(folder, members=members)


def weights(**changes: Any) -> Callable[[bytes], bytes]:
    """The file of a network of other settings, and of some other tensors."""
    outputs = changes.pop("num_outputs", 3)
    state = {**GoogLeNet(NET.model_copy(update={"num_outputs": outputs})).state_dict(), **changes}
    return lambda data: save({name: tensor.contiguous() for name, tensor in state.items()})


NAN = {"fc.bias": torch.full((3,), float("nan"))}
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing member": (
        lambda m: (m / "member-1.safetensors").unlink(), "member-1.safetensors named in model.yaml is missing",
    ),
    "unknown key": (lambda m: edit(m, colour="red"), "colour: unknown key"),
    "not YAML": (lambda m: rewrite(m, MODEL_FILE, lambda data: b"name: [unclosed\n"), "not valid YAML"),
    "repeated key": (lambda m: rewrite(m, MODEL_FILE, lambda data: data + b"licence: x\n"), "'licence' stands twice"),
    "too few classes": (
        lambda m: edit(m, class_names=["cat"], class_keys=["n1"]), "has 3 outputs; 1 classes need 2",
    ),
    "truncated": (lambda m: rewrite(m, MEMBER, lambda data: data[:1000]), "not a safetensors file"),
    "empty": (lambda m: rewrite(m, MEMBER, lambda data: b""), "not a safetensors file"),
    "changed": (lambda m: rewrite(m, MEMBER, lambda data: data[:-1] + bytes([data[-1] ^ 1])), "SHA-256 differs"),
    "another shape": (lambda m: rewrite(m, MEMBER, weights(num_outputs=9), True), "'fc.weight' of shape (9,"),
    "not finite": (lambda m: rewrite(m, MEMBER, weights(**NAN), True), "'fc.bias' that are not finite"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_one_line(model: Path, fault: str) -> None:
    change, message = FAULTS[fault]
    change(model)
    assert message in fault_of(model)


class Harmful:
    """A pickle that would make a folder if it were loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.folder,)


def test_pickles_are_refused_and_not_run(model: Path, tmp_path: Path) -> None:
    rewrite(model, MEMBER, lambda data: pickle.dumps(Harmful(tmp_path / "harm")), True)
    assert "not a safetensors file" in fault_of(model)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"device": "gpu"}, "choose auto, cpu or cuda"),
        ({"score_threshold": 7.0}, "score_threshold: Input should be less than or equal to 1"),
        ({"proposals": "fats"}, "no preset 'fats'"),
        ({"max_proposals": 0}, "max_proposals: Input should be greater than or equal to 1"),
    ],
)
def test_wrong_settings(model: Path, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(model, **{"device": "cpu", **setting})


def test_the_bundled_model_is_whole() -> None:
    config = read_model_config(BUNDLED_MODEL)
    for member in config.members:
        assert sha256(BUNDLED_MODEL / member.file) == member.sha256
    assert len(load_model(device="cpu").class_names) == len(config.class_names)


@pytest.mark.parametrize(
    ("where", "value", "fault"),
    [
        (("normalization", "std"), [0, 57.0, 57.0], "members.0.normalization.std.0: Input should be greater than"),
        (("normalization", "mean"), [1e9, 0, 0], "members.0.normalization.mean.0: Input should be less than"),
        (("net", "num_outputs"), 10**12, "members.0.net.num_outputs: Input should be less than"),
        (("net", "num_outputs"), 10**30, "is too large"),
        (("net", "width"), float("inf"), "'.inf' is not a finite number"),
        (("crop", "size"), [3], "members.0.crop.size: Input should be a valid integer"),
        (("file",), "\x1b[31m/../x", "members.0.file: Value error, must be the name of a .safetensors file"),
    ],
)
def test_settings_that_nothing_can_be_built_of(model: Path, where: tuple[str, ...], value: Any, fault: str) -> None:
    members = yaml.safe_load((model / MODEL_FILE).read_text())["members"]
    place = members[0]
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    assert fault in fault_of(edit(model, members=members))
