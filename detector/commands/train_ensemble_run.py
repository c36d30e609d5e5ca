"""The ``ensemble`` recipe: several networks, one after another or side by side, made one model directory.

The run folder holds a run folder for each member, ``member-0`` and so on. A finished one is a model directory itself
and is never trained again, whatever happens to the others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from detector.commands.console import log_once
from detector.commands.device_jobs import run_verbs
from detector.commands.train_run import (
    RECIPE_FILE,
    TrainRequest,
    begin_folder,
    check_same_recipe,
    named_recipe,
    prepare_folder,
    read_parts,
    train_one,
    with_options,
    with_splits,
)
from detector.model.config import MODEL_FILE, ProposalConfig, named_folder, read_detector_config
from detector.nets.googlenet import GoogLeNetConfig
from detector.recipes.build import check_beginning
from detector.recipes.defaults import MEMBERS, ensemble_recipe
from detector.recipes.export import average_members, join_members
from detector.recipes.region import EnsembleRecipe, MemberPlan
from detector.strict_yaml import dump_yaml, parse, read_settings
from detector.training.processes import Processes, joined_processes
from proposals.errors import UserError


def run_ensemble_training(request: TrainRequest) -> Path:
    """Train what is not trained yet and return the folder, which is a model directory then.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal; what was finished stays so.
    """
    with joined_processes(request.device) as processes:
        folder, resuming, finished = prepare_folder(request, processes)
        if finished:
            return folder
        if not resuming:
            recipe = asked_recipe(request, processes)
            for index, plan in enumerate(recipe.members):
                if plan.trained is None:
                    check_beginning(recipe.member(index))
            check_trained(recipe, request)
            if processes.writes:
                begin_folder(folder, recipe, recipe.base.training.seed)
        else:
            recipe = read_settings(EnsembleRecipe, folder / RECIPE_FILE)
            if request.resume == "auto":
                check_same_recipe(folder, recipe, asked_recipe(request, processes, recipe.base.model.proposals))
        processes.wait()
        members = [
            folder / f"member-{i}" if plan.trained is None else named_folder(plan.trained)
            for i, plan in enumerate(recipe.members)
        ]
        devices = devices_of(request, processes)
        if len(devices) > 1:
            where = f"on {len(devices)} GPUs" if request.jobs == 1 else f"{len(devices)} at a time"
            log_once(f"{len(members)} members {where}; each one's progress is in member-*.txt in {folder}")
            unfinished = [i for i, member in enumerate(members) if not (member / MODEL_FILE).is_file()]
            jobs = {i: member_words(recipe, request, members[i], i) for i in unfinished}
            run_verbs(jobs, devices, {i: members[i].with_suffix(".txt") for i in unfinished}, "training")
        else:
            own = replace(request, recipe=None, config=None, init=None, minutes=None, steps=None, seed=None, split=None)
            for index, member in enumerate(members):
                if recipe.members[index].trained is None:
                    log_once(f"member {index + 1} of {len(members)}")
                    train_one(replace(own, out=member, resume="auto"), processes, recipe.member(index))
        if processes.writes:
            name = recipe.base.model.name or folder.resolve().name
            if recipe.mean:
                average_members(members, folder, name, half=recipe.base.half)
            else:
                join_members(members, folder, name)
        processes.wait()
    return folder


def check_trained(recipe: EnsembleRecipe, request: TrainRequest) -> None:
    """UserError where a model that joins as it is cannot be read, or is not of the kind that can."""
    named = [plan.trained for plan in recipe.members if plan.trained is not None]
    if not named:
        return
    keys = tuple(str(key) for key in read_parts(request, recipe.base)[0].class_keys)
    training = recipe.base.training
    for name in named:
        config = read_detector_config(named_folder(name))
        if config.class_keys != keys:
            raise UserError(f"{name}: knows other classes than the data, or in another order; its networks cannot join")
        if recipe.mean and (len(config.members) > 1 or not _alike(config.members[0].net, training.net)):
            raise UserError(f"{name}: has no part in a mean of weights: it is not one network of the recipe's kind")
    first = recipe.members[0].trained
    if first is not None and training.grid and read_detector_config(named_folder(first)).members[0].head is None:
        raise UserError(f"{first}: has no boxes and overlaps, and the others have; let it be the last of the members")


def _alike(net: GoogLeNetConfig, other: GoogLeNetConfig) -> bool:
    """Whether two trunks have weights of the same shapes."""
    without = {"num_outputs", "dropout", "aux", "aux_pool", "transform_input"}
    return net.model_dump(exclude=without) == other.model_dump(exclude=without)


def asked_recipe(
    request: TrainRequest, processes: Processes, proposals: ProposalConfig | None = None
) -> EnsembleRecipe:
    """The recipe of the file of --config, or members of R-CNN's fine-tuning (with ``proposals``), with the options."""
    if request.config is None:
        train, val = read_parts(request, None)
        base = with_splits(named_recipe(request, train, processes, proposals), train, val)
        return ensemble_recipe(base, request.members or MEMBERS)
    recipe = read_settings(EnsembleRecipe, request.config)
    if request.members is not None:
        plans = (*recipe.members, *(MemberPlan() for _ in range(request.members)))
        recipe = recipe.model_copy(update={"members": plans[: request.members]})
    base = with_options(recipe.base, request)
    if request.split is not None:
        base = with_splits(base, *read_parts(request, base))
    return parse(EnsembleRecipe, {**dict(recipe), "base": base}, request.config)  # --init may forbid a mean


def devices_of(request: TrainRequest, processes: Processes) -> list[str]:
    """Where members are trained side by side; a device as often as it trains members at a time.

    These are the machine's GPUs, but none where ``torchrun`` has divided them already.

    Raises:
        UserError: side by side by ``--jobs`` and divided by ``torchrun`` at once.
    """
    if processes.count > 1 and request.jobs > 1:
        raise UserError("--jobs starts processes of its own: start detector without torchrun")
    if processes.count > 1:
        return []
    count = torch.cuda.device_count() if request.device in ("auto", "cuda") else 0
    gpus = [f"cuda:{i}" for i in range(count)]
    return gpus if request.jobs == 1 else (gpus or [request.device]) * request.jobs


def member_words(recipe: EnsembleRecipe, request: TrainRequest, member: Path, index: int) -> list[str]:
    """The command line that trains one member; its recipe is written beside its folder."""
    config = member.with_suffix(".yaml")
    config.write_text(dump_yaml(recipe.member(index)), encoding="utf-8")
    words = ["train", str(request.data), "--config", str(config)]
    words += ["--out", str(member), "--resume", "auto", "--proposals", str(request.proposals)]
    words += ["--checkpoint-minutes", str(request.checkpoint_minutes)]
    if request.micro_batch is not None:
        words += ["--micro-batch", str(request.micro_batch)]
    return words
