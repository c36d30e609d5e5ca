"""Weights on disk and the facts about input that belong to them.

Weights are safetensors files; nothing here unpickles. torchvision's ``.pth`` of its own GoogLeNet is the one other
format, read with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from detector.shown import shown
from proposals.errors import UserError

Grey = Annotated[float, Field(ge=0, le=255)]
Deviation = Annotated[float, Field(ge=1e-3, le=1e6)]


class Normalization(BaseModel):
    """Input statistics of a network: x = (pixel - mean) / std on RGB 0..255; the mean is a colour, std is positive.

    The defaults are ImageNet's channel means and deviations, as torchvision publishes them, times 255.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[Grey, Grey, Grey] = (123.675, 116.28, 103.53)
    std: tuple[Deviation, Deviation, Deviation] = (58.395, 57.12, 57.375)

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour in whole grey levels, for what lies outside an image."""
        red, green, blue = (int(m + 0.5) for m in self.mean)
        return red, green, blue

    def __call__(self, crops: Tensor) -> Tensor:
        """``(N, 3, S, S)`` uint8 or float 0..255 -> float32, normalised, in the input's memory format."""
        mean = torch.tensor(self.mean, device=crops.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=crops.device).view(1, 3, 1, 1)
        return (crops.float() - mean).div_(std)


class WeightsFile(BaseModel):
    """A file of weights in the model's folder, and its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("file")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*\.safetensors", value):
            raise ValueError("must be the name of a .safetensors file in the model's folder")
        return value


def to_tensor(crops: NDArray[np.uint8]) -> Tensor:
    """Crops ``(N, S, S, 3)`` uint8 as a ``(N, 3, S, S)`` uint8 tensor, channels last, without a copy."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with its floating-point tensors in float16."""
    return {name: t.half() if t.is_floating_point() else t for name, t in state.items()}


def save_weights(path: Path, state: Mapping[str, Tensor], *, half: bool = False) -> None:
    """Write a state dict as safetensors, to a temporary name first, so that no reader sees half a file.

    Args:
        half: store floating-point tensors in float16 (half the size; read back as float32).
    """
    stored = halved(state) if half else state
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in stored.items()}
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(save_safetensors(tensors))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def copy_file(source: Path, target: Path) -> None:
    """Copy to a temporary name first, so that no reader sees half a file."""
    temporary = target.with_name(target.name + ".tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; floating-point ones as float32.

    Raises:
        UserError: the file is missing, unreadable or not safetensors.
    """
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path}: no such weights file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        tensors = load_safetensors(data)
    except (SafetensorError, ValueError, LookupError, RuntimeError, OverflowError, TypeError) as error:
        # The header may also name types that PyTorch lacks, and shapes that it cannot make.
        reason = shown(" ".join(str(error).split()))
        raise UserError(f"{path}: not a safetensors file ({reason}); pickled weights are refused") from None
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def load_checked(net: nn.Module, path: Path, digest: str, whose: str) -> None:
    """Load ``path``, which is ``whose`` ("the member") and has the SHA-256 ``digest``, into ``net``.

    Raises:
        UserError: the file is missing, damaged or another one, or does not fit the architecture.
    """
    if not path.is_file():
        raise UserError(f"{path.parent}: {whose} {path.name} named in model.yaml is missing")
    if path.stat().st_size and sha256(path) != digest:
        state = read_weights(path)  # names the fault of a damaged file; a sound but other one is refused below
        raise UserError(f"{path}: {len(state)} tensors, but not the file that model.yaml names (its SHA-256 differs)")
    load_into(net, read_weights(path), path)


def load_into(net: nn.Module, state: Mapping[str, Tensor], origin: Path | str) -> None:
    """Load ``state`` into ``net``, every name and shape equal.

    Raises:
        UserError: a tensor is missing, unknown or of another shape; names the first and counts the rest.
    """
    own = net.state_dict()
    faults = [f"lacks {name!r}" for name in own if name not in state]
    faults += [f"has an unknown tensor {name!r}" for name in state if name not in own]
    faults += [
        f"has {name!r} of shape {tuple(state[name].shape)} where the net has {tuple(own[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    faults += [
        f"has {name!r} of {state[name].dtype} where the net has {own[name].dtype}"
        for name in own
        if name in state and own[name].is_floating_point() != state[name].is_floating_point()
    ]
    faults += [f"has values in {n!r} that are not finite" for n in own if n in state and not state[n].isfinite().all()]
    if faults:
        others = len(faults) - 1
        more = f" (and {others} more fault{'s' * (others > 1)})" if others else ""
        raise UserError(f"{origin}: does not fit the network: it {faults[0]}{more}")
    net.load_state_dict(dict(state))


def read_torchvision_weights(path: Path | None) -> dict[str, Tensor]:
    """The state dict of torchvision's GoogLeNet: from a local ``.pth`` file, or from torchvision's servers.

    Raises:
        UserError: the file is missing or damaged, or nothing could be downloaded.
    """
    if path is None:
        where, remedy = "torchvision's GoogLeNet weights", "give a local file"
    else:
        where, remedy = str(path), "expected torchvision's googlenet-*.pth"
    try:
        if path is None:
            from torchvision.models import GoogLeNet_Weights

            state = GoogLeNet_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load and the hub raise many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{where}: cannot be loaded ({reason}); {remedy}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{where}: holds no state dict; {remedy}")
    return state
