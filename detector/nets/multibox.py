"""MultiBox on the maps of a model's first network: what ``multibox:`` in a ``model.yaml`` says, and its file."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from detector.nets.region_net import SharedMaps, sizes_by_level
from detector.nets.weights import load_checked, save_weights, sha256
from proposals.merge import MergeConfig
from proposals.multibox import MultiBoxConfig, MultiBoxHead, MultiBoxProposalConfig

WEIGHTS = "multibox.safetensors"


class MultiBoxMember(BaseModel):
    """A trained head: its file with its SHA-256, the architecture, its maps, and how it is used.

    Attributes:
        file, sha256: weights. net: the architecture. channels: of the maps.
        maps: the scales of the image, if other than those that the first network pools regions from.
        proposals: how boxes become proposals. merge: how those join selective search's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = WEIGHTS
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    net: MultiBoxConfig
    channels: int = Field(ge=1)
    maps: SharedMaps
    proposals: MultiBoxProposalConfig = MultiBoxProposalConfig()
    merge: MergeConfig = MergeConfig()

    @field_validator("file")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"\w[\w-]*\.safetensors", value):
            raise ValueError("must be the name of a .safetensors file in the same folder")
        return value


def read_multibox(folder: Path, member: MultiBoxMember) -> MultiBoxHead:
    """The head of ``member``, whose file is in ``folder``; in evaluation mode.

    Raises:
        UserError: the file is missing, damaged or changed, or does not fit the architecture.
    """
    head = MultiBoxHead(member.channels, sizes_by_level(member.net, member.maps), member.net)
    load_checked(head, folder / member.file, member.sha256, "MultiBox's")
    return head.eval()


def save_multibox(folder: Path, head: MultiBoxHead, maps: SharedMaps, *, half: bool = True) -> MultiBoxMember:
    """Write the weights of ``head`` into ``folder``, in float16 or in float32; what ``model.yaml`` says of them."""
    save_weights(folder / WEIGHTS, head.state_dict(), half=half)
    return MultiBoxMember(sha256=sha256(folder / WEIGHTS), net=head.config, channels=head.shared.in_channels, maps=maps)
