"""Weights go into a net whole or not at all, and one line says why not."""

from __future__ import annotations

import errno
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from detector.nets.weights import Normalization, copy_file, load_into, read_weights
from proposals.errors import UserError

GOOD = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"bias": None}, "lacks 'bias'"),
        ({"bias": None, "scale": torch.ones(1)}, "lacks 'bias' (and 1 more fault)"),
        ({"bias": None, "scale": torch.ones(1), "weight": torch.ones(3)}, "lacks 'bias' (and 2 more faults)"),
        ({"scale": torch.ones(1)}, "has an unknown tensor 'scale'"),
        ({"weight": torch.ones(3, 2)}, "has 'weight' of shape (3, 2) where the net has (2, 3)"),
        ({"bias": torch.ones(2, dtype=torch.int64)}, "has 'bias' of torch.int64 where the net has torch.float32"),
        (
            {"bias": torch.ones(2, dtype=torch.complex64)},
            "has 'bias' of torch.complex64 where the net has torch.float32",
        ),
        ({"bias": torch.tensor([0, torch.nan])}, "has values in 'bias' that are not finite"),
    ],
)
def test_the_first_fault_and_how_many_more(change: dict[str, Tensor | None], fault: str) -> None:
    net = nn.Linear(3, 2)
    before = net.weight.detach().clone()
    state = {name: tensor for name, tensor in {**GOOD, **change}.items() if tensor is not None}
    with pytest.raises(UserError) as caught:
        load_into(net, state, "a.safetensors")
    assert str(caught.value) == f"a.safetensors: does not fit the network: it {fault}"
    assert torch.equal(net.weight, before)


def test_weights_that_fit_are_loaded() -> None:
    net = nn.Linear(3, 2)
    load_into(net, GOOD, "a.safetensors")
    assert torch.equal(net.weight, torch.ones(2, 3))


def safetensors(header: Any, data: bytes = bytes(8)) -> bytes:
    """A file with this header: bytes, or what goes into JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


GOOD_ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04pickle",
        struct.pack("<Q", 2**63) + b"{}",
        safetensors(b"{"),
        safetensors(b"\xff\xfe"),
        safetensors(b"[" * 20_000),
        safetensors(b'{"bias": ' + b"7" * 5000 + b"}"),
        safetensors([]),
        safetensors({"bias": None}),
        safetensors({"bias": GOOD_ENTRY | {"dtype": "F7"}}),
        safetensors({"bias": GOOD_ENTRY | {"dtype": 3}}),
        safetensors({"bias": GOOD_ENTRY | {"shape": [-2]}}),
        safetensors({"bias": GOOD_ENTRY | {"shape": [2**62, 8]}}),
        safetensors({"bias": GOOD_ENTRY | {"shape": "2"}}),
        safetensors({"bias": GOOD_ENTRY | {"data_offsets": [0, 80]}}),
        safetensors({"bias": GOOD_ENTRY | {"data_offsets": [8, 0]}}),
        safetensors({"a\x1b[31m\nb": GOOD_ENTRY | {"data_offsets": [0, 4]}}),
        safetensors({"bias": GOOD_ENTRY | {"dtype": "F8_E8M0", "shape": [8]}}),
        safetensors({"bias": GOOD_ENTRY | {"dtype": "F4", "shape": [16]}}),
    ],
)
def test_headers_of_every_kind_are_a_value_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_into(nn.Linear(3, 2), read_weights(path), path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()


def test_a_file_of_one_tensor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors({"bias": GOOD_ENTRY, "__metadata__": {"a": "b"}}))
    assert read_weights(path)["bias"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("std", (58.0, 0, 57)), ("std", (58.0, -1, 57)), ("std", (58.0, 1e-30, 57)), ("std", (58.0, torch.nan, 57)),
        ("std", (58.0, torch.inf, 57)), ("std", (58.0, 57)), ("mean", (torch.nan, 0, 0)), ("mean", (1e9, 0, 0)),
        ("mean", (-1, 0, 0)),
    ],
)  # fmt: skip
def test_a_normalization_divides_by_something_and_fills_with_a_colour(name: str, values: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match=name):
        Normalization.model_validate({name: values})


def test_the_fill_is_what_becomes_zero() -> None:
    fill = torch.tensor(Normalization().fill, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert Normalization()(fill).abs().max() < 0.01


def test_half_a_copy_never_has_the_name_of_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"weights")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(shutil, "copyfile", full)
        copy_file(source, target)
    assert not target.exists()
    copy_file(source, target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"weights", "b": b"weights"}
