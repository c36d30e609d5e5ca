"""MultiBox on the maps of a model's first network: what ``multibox:`` in a ``model.yaml`` says, and its file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from detector.nets.region_net import SharedMaps, sizes_by_level
from detector.nets.weights import WeightsFile, load_checked, save_weights, sha256
from proposals.merge import MergeConfig
from proposals.multibox import MultiBoxConfig, MultiBoxHead, MultiBoxProposalConfig

WEIGHTS = "multibox.safetensors"


class MultiBoxMember(WeightsFile):
    """A trained head: its file, the architecture, its maps, and how it is used.

    Attributes:
        net: the architecture. channels: of the maps.
        maps: the scales of the image, if other than those that the first network pools regions from.
        proposals: how boxes become proposals. merge: how those join selective search's.
    """

    file: str = WEIGHTS
    net: MultiBoxConfig
    channels: int = Field(ge=1)
    maps: SharedMaps
    proposals: MultiBoxProposalConfig = MultiBoxProposalConfig()
    merge: MergeConfig = MergeConfig()


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
