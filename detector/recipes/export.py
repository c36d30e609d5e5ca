"""What a training run ends with: a model directory."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from detector.crop import CropConfig
from detector.data import Dataset
from detector.model.config import MemberConfig, ModelConfig, named_folder, read_detector_config, read_model_config
from detector.model.load import read_member
from detector.model.save import add_multibox, begin_copy, head_tensors, save_model, write_model_config
from detector.nets.googlenet import GoogLeNet
from detector.nets.region_head import RegionHead
from detector.nets.region_net import RegionNet
from detector.nets.weights import copy_file, halved, read_weights, save_weights, sha256
from detector.recipes.initialization import trained_head
from detector.recipes.region import OneRecipe, SharedRecipe
from detector.runs.folder import final_path
from proposals.calibration import Calibration
from proposals.errors import UserError

if TYPE_CHECKING:
    from detector.recipes.svm import SvmRecipe


def save_trained(
    folder: Path,
    recipe: OneRecipe,
    dataset: Dataset,
    net: GoogLeNet | RegionNet,
    crop: CropConfig,
    metric: float | None,
    seconds: float,
) -> ModelConfig:
    """Make ``folder``, a finished run's, a model directory as well.

    Args:
        crop: how the model makes crops. metric: of the validation, if there was one.
    """
    training = recipe.training
    heads = isinstance(net, RegionNet)
    if isinstance(recipe, SharedRecipe):
        measured, background, shared = "val_mean_ap", True, recipe.maps
    else:
        background, shared = recipe.training.background, None
        measured = "val_top1_on_annotated_boxes" if background else "val_top1_of_whole_images"
    if isinstance(recipe, SharedRecipe) and recipe.training.only_multibox:
        assert isinstance(net, RegionNet)
        assert net.multibox is not None
        origin = provenance(dataset, recipe.init, seconds)
        return add_multibox(named_folder(recipe.init), net.multibox, recipe.maps, folder, origin)
    trunk = net.trunk if isinstance(net, RegionNet) else net
    return save_model(
        folder,
        [(training.net, trunk.state_dict(), crop, training.normalization)],
        heads=[trained_head(net)] if isinstance(net, RegionNet) else (),
        shared=shared,
        multibox=net.multibox if isinstance(net, RegionNet) else None,
        half=recipe.half,
        background=background,
        refinement=recipe.refinement if heads else None,
        scores={} if metric is None else {measured: round(metric, 4)},
        **_facts(folder, recipe, dataset, seconds),
    )


def _facts(folder: Path, recipe: OneRecipe, dataset: Dataset, seconds: float) -> dict[str, Any]:
    """What the recipe says of the model, and where that comes from."""
    return {
        **dict(recipe.model),
        "name": recipe.model.name or folder.resolve().name,
        "class_names": dataset.class_names,
        "class_keys": tuple(str(key) for key in dataset.class_keys),
        "provenance": provenance(dataset, recipe.init, seconds),
    }


def join_members(folders: Sequence[Path], out: Path, name: str) -> ModelConfig:
    """Make ``out`` a model directory with the networks of all ``folders``, model directories of the same classes.

    Proposals, thresholds and licence are those of the first.

    Raises:
        UserError: one of them is not what it should be, or they differ in their classes.
    """
    configs = [read_model_config(folder) for folder in folders]
    first = configs[0]
    members: list[MemberConfig] = []
    provenance: dict[str, str] = {}
    for number, (folder, config) in enumerate(zip(folders, configs, strict=True)):
        if config.class_keys != first.class_keys:
            raise UserError(f"{folder}: has other classes than {folders[0]}; they cannot be one model")
        for member in config.members:
            file = f"member-{len(members)}.safetensors"
            copy_file(folder / member.file, out / file)
            members.append(member.model_copy(update={"file": file}))
        provenance |= {f"member {number} {key}": value for key, value in config.provenance.items()}
    if first.multibox is not None:
        copy_file(folders[0] / first.multibox.file, out / first.multibox.file)
    joined = first.model_copy(update={"name": name, "members": tuple(members), "provenance": provenance, "scores": {}})
    write_model_config(out, joined)
    return joined


def average_members(folders: Sequence[Path], out: Path, name: str, *, half: bool) -> ModelConfig:
    """Make ``out`` a model directory of one network, whose weights are the mean of those in ``folders``.

    They have all begun with the same trained network (Wortsman et al., Model soups, 2022). All else is the first one's,
    but for MultiBox, which the mean has only if all of them have it.

    Args:
        half: store the mean in float16.
    """
    configs = [read_model_config(folder) for folder in folders]
    files = [folder / config.members[0].file for folder, config in zip(folders, configs, strict=True)]
    path = out / "member-0.safetensors"
    save_weights(path, mean_weights([read_weights(file) for file in files]), half=half)
    member = configs[0].members[0].model_copy(update={"file": path.name, "sha256": sha256(path)})
    provenance = {
        f"weights {number} {key}": value
        for number, config in enumerate(configs)
        for key, value in config.provenance.items()
    }
    heads = [read_weights(f / c.multibox.file) for f, c in zip(folders, configs, strict=True) if c.multibox is not None]
    multibox = configs[0].multibox if len(heads) == len(configs) else None
    if multibox is not None:
        save_weights(out / multibox.file, mean_weights(heads), half=half)
        multibox = multibox.model_copy(update={"sha256": sha256(out / multibox.file)})
    made = configs[0].model_copy(
        update={"name": name, "members": (member,), "multibox": multibox, "provenance": provenance, "scores": {}}
    )
    write_model_config(out, made)
    return made


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of networks' tensors, statistics of normalisation included; each of the first one's type.

    Raises:
        ValueError: the networks differ in their tensors.
    """
    first = states[0]
    shapes = {name: tensor.shape for name, tensor in first.items()}
    if any({name: tensor.shape for name, tensor in state.items()} != shapes for state in states):
        raise ValueError("networks of different architectures have no mean")
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        for name, tensor in first.items()
    }


def save_svms(
    folder: Path, recipe: SvmRecipe, dataset: Dataset, heads: Sequence[RegionHead], seconds: float
) -> ModelConfig:
    """Make ``folder`` a model directory: the model ``recipe.init`` with ``heads``, one for each of its networks."""
    init = named_folder(recipe.init)
    model = read_detector_config(init)
    members = []
    for number, (config, head) in enumerate(zip(model.members, heads, strict=True)):
        path = folder / f"member-{number}.safetensors"
        net = read_member(init, config, len(model.class_names)).net
        trunk = {f"trunk.{name}": t for name, t in net.state_dict().items() if not name.startswith("fc.")}
        save_weights(path, halved(trunk) | head_tensors(head.state_dict()))
        members.append(config.model_copy(update={"file": path.name, "sha256": sha256(path), "head": head.shape}))
    if model.multibox is not None:
        begin_copy(folder, [init / model.multibox.file])
    made = model.model_copy(
        update={
            "name": recipe.name or final_path(folder).resolve().name,
            "description": recipe.description,
            "licence": recipe.licence,
            "members": tuple(members),
            "temperature": 1.0,  # each SVM has a sigmoid of its own
            "postprocess": model.postprocess.model_copy(update={"calibration": Calibration()}),
            "scores": {},
            "provenance": provenance(dataset, recipe.init, seconds),
        }
    )
    write_model_config(folder, made)
    return made


def provenance(dataset: Dataset, init: str, seconds: float) -> dict[str, str]:
    """What a model says of its training: data, day, command, seconds, first weights."""
    return {
        "data": f"{dataset.name} ({dataset.format}), split {dataset.split or 'all'}, {len(dataset)} images",
        "trained": datetime.date.today().isoformat(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seconds": f"{seconds:.0f} on {platform.machine()}, {torch.get_num_threads()} threads",
        "init": init,
    }
