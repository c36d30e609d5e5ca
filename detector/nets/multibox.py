"""MultiBox on disk: what ``multibox:`` in a ``model.yaml`` says, and the files that it names.

A *MultiBox folder* holds the same in a ``multibox.yaml`` of its own, before it is joined to a model.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, check_file, load_into, read_weights, save_weights, sha256
from detector.strict_yaml import read_settings, write_settings
from proposals.errors import UserError
from proposals.merge import MergeConfig
from proposals.multibox import MultiBoxConfig, MultiBoxNet
from proposals.multibox_source import MultiBoxProposalConfig, MultiBoxSource
from proposals.priors import Priors, read_priors, write_priors

MULTIBOX_FILE = "multibox.yaml"
WEIGHTS = "multibox.safetensors"
PRIORS = "multibox-priors.txt"


class MultiBoxMember(BaseModel):
    """One trained network: its files with their SHA-256, the architecture, its input, and how it is used.

    Attributes:
        file, sha256: weights. priors, priors_sha256: their text file.
        trunk, net: the architecture. normalization: of the pixels.
        proposals: the defaults of proposing. merge: how its boxes join those of selective search.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = WEIGHTS
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    priors: str = PRIORS
    priors_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    trunk: GoogLeNetConfig
    net: MultiBoxConfig
    normalization: Normalization = Normalization()
    proposals: MultiBoxProposalConfig = MultiBoxProposalConfig()
    merge: MergeConfig = MergeConfig()

    @field_validator("file", "priors")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"\w[\w-]*\.(safetensors|txt)", value):
            raise ValueError("must be the name of a .safetensors or .txt file in the same folder")
        return value


class MultiBoxFacts(BaseModel):
    """What ``multibox.yaml`` says: the network, and how it came to be (as in ``ModelConfig``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    description: str = ""
    multibox: MultiBoxMember
    licence: str
    provenance: dict[str, str] = {}
    scores: dict[str, float] = {}


def read_multibox_facts(folder: Path) -> MultiBoxFacts:
    """The checked ``multibox.yaml`` of a MultiBox folder.

    Raises:
        UserError: no such folder, no such file in it, or a fault in the file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such MultiBox folder")
    if not (folder / MULTIBOX_FILE).is_file():
        raise UserError(f"{folder}: not a MultiBox folder: it has no {MULTIBOX_FILE}")
    return read_settings(MultiBoxFacts, folder / MULTIBOX_FILE)


def read_multibox(folder: Path, member: MultiBoxMember) -> MultiBoxNet:
    """The network of ``member``, whose files are in ``folder``; in evaluation mode.

    Raises:
        UserError: a file is missing, damaged or changed, or does not fit the architecture.
    """
    check_file(folder / member.file, member.sha256, "MultiBox's")
    check_file(folder / member.priors, member.priors_sha256, "MultiBox's")
    net = MultiBoxNet(Trunk(member.trunk), read_priors(folder / member.priors), member.net)
    load_into(net, read_weights(folder / member.file), folder / member.file)
    return net.eval()


def build_source(folder: Path, member: MultiBoxMember, device: torch.device) -> MultiBoxSource:
    """``member`` as a source of proposals, ready to run; see :func:`read_multibox` for the faults."""
    net = read_multibox(folder, member)
    assert isinstance(net.trunk, Trunk)
    net.trunk.fold_normalization()
    return MultiBoxSource(net, member.normalization, member.proposals, device)


def save_multibox(
    folder: Path,
    net: MultiBoxNet,
    priors: Priors,
    trunk: GoogLeNetConfig,
    normalization: Normalization,
    *,
    name: str,
    licence: str,
    half: bool = True,
    description: str = "",
    proposals: MultiBoxProposalConfig | None = None,
    merge: MergeConfig | None = None,
    provenance: dict[str, str] | None = None,
    scores: dict[str, float] | None = None,
) -> MultiBoxFacts:
    """Make ``folder`` a MultiBox folder; it must not be one yet. ``half``: store weights in float16."""
    if (folder / MULTIBOX_FILE).exists():
        raise UserError(f"{folder}: is a MultiBox folder already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / WEIGHTS, net.state_dict(), half=half)
    write_priors(folder / PRIORS, priors)
    member = MultiBoxMember(
        sha256=sha256(folder / WEIGHTS),
        priors_sha256=sha256(folder / PRIORS),
        trunk=trunk,
        net=net.config,
        normalization=normalization,
        proposals=proposals or MultiBoxProposalConfig(),
        merge=merge or MergeConfig(),
    )
    facts = MultiBoxFacts(
        name=name,
        description=description,
        multibox=member,
        licence=licence,
        provenance=provenance or {},
        scores=scores or {},
    )
    write_settings(folder / MULTIBOX_FILE, facts)
    return facts
