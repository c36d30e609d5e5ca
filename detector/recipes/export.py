"""What a training run ends with: a model directory."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from detector.crop import CropConfig
from detector.data import Dataset
from detector.model.config import MemberConfig, ModelConfig, named_folder, read_detector_config, read_model_config
from detector.model.load import read_member
from detector.model.save import add_multibox, begin_copy, save_model, with_head, write_model_config, write_weights
from detector.nets.googlenet import GoogLeNet
from detector.nets.int8 import Ranges
from detector.nets.region_head import RegionHead
from detector.nets.region_net import RegionNet
from detector.nets.weights import copy_file, halved, read_weights
from detector.recipes.initialization import trained_head
from detector.recipes.region import OneRecipe, SharedRecipe, SvmRecipe
from detector.runs.folder import final_path
from proposals.calibration import Calibration
from proposals.errors import UserError


def save_trained(
    folder: Path,
    recipe: OneRecipe,
    dataset: Dataset,
    net: GoogLeNet | RegionNet,
    crop: CropConfig,
    metric: float | None,
    seconds: float,
    ranges: Ranges | None = None,
) -> ModelConfig:
    """Make ``folder``, a finished run's, a model directory as well.

    Args:
        crop: how the model makes crops. metric: of the validation, if there was one. ranges: of a region network's
            activations.
    """
    training, origin = recipe.training, provenance(dataset, recipe.init, seconds)
    located = net if isinstance(net, RegionNet) else None
    if isinstance(recipe, SharedRecipe):
        measured, background, shared = "val_mean_ap", True, recipe.maps
        if recipe.training.only_multibox:
            assert located is not None
            assert located.multibox is not None
            return add_multibox(named_folder(recipe.init), located.multibox, recipe.maps, folder, origin)
    else:
        background, shared = recipe.training.background, None
        measured = "val_top1_on_annotated_boxes" if background else "val_top1_of_whole_images"
    trunk = net.trunk if isinstance(net, RegionNet) else net
    facts = {**dict(recipe.model), "name": recipe.model.name or folder.resolve().name}
    return save_model(
        folder,
        [(training.net, trunk.state_dict(), crop, training.normalization)],
        heads=[] if located is None else [trained_head(located)],
        shared=shared,
        multibox=None if located is None else located.multibox,
        ranges=ranges,
        half=recipe.half,
        background=background,
        refinement=None if located is None else recipe.refinement,
        scores={} if metric is None else {measured: round(metric, 4)},
        class_names=dataset.class_names,
        class_keys=tuple(str(key) for key in dataset.class_keys),
        provenance=origin,
        **facts,
    )


def join_members(folders: Sequence[Path], out: Path, name: str) -> ModelConfig:
    """Make ``out`` a model directory with the networks of all ``folders``, model directories of the same classes.

    Proposals, thresholds and licence are those of the first.

    Raises:
        UserError: one of them is not what it should be, or they differ in their classes.
    """
    configs = [read_model_config(folder) for folder in folders]
    first = configs[0]
    members: list[MemberConfig] = []
    origin: dict[str, str] = {}
    for number, (folder, config) in enumerate(zip(folders, configs, strict=True)):
        if config.class_keys != first.class_keys:
            raise UserError(f"{folder}: has other classes than {folders[0]}; they cannot be one model")
        for member in config.members:
            file = f"member-{len(members)}.safetensors"
            copy_file(folder / member.file, out / file)
            members.append(member.model_copy(update={"file": file}))
        origin |= {f"member {number} {key}": value for key, value in config.provenance.items()}
    if first.multibox is not None:
        copy_file(folders[0] / first.multibox.file, out / first.multibox.file)
    return _made(out, first, name=name, members=tuple(members), provenance=origin)


def average_members(folders: Sequence[Path], out: Path, name: str, *, half: bool) -> ModelConfig:
    """Make ``out`` a model directory of one network, whose weights are the mean of those in ``folders``.

    They have all begun with the same trained network (Wortsman et al., Model soups, 2022). All else is the first one's,
    but for MultiBox, which the mean has only if all of them have it.

    Args:
        half: store the mean in float16.
    """
    configs = [read_model_config(folder) for folder in folders]
    files = [folder / config.members[0].file for folder, config in zip(folders, configs, strict=True)]
    mean = write_weights(out / "member-0.safetensors", mean_weights([read_weights(file) for file in files]), half=half)
    origin = {
        f"weights {number} {key}": value
        for number, config in enumerate(configs)
        for key, value in config.provenance.items()
    }
    heads = [read_weights(f / c.multibox.file) for f, c in zip(folders, configs, strict=True) if c.multibox is not None]
    multibox = configs[0].multibox if len(heads) == len(configs) else None
    if multibox is not None:
        multibox = multibox.model_copy(update=write_weights(out / multibox.file, mean_weights(heads), half=half))
    member = configs[0].members[0].model_copy(update=mean)
    return _made(out, configs[0], name=name, members=(member,), multibox=multibox, provenance=origin)


def _made(folder: Path, model: ModelConfig, **changes: object) -> ModelConfig:
    """Write the ``model.yaml`` of ``folder``: that of another model with ``changes``, not measured yet."""
    made = model.model_copy(update={**changes, "scores": {}})
    write_model_config(folder, made)
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
        member = read_member(init, config, len(model.class_names))
        trunk = {name: tensor for name, tensor in member.net.state_dict().items() if not name.startswith("fc.")}
        state = with_head(halved(trunk), head, member.ranges)
        written = write_weights(folder / f"member-{number}.safetensors", state)
        members.append(config.model_copy(update={**written, "head": head.shape}))
    if model.multibox is not None:
        begin_copy(folder, [init / model.multibox.file])
    return _made(
        folder,
        model,
        name=recipe.name or final_path(folder).resolve().name,
        description=recipe.description,
        licence=recipe.licence,
        members=tuple(members),
        temperature=1.0,  # each SVM has a sigmoid of its own
        postprocess=model.postprocess.model_copy(update={"calibration": Calibration()}),
        provenance=provenance(dataset, recipe.init, seconds),
    )


def provenance(dataset: Dataset, init: str, seconds: float) -> dict[str, str]:
    """What a model says of its training: data, day, command, seconds, first weights."""
    return {
        "data": f"{dataset.name} ({dataset.format}), split {dataset.split or 'all'}, {len(dataset)} images",
        "trained": datetime.date.today().isoformat(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seconds": f"{seconds:.0f} on {platform.machine()}, {torch.get_num_threads()} threads",
        "init": init,
    }
