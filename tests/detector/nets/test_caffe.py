"""A .caffemodel of GoogLeNet gives our network what Caffe's computes, from RGB in place of BGR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from caffe_files import caffemodel

from detector.nets.caffe import CAFFE_MEAN, read_caffe_weights
from detector.nets.googlenet import GoogLeNet, paper_config
from detector.nets.weights import Normalization
from proposals.errors import UserError


@pytest.fixture(scope="module")
def caffes() -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(paper_config(5, aux=False)).eval()


@pytest.fixture(scope="module")
def written(caffes: GoogLeNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("caffe") / "googlenet.caffemodel"
    path.write_bytes(caffemodel(caffes.state_dict()))
    return path


def test_every_layer_arrives(caffes: GoogLeNet, written: Path) -> None:
    state = read_caffe_weights(written)
    assert sorted(state) == sorted(caffes.state_dict())
    for name, tensor in caffes.state_dict().items():
        if not name.startswith("conv1."):
            assert torch.equal(state[name], tensor), name


def test_files_of_before_2015(caffes: GoogLeNet, written: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.caffemodel"
    path.write_bytes(caffemodel(caffes.state_dict(), old=True))
    old, new = read_caffe_weights(path), read_caffe_weights(written)
    assert all(torch.equal(old[name], tensor) for name, tensor in new.items())


def test_rgb_with_our_normalisation_gives_what_bgr_less_caffes_mean_gives(caffes: GoogLeNet, written: Path) -> None:
    ours = GoogLeNet(paper_config(5, aux=False)).eval()
    ours.load_state_dict(read_caffe_weights(written))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64)).astype(np.uint8))  # RGB
    theirs = pixels.float() - torch.tensor(CAFFE_MEAN).view(1, 3, 1, 1)
    with torch.inference_mode():
        found, expected = ours.conv1(Normalization()(pixels)), caffes.conv1(theirs.flip(1))
    inner = (..., slice(2, -2), slice(2, -2))  # a border of zeros is another colour
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "expected GoogLeNet's weights"),
        (lambda data: b"<html>not found</html>", "not a .caffemodel"),
        (lambda data: data[:-1000], "not a .caffemodel (it ends too early)"),
        (lambda data: data[:1000], "not a .caffemodel (it ends too early)"),
        (
            lambda data: data.replace(b"inception_4a/1x1", b"inception_9a/1x1"),
            "'inception4a.branch1.conv.weight' differs",
        ),
    ],
    ids=["empty", "a page", "cut short", "cut in a layer", "another network"],
)
def test_other_files(written: Path, tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.caffemodel"
    path.write_bytes(change(written.read_bytes()))
    with pytest.raises(UserError) as caught:
        read_caffe_weights(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_are_read_or_refused_in_one_line(written: Path, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(written.read_bytes())
    for place in rng.integers(0, 60, 2):  # the first layers' keys, sizes and names
        data[place] = rng.integers(0, 256)
    path = tmp_path / "x.caffemodel"
    path.write_bytes(data[: rng.integers(1, len(data))] if seed % 2 else data)
    found: dict[str, torch.Tensor] | str
    try:
        found = read_caffe_weights(path)
    except UserError as error:
        found = str(error)
    assert "\n" not in found if isinstance(found, str) else found["conv1.conv.weight"].shape == (64, 3, 7, 7)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_caffe_weights(tmp_path / "none.caffemodel")
