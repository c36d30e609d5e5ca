"""Making model directories: from trained networks, or from another model with a part added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from detector.crop import CropConfig
from detector.model.config import (
    MODEL_FILE,
    MULTIBOX_FILE,
    MemberConfig,
    ModelConfig,
    MultiBoxMember,
    read_detector_config,
)
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.int8 import Ranges, peaks
from detector.nets.region_head import RegionHead
from detector.nets.region_net import SharedMaps
from detector.nets.weights import Normalization, copy_file, halved, save_weights, sha256
from detector.strict_yaml import write_settings
from proposals.errors import UserError
from proposals.multibox import MultiBoxHead


def add_multibox(
    model: Path, head: MultiBoxHead, maps: SharedMaps, out: Path, provenance: Mapping[str, str]
) -> ModelConfig:
    """Make ``out`` a copy of the model directory ``model`` that also proposes with ``head``, trained on its maps.

    Args:
        maps: that it is used on. provenance: of the head.

    Raises:
        UserError: ``model`` is not what it should be, or ``out`` is a model directory already.
    """
    config = read_detector_config(model)
    begin_copy(out, [model / file for file in config.model_copy(update={"multibox": None}).files])
    origin = {**config.provenance, **{f"multibox {key}": value for key, value in provenance.items()}}
    member = save_multibox(out, head, maps)
    joined = config.model_copy(update={"multibox": member, "provenance": origin, "scores": {}})
    write_model_config(out, joined)
    return joined


def begin_copy(out: Path, files: Sequence[Path]) -> None:
    """Copy ``files`` into ``out``, which is not a model directory yet; :func:`write_model_config` makes it one.

    Raises:
        UserError: ``out`` is one already, or a file cannot be copied.
    """
    if (out / MODEL_FILE).exists():
        raise UserError(f"{out}: is a model directory already; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    for path in files:
        try:
            copy_file(path, out / path.name)
        except OSError as error:
            raise UserError(f"{path}: cannot be copied to {out} ({error.strerror or error})") from None


def write_model_config(folder: Path, config: ModelConfig) -> None:
    """Write ``model.yaml``, which makes ``folder`` a model directory: after everything that it names."""
    write_settings(folder / MODEL_FILE, config)


def save_model(
    folder: Path,
    nets: Sequence[tuple[GoogLeNetConfig, Mapping[str, Tensor], CropConfig, Normalization]],
    *,
    heads: Sequence[RegionHead] = (),
    shared: SharedMaps | None = None,
    multibox: MultiBoxHead | None = None,
    ranges: Ranges | None = None,
    half: bool = True,
    **facts: Any,
) -> ModelConfig:
    """Make ``folder`` a model directory; it must not be one yet.

    Args:
        nets: architecture, state dict and input of each member; of those with a head, of the trunk alone.
        heads: one for each member, stored in float32, or none. shared: how regions are pooled for them; ``None`` crops
            them. multibox: on the maps of the first of them. ranges: of the activations of the only network, which has
            a head. half: store networks in float16. facts: the other fields of :class:`ModelConfig`.
    """
    begin_copy(folder, [])
    members = []
    for index, (net, state, crop, normalization) in enumerate(nets):
        head = heads[index] if heads else None
        # The auxiliary heads serve training only.
        kept = {name: tensor for name, tensor in state.items() if not name.startswith("aux")}
        kept = halved(kept) if half else kept
        if head is not None:
            kept = with_head(kept, head, ranges)
        members.append(
            MemberConfig(
                **write_weights(folder / f"member-{index}.safetensors", kept),
                net=net.model_copy(update={"aux": False}),
                crop=crop,
                normalization=normalization,
                head=None if head is None else head.shape,
                shared=shared,
                ranges=ranges is not None,
            )
        )
    proposes = None
    if multibox is not None:
        proposes = save_multibox(folder, multibox, shared or SharedMaps(), half=half)
    config = ModelConfig(members=tuple(members), multibox=proposes, **facts)
    write_model_config(folder, config)
    return config


def with_head(trunk: Mapping[str, Tensor], head: RegionHead, ranges: Ranges | None = None) -> dict[str, Tensor]:
    """The tensors of a trunk and a head, and ``ranges``, by their names in the file of a network."""
    parts = {"trunk": trunk, "head": head.state_dict(), "ranges": {} if ranges is None else {"peaks": peaks(ranges)}}
    return {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


def save_ranges(model: Path, config: ModelConfig, ranges: Sequence[Ranges], out: Path) -> tuple[MemberConfig, ...]:
    """Write the networks of ``model`` into ``out`` with the ``ranges`` of each; what ``model.yaml`` says of them."""
    members = []
    for member, own in zip(config.members, ranges, strict=True):
        tensors = {**load_file(model / member.file), "ranges.peaks": peaks(own)}
        members.append(member.model_copy(update={**write_weights(out / member.file, tensors), "ranges": True}))
    return tuple(members)


def write_weights(path: Path, state: Mapping[str, Tensor], *, half: bool = False) -> dict[str, Any]:
    """Write the weights of a network; what ``model.yaml`` says of the file. See :func:`save_weights`."""
    save_weights(path, state, half=half)
    return {"file": path.name, "sha256": sha256(path)}


def save_multibox(folder: Path, head: MultiBoxHead, maps: SharedMaps, *, half: bool = True) -> MultiBoxMember:
    """Write the weights of ``head`` into ``folder``, in float16 or in float32; what ``model.yaml`` says of them."""
    written = write_weights(folder / MULTIBOX_FILE, head.state_dict(), half=half)
    return MultiBoxMember(**written, net=head.config, channels=head.shared.in_channels, maps=maps)
