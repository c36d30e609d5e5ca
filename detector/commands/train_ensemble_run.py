"""The ``ensemble`` recipe: several networks, one after another or side by side, made one model directory.

The run folder holds a run folder for each member, ``member-0`` and so on. A finished one is a model directory itself
and is never trained again, whatever happens to the others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from detector.commands.device_jobs import run_verbs
from detector.commands.resume import Resume
from detector.commands.train_common import (
    RECIPE_FILE,
    begin_folder,
    check_same_recipe,
    prepare_folder,
    teller,
)
from detector.commands.train_run import (
    TrainRequest,
    check_resumed_options,
    named_ensemble,
    read_parts,
    train_one,
    with_options,
    with_splits,
)
from detector.model.config import MODEL_FILE, ProposalConfig, named_folder, read_detector_config
from detector.nets.googlenet import GoogLeNetConfig
from detector.recipes.build import check_beginning
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
    check_resumed_options(request)
    with joined_processes(request.device) as processes:
        tell = teller(processes)
        made = prepare_folder(request.out, request.resume, "train", MODEL_FILE) if processes.writes else None
        made = processes.from_first(made)
        assert made is not None
        folder = made.path
        if made.finished:
            tell(f"{folder}: finished already")
            return folder
        recorded = read_settings(EnsembleRecipe, folder / RECIPE_FILE) if made.resuming else None
        if recorded is None:
            recipe = asked_recipe(request, processes)
            for index, plan in enumerate(recipe.members):
                if plan.trained is None:
                    check_beginning(recipe.member(index))
            check_trained(recipe, request)
            if processes.writes:
                begin_folder(folder, "train", recipe, recipe.base.training.seed)
        else:
            recipe = recorded
            if request.resume is Resume.auto:
                check_same_recipe(folder, recorded, asked_recipe(request, processes, recorded.base.model.proposals))
        processes.wait()
        members = [
            folder / f"member-{i}" if plan.trained is None else named_folder(plan.trained)
            for i, plan in enumerate(recipe.members)
        ]
        devices = devices_of(request, processes)
        if len(devices) > 1:
            where = f"on {len(devices)} GPUs" if request.jobs == 1 else f"{len(devices)} at a time"
            tell(f"{len(members)} members {where}; each one's progress is in member-*.txt in {folder}")
            train_side_by_side(recipe, request, members, devices)
        else:
            for index, member in enumerate(members):
                if recipe.members[index].trained is not None:
                    continue
                tell(f"member {index + 1} of {len(members)}")
                train_one(member_request(request, member), processes, recipe.member(index))
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
        if recipe.mean and (len(config.members) > 1 or not alike(config.members[0].net, training.net)):
            raise UserError(f"{name}: has no part in a mean of weights: it is not one network of the recipe's kind")
    first = recipe.members[0].trained
    if first is not None and training.grid and read_detector_config(named_folder(first)).members[0].head is None:
        raise UserError(f"{first}: has no boxes and overlaps, and the others have; let it be the last of the members")


def alike(net: GoogLeNetConfig, other: GoogLeNetConfig) -> bool:
    """Whether two trunks have weights of the same shapes."""
    without = {"num_outputs", "dropout", "aux", "aux_pool", "transform_input"}
    return net.model_dump(exclude=without) == other.model_dump(exclude=without)


def asked_recipe(
    request: TrainRequest, processes: Processes, proposals: ProposalConfig | None = None
) -> EnsembleRecipe:
    """The recipe of the file of --config, or the one by name (with ``proposals``), as the options change it."""
    if request.config is None:
        return named_ensemble(request, processes, proposals)
    recipe = read_settings(EnsembleRecipe, request.config)
    if request.members is not None:
        plans = (*recipe.members, *(MemberPlan() for _ in range(request.members)))
        recipe = recipe.model_copy(update={"members": plans[: request.members]})
    base = with_options(recipe.base, request)
    if request.split is not None:
        base = with_splits(base, *read_parts(request, base))
    return parse(EnsembleRecipe, {**dict(recipe), "base": base}, request.config)  # --init may forbid a mean


def member_request(request: TrainRequest, member: Path) -> TrainRequest:
    """The request for one member, whose recipe is given apart from it."""
    own = replace(request, recipe=None, config=None, init=None, minutes=None, steps=None, seed=None, split=None)
    return replace(own, out=member, resume=Resume.auto)


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


def train_side_by_side(recipe: EnsembleRecipe, request: TrainRequest, members: list[Path], devices: list[str]) -> None:
    """Train each unfinished member in a process of its own, one on each of ``devices`` at a time.

    They share the cores.

    Raises:
        UserError: one failed. Interrupted: a signal came; the members' checkpoints are saved.
    """
    unfinished = {i: member for i, member in enumerate(members) if not (member / MODEL_FILE).is_file()}
    jobs = {i: member_words(recipe, request, member, i) for i, member in unfinished.items()}
    run_verbs(jobs, devices, {i: member.with_suffix(".txt") for i, member in unfinished.items()}, "training")


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
