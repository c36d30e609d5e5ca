"""What a training run ends with: a model or MultiBox directory."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from detector.crop import CropConfig
from detector.data import Dataset
from detector.model.config import MemberConfig, ModelConfig, read_model_config
from detector.model.save import save_model, write_model_config
from detector.nets.multibox import MultiBoxFacts, save_multibox
from detector.nets.region_head import RegionHead
from detector.nets.region_net import RegionNet
from detector.nets.trunks import Network
from detector.nets.weights import copy_file
from detector.recipes.region import MultiBoxRecipe, OneRecipe, SharedRecipe, TrainRecipe
from detector.training.multibox import MultiBoxTrainer, calibrate
from proposals.errors import UserError
from proposals.multibox import MultiBoxNet


def save_trained(
    folder: Path, recipe: TrainRecipe, dataset: Dataset, net: Network, top1: float | None, seconds: float
) -> ModelConfig:
    """Make ``folder``, a finished run's, a model directory as well."""
    training = recipe.training
    named = "val_top1_on_annotated_boxes" if training.background else "val_top1_of_whole_pictures"
    return save_model(
        folder,
        [(training.net, net.state_dict(), training.crop, training.normalization)],
        half=recipe.half,
        background=training.background,
        scores={} if top1 is None else {named: round(top1, 4)},
        **_facts(folder, recipe, dataset, seconds),
    )


def save_trained_shared(
    folder: Path,
    recipe: SharedRecipe,
    dataset: Dataset,
    net: RegionNet,
    head: RegionHead,
    crop: CropConfig,
    ap: float | None,
    seconds: float,
) -> ModelConfig:
    """Make ``folder``, a finished run's, a model directory as well; ``head`` with deltas in plain tx ty tw th."""
    training = recipe.training
    return save_model(
        folder,
        [(training.net, net.trunk.state_dict(), crop, training.normalization)],
        heads=[head],
        shared=recipe.maps,
        half=recipe.half,
        refinement=recipe.refinement,
        scores={} if ap is None else {"val_mean_ap": round(ap, 4)},
        **_facts(folder, recipe, dataset, seconds),
    )


def _facts(folder: Path, recipe: OneRecipe, dataset: Dataset, seconds: float) -> dict[str, Any]:
    """What the recipe says of the model, and where that comes from."""
    return {
        **dict(recipe.model),
        "name": recipe.model.name or folder.resolve().name,
        "class_names": dataset.class_names,
        "class_keys": tuple(str(key) for key in dataset.class_keys),
        "provenance": _provenance(dataset, recipe.init, seconds),
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
    joined = first.model_copy(update={"name": name, "members": tuple(members), "provenance": provenance, "scores": {}})
    write_model_config(out, joined)
    return joined


def save_trained_multibox(
    folder: Path, recipe: MultiBoxRecipe, dataset: Dataset, trainer: MultiBoxTrainer, net: MultiBoxNet
) -> MultiBoxFacts:
    """Make ``folder``, a finished run's, a MultiBox folder as well; the scores are calibrated here."""
    training = recipe.training
    held_out = trainer.train if trainer.val is None else trainer.val
    calibration = calibrate(net, held_out, training.normalization)
    scores = {} if trainer.last_recall is None else {"val_recall50_at_50": round(trainer.last_recall, 4)}
    return save_multibox(
        folder,
        net,
        trainer.priors,
        training.trunk,
        training.normalization,
        half=recipe.half,
        name=recipe.model.name or folder.resolve().name,
        description=recipe.model.description,
        licence=recipe.model.licence,
        proposals=recipe.model.proposals.model_copy(update={"calibration": calibration}),
        merge=recipe.model.merge,
        provenance=_provenance(dataset, recipe.init, trainer.seconds),
        scores=scores,
    )


def _provenance(dataset: Dataset, init: str, seconds: float) -> dict[str, str]:
    return {
        "data": f"{dataset.name} ({dataset.format}), split {dataset.split or 'all'}, {len(dataset)} images",
        "trained": datetime.date.today().isoformat(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seconds": f"{seconds:.0f} on {platform.machine()}, {torch.get_num_threads()} threads",
        "init": init,
    }
