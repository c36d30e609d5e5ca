"""The weights in a ``.caffemodel`` of GoogLeNet, such as Berkeley's ``bvlc_googlenet``, which knows ImageNet.

The file is a message of protocol buffers (Caffe's ``caffe.proto``): a network has layers (field 100, or 2 in files of
before 2015), a layer a name (1, or 4) and blobs (7, or 6), a blob packed floats (5). Everything else is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.nets.googlenet import TABLE_1, GoogLeNet, paper_config
from detector.nets.weights import Normalization
from proposals.errors import UserError

CAFFE_MEAN = (123.0, 117.0, 104.0)  # of R, G and B; Caffe's networks see BGR, 0 to 255, and do not divide it
LAYERS = {100: (1, 7), 2: (4, 6)}  # of a network: the fields of a layer's name and blobs
MOST_CLASSES = 1_000_000
VARINT, EIGHT_BYTES, COUNTED, FOUR_BYTES = 0, 1, 2, 5
BRANCHES = {
    "branch1": "1x1",
    "branch2.0": "3x3_reduce",
    "branch2.1": "3x3",
    "branch3.0": "5x5_reduce",
    "branch3.1": "5x5",
    "branch4.1": "pool_proj",
}


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The number and content of each field of a message, of those whose content is counted bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            _, at = _varint(data, at)
            continue
        if kind == COUNTED:
            size, at = _varint(data, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + size > len(data):
            raise ValueError("it ends too early")
        if kind == COUNTED:
            yield key >> 3, data[at : at + size]
        at += size


def _blobs(path: Path) -> dict[str, list[Tensor]]:
    """The weights of each layer that has some, flat, by the layer's name."""
    found: dict[str, list[Tensor]] = {}
    for field, layer in _fields(memoryview(path.read_bytes())):
        if field not in LAYERS:
            continue
        name_field, blob_field = LAYERS[field]
        name, blobs = "", []
        for part, content in _fields(layer):
            if part == name_field:
                name = bytes(content).decode()
            elif part == blob_field:
                blobs += [np.frombuffer(values, "<f4") for number, values in _fields(content) if number == 5]
        if blobs:
            found[name] = [torch.from_numpy(values.astype(np.float32)) for values in blobs]
    return found


def caffe_layers() -> dict[str, str]:
    """Caffe's name of each layer of :class:`GoogLeNet` that has weights, by ours."""
    names = {"conv1": "conv1/7x7_s2", "conv2": "conv2/3x3_reduce", "conv3": "conv2/3x3"}
    for row in TABLE_1:
        names.update({f"inception{row}.{ours}": f"inception_{row}/{theirs}" for ours, theirs in BRANCHES.items()})
    return {**{f"{ours}.conv": theirs for ours, theirs in names.items()}, "fc": "loss3/classifier"}


def read_caffe_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of the paper's GoogLeNet in a ``.caffemodel``, for RGB with the default :class:`Normalization`.

    The first layer is rewritten for that input: its channels turned round, its weights times the deviations, its biases
    moved by what the means differ. The auxiliary classifiers are left out.

    Raises:
        UserError: the file is missing, damaged or of another network.
    """
    try:
        blobs = _blobs(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not a .caffemodel ({error})") from None
    last = blobs.get("loss3/classifier")
    classes = len(last[-1]) if last is not None else 0
    if not 0 < classes <= MOST_CLASSES:
        raise UserError(f"{path}: expected GoogLeNet's weights, such as bvlc_googlenet.caffemodel")
    state: dict[str, Tensor] = {}
    with torch.device("meta"):  # no memory for what a damaged file only announces
        net = GoogLeNet(paper_config(classes, aux=False))
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    for layer, theirs in caffe_layers().items():
        for name, values in zip((f"{layer}.weight", f"{layer}.bias"), blobs.get(theirs, []), strict=False):
            if values.numel() == shapes[name].numel():
                state[name] = values.reshape(shapes[name])
    lacking = [name for name in shapes if name not in state]
    if lacking:
        raise UserError(f"{path}: weights of another network ({lacking[0]!r} differs from GoogLeNet's)")
    ours = Normalization()
    first, means = state["conv1.conv.weight"].flip(1).double(), torch.tensor(CAFFE_MEAN).double()
    moved = torch.einsum("ochw,c->o", first, torch.tensor(ours.mean).double() - means)
    state["conv1.conv.bias"] = (state["conv1.conv.bias"] + moved).float()
    state["conv1.conv.weight"] = (first * torch.tensor(ours.std).view(1, 3, 1, 1)).float()
    return state
