"""Making model directories: from trained networks, or from another model with a part added."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from detector.crop import CropConfig
from detector.model.config import MODEL_FILE, HeadConfig, MemberConfig, ModelConfig, read_model_config
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.multibox import MULTIBOX_FILE, MultiBoxFacts, read_multibox_facts
from detector.nets.region_head import RegionHead
from detector.nets.region_net import SharedMaps
from detector.nets.weights import Normalization, save_weights, sha256
from detector.strict_yaml import write_settings
from proposals.errors import UserError


def join_multibox(model: Path, multibox: Path, out: Path) -> ModelConfig:
    """Make ``out`` a copy of the model directory ``model`` that also proposes with the network in ``multibox``.

    ``out`` may be ``multibox`` itself, which then is a model directory as well.

    Raises:
        UserError: one of them is not what it should be, or ``out`` is a model directory already.
    """
    config, facts = read_model_config(model), read_multibox_facts(multibox)
    begin_copy(out, [model / file for file in config.model_copy(update={"multibox": None}).files])
    if out.resolve() != multibox.resolve():
        begin_copy(out, [multibox / facts.multibox.file, multibox / facts.multibox.priors])
    provenance = {f"multibox {key}": value for key, value in facts.provenance.items()}
    joined = config.model_copy(update={"multibox": facts.multibox, "provenance": {**config.provenance, **provenance}})
    write_model_config(out, joined)
    return joined


def take_multibox(model: Path, out: Path) -> MultiBoxFacts:
    """Make ``out`` the folder of the model directory ``model``'s MultiBox: what :func:`join_multibox` joined to it.

    Its scores are not known any more, for a model directory does not hold them.

    Raises:
        UserError: ``model`` is no model directory or has no MultiBox, or a file cannot be copied.
    """
    config = read_model_config(model)
    if config.multibox is None:
        raise UserError(f"{model}: has no MultiBox that could be taken")
    begin_copy(out, [model / config.multibox.file, model / config.multibox.priors])
    prefix = "multibox "
    facts = MultiBoxFacts(
        name=config.name,
        multibox=config.multibox,
        licence=config.licence,
        provenance={key.removeprefix(prefix): v for key, v in config.provenance.items() if key.startswith(prefix)},
    )
    write_settings(out / MULTIBOX_FILE, facts)
    return facts


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
            shutil.copyfile(path, out / path.name)
        except OSError as error:
            raise UserError(f"{path}: cannot be copied to {out} ({error.strerror or error})") from None


def write_model_config(folder: Path, config: ModelConfig) -> None:
    """Write ``model.yaml``, which makes ``folder`` a model directory: after everything that it names."""
    write_settings(folder / MODEL_FILE, config)


def save_model(
    folder: Path,
    nets: Sequence[tuple[GoogLeNetConfig, dict[str, Tensor], CropConfig, Normalization]],
    *,
    half: bool = True,
    **facts: Any,
) -> ModelConfig:
    """Make ``folder`` a model directory; it must not be one yet.

    Args:
        nets: architecture, state dict and input of each member. half: store weights in float16.
        facts: the other fields of :class:`ModelConfig`.
    """
    if (folder / MODEL_FILE).exists():
        raise UserError(f"{folder}: is a model directory already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    members = []
    for index, (net, state, crop, normalization) in enumerate(nets):
        file = f"member-{index}.safetensors"
        plain = net.model_copy(update={"aux": False})  # the auxiliary heads serve training only
        save_weights(folder / file, {n: t for n, t in state.items() if not n.startswith("aux")}, half=half)
        members.append(
            MemberConfig(file=file, sha256=sha256(folder / file), net=plain, crop=crop, normalization=normalization)
        )
    config = ModelConfig(members=tuple(members), **facts)
    write_model_config(folder, config)
    return config


def save_head_model(
    folder: Path,
    trunk: Path | dict[str, Tensor],
    net: GoogLeNetConfig,
    crop: CropConfig,
    normalization: Normalization,
    head: RegionHead,
    *,
    shared: SharedMaps | None = None,
    half: bool = True,
    **facts: Any,
) -> ModelConfig:
    """Make ``folder`` a model directory of one trunk with a head; it must not be one yet.

    Args:
        trunk: a file of the trunk's weights, which is copied, or the weights. shared: how regions are pooled; ``None``
            crops them. half: store weights in float16. facts: the other fields of :class:`ModelConfig`.
    """
    if (folder / MODEL_FILE).exists():
        raise UserError(f"{folder}: is a model directory already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    weights, head_file = folder / "member-0.safetensors", folder / "head-0.safetensors"
    if isinstance(trunk, Path):
        shutil.copyfile(trunk, weights)
    else:
        save_weights(weights, trunk, half=half)
    save_weights(head_file, head.state_dict())
    member = MemberConfig(
        file=weights.name,
        sha256=sha256(weights),
        net=net.model_copy(update={"aux": False}),
        crop=crop,
        normalization=normalization,
        head=HeadConfig(file=head_file.name, sha256=sha256(head_file), shape=head.shape),
        shared=shared,
    )
    config = ModelConfig(members=(member,), **facts)
    write_model_config(folder, config)
    return config
