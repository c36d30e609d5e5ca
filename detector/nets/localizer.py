"""A network that says of a region how well it lies on an object, whatever the object is, and where the object lies.

A classifier of regions is as sure of a part as of the whole. This network is asked nothing but that: its crops show
much of a region's surroundings, and it is trained from end to end on regions of every overlap, as IoU-Net is (Jiang et
al., Acquisition of Localization Confidence for Accurate Object Detection, ECCV 2018); that one shares its trunk with
the classifier. Neither knows classes, so that it also judges what it has not seen (Kim et al., Learning Open-World
Object Proposals without Learning to Classify, 2022).

On disk it is ``localizer:`` in a ``model.yaml``, or a folder of its own with a ``localizer.yaml``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from detector.crop import CropConfig
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_head import grid_features
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, check_file, load_into, read_weights, save_weights, sha256
from detector.strict_yaml import read_settings, write_settings
from proposals.errors import UserError

LOCALIZER_FILE = "localizer.yaml"
WEIGHTS = "localizer.safetensors"
DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)
"""The net's outputs are deltas in units of these, about their deviations (as in Fast R-CNN's successors)."""


class LocalizerOutput(NamedTuple):
    """Logits ``(N,)`` of each region's IoU with its object, and the deltas ``(N, 4)`` that move it there.

    The deltas are those of :func:`proposals.boxes.encode`.
    """

    logits: Tensor
    deltas: Tensor


class Localizer(nn.Module):
    """GoogLeNet's trunk and one linear layer on its last map, averaged over ``grid`` x ``grid`` cells.

    ``(N, 3, S, S)`` -> :class:`LocalizerOutput`. ``num_outputs``, ``aux`` and ``dropout`` of ``config`` do not matter.
    """

    scale: Tensor

    def __init__(self, config: GoogLeNetConfig, grid: int) -> None:
        super().__init__()
        self.trunk, self.grid = Trunk(config), grid
        self.fc = nn.Linear(self.trunk.num_features * grid**2, 5)
        nn.init.normal_(self.fc.weight, std=0.001)
        nn.init.zeros_(self.fc.bias)
        self.register_buffer("scale", torch.tensor(DELTA_SCALE), persistent=False)

    def forward(self, x: Tensor) -> LocalizerOutput:
        y = self.fc(grid_features(self.trunk(x), self.grid))
        return LocalizerOutput(y[:, 0], y[:, 1:] * self.scale)


class LocalizerMember(BaseModel):
    """One trained network: its file with its SHA-256, the architecture, and how its input is made.

    ``crop.context_pad`` should show what a region leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = WEIGHTS
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    trunk: GoogLeNetConfig
    grid: int = Field(default=3, ge=1, le=14)
    crop: CropConfig
    normalization: Normalization = Normalization()

    @field_validator("file")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if Path(value).name != value or not value.endswith(".safetensors"):
            raise ValueError("must be the name of a .safetensors file in the same folder")
        return value


class LocalizerFacts(BaseModel):
    """What ``localizer.yaml`` says: the network, and how it came to be (as in ``ModelConfig``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    description: str = ""
    localizer: LocalizerMember
    licence: str
    provenance: dict[str, str] = {}
    scores: dict[str, float] = {}


def read_localizer_facts(folder: Path) -> LocalizerFacts:
    """The checked ``localizer.yaml`` of a localizer's folder.

    Raises:
        UserError: no such folder, no such file in it, or a fault in the file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such localizer folder")
    if not (folder / LOCALIZER_FILE).is_file():
        raise UserError(f"{folder}: not a localizer folder: it has no {LOCALIZER_FILE}")
    return read_settings(LocalizerFacts, folder / LOCALIZER_FILE)


def read_localizer(folder: Path, member: LocalizerMember) -> Localizer:
    """The network of ``member``, whose file is in ``folder``; in evaluation mode.

    Raises:
        UserError: the file is missing, damaged or changed, or does not fit the architecture.
    """
    path = folder / member.file
    check_file(path, member.sha256, "the localizer's")
    net = Localizer(member.trunk, member.grid)
    load_into(net, read_weights(path), path)
    return net.eval()


def save_localizer(
    folder: Path,
    net: Localizer,
    crop: CropConfig,
    normalization: Normalization,
    *,
    name: str,
    licence: str,
    half: bool = True,
    description: str = "",
    provenance: dict[str, str] | None = None,
    scores: dict[str, float] | None = None,
) -> LocalizerFacts:
    """Make ``folder`` a localizer's folder; it must not be one yet. ``half``: store weights in float16."""
    if (folder / LOCALIZER_FILE).exists():
        raise UserError(f"{folder}: is a localizer folder already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / WEIGHTS, net.state_dict(), half=half)
    member = LocalizerMember(
        sha256=sha256(folder / WEIGHTS),
        trunk=net.trunk.config,
        grid=net.grid,
        crop=crop,
        normalization=normalization,
    )
    facts = LocalizerFacts(
        name=name,
        description=description,
        localizer=member,
        licence=licence,
        provenance=provenance or {},
        scores=scores or {},
    )
    write_settings(folder / LOCALIZER_FILE, facts)
    return facts
