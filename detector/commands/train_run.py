"""What the ``train`` verb does once its options are read: a run folder from the data to the finished model."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from pydantic import BaseModel

from detector.commands.console import log_once
from detector.commands.options import Recipe
from detector.commands.train_jobs import describe, job_of, save_sheet, show_progress
from detector.data import Dataset, dataset_splits
from detector.model.config import MODEL_FILE, ProposalConfig
from detector.model.load import choose_device
from detector.recipes.build import check_beginning, load_splits, with_classes
from detector.recipes.defaults import classifier_recipe, finetune_recipe, multibox_recipe, paper_recipe, shared_recipe
from detector.recipes.initialization import start_of
from detector.recipes.region import OneRecipe, SharedRecipe, TrainRecipe, read_recipe
from detector.runs.folder import CONFIG_FILE, new_run_path, write_config
from detector.runs.leftovers import UNFINISHED, marked, unmark
from detector.strict_yaml import read_yaml, write_settings
from detector.training.pool import ImagePool
from detector.training.processes import Machine, Processes, joined_processes
from detector.training.proposal_choice import PICTURES, choose_proposals
from detector.training.run_files import LOG_FILE
from proposals.errors import UserError

RECIPE_FILE = "recipe.yaml"
HOLD_OUT, LEAST_TO_HOLD_OUT = 0.1, 60  # share of the images that is measured on, and how many there must be for it
RecipeT = TypeVar("RecipeT", TrainRecipe, SharedRecipe, OneRecipe)


@dataclass(frozen=True)
class TrainRequest:
    """The verb's options; see :func:`detector.commands.train.train`."""

    data: Path
    recipe: Recipe | None = None
    config: Path | None = None
    out: Path | None = None
    resume: str | None = None
    init: str | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int | None = None
    members: int | None = None
    proposals: Path = Path("runs/proposals")
    device: str = "auto"
    micro_batch: int | None = None
    checkpoint_minutes: float = 5.0
    jobs: int = 1
    split: str | None = None


def task_of(request: TrainRequest) -> str:
    """What the run trains: "ensemble", "svm", or another network: by --recipe, --config, or the run to resume."""
    if request.recipe is not None:
        return request.recipe.value
    file = request.config
    if file is None and request.resume is not None and request.out is not None:
        file = request.out / RECIPE_FILE
    return str(read_yaml(file).get("task", "")) if file is not None and file.is_file() else ""


# --- the run folder


class RunFolder(NamedTuple):
    """The folder of a run, whether an interrupted one is in it, and whether a finished one."""

    path: Path
    resuming: bool = False
    finished: bool = False


def prepare_folder(request: TrainRequest, processes: Processes) -> RunFolder:
    """The run folder: new, or that of the run to resume; a finished one is told of.

    Raises:
        UserError: the options would change a run that is to go on as it is; there is something at --out already, or
            nothing to resume.
    """
    given = (
        request.recipe, request.config, request.init, request.minutes, request.steps, request.seed, request.members,
        request.split,
    )  # fmt: skip
    if request.resume == "must" and any(value is not None for value in given):
        raise UserError(
            "--resume goes on with the run's recipe: leave out --recipe, --config, --init, --minutes, --steps, --seed, "
            "--members and --split, or say --resume auto"
        )
    if request.minutes is not None and request.steps is not None:
        raise UserError("--minutes and --steps: choose one of them; minutes become steps by the speed of the machine")
    made = processes.from_first(_folder_of(request) if processes.writes else RunFolder(Path()))
    if made.finished:
        log_once(f"{made.path}: finished already")
    return made


def _folder_of(request: TrainRequest) -> RunFolder:
    folder, resume = request.out or new_run_path("train"), request.resume
    if resume is not None:
        if (folder / MODEL_FILE).exists():
            if resume == "auto":
                return RunFolder(folder, finished=True)
            raise UserError(f"{folder}: this run is finished; choose another --out to train again")
        if (folder / RECIPE_FILE).is_file():
            return RunFolder(folder, resuming=True)
        if resume == "must":
            raise UserError(
                f"{folder}: no interrupted run to go on with (it has no {RECIPE_FILE}); "
                "leave --resume out, or say --resume auto"
            )
        if _hardly_begun(folder):
            return RunFolder(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; choose another --out, or --resume to go on with an interrupted run")
    return RunFolder(folder)


def _hardly_begun(folder: Path) -> bool:
    """Whether a run died in :func:`begin_folder`: there is nothing but what that writes, and no recipe."""
    config = folder / CONFIG_FILE
    beginnings = {CONFIG_FILE, CONFIG_FILE + UNFINISHED, RECIPE_FILE + UNFINISHED}
    try:
        own = not config.exists() or config.read_bytes().startswith(b"verb: train\n")
        return own and {entry.name for entry in folder.iterdir()} <= beginnings
    except OSError:
        return False


def begin_folder(folder: Path, recipe: BaseModel, seed: int) -> None:
    """Make the run folder; the recipe in it is what a resumed run goes by, so it is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / CONFIG_FILE, "train", recipe.model_dump(mode="json"), seed)
    write_settings(folder / RECIPE_FILE, recipe)


def check_same_recipe(folder: Path, recorded: BaseModel, asked: BaseModel) -> None:
    """UserError where --resume auto finds a run of another recipe than the one asked for."""
    if recorded != asked:
        old, new = recorded.model_dump(mode="json"), asked.model_dump(mode="json")
        other = next((key for key in new if old.get(key) != new[key]), "it")
        raise UserError(f"{folder}: has a run of another recipe ({other} differs); choose another --out")


# --- the data and the recipe


def usual_parts(data: Path) -> tuple[Dataset, Dataset | None]:
    """The training and validation data of whatever parts the data set has.

    Raises:
        UserError: they cannot be read.
    """
    known = {name.rstrip("0123456789") or name for name in dataset_splits(data)} | set(dataset_splits(data))
    for train_split, val_split in (("train", "val"), ("trainval", "test"), ("train", "test"), ("train", "")):
        if known.issuperset(filter(None, (train_split, val_split))):  # a faulty one is told, not passed over
            return load_splits(data, train_split, val_split)
    return load_splits(data, "", "")


def read_parts(request: TrainRequest, recipe: OneRecipe | None) -> tuple[Dataset, Dataset | None]:
    """The training and validation data: by --split, by the recipe, or whatever parts the data set has.

    What --split names is never validated on; what remains without a validation part trains without.

    Raises:
        UserError: they cannot be read.
    """
    if request.split is None:
        return load_splits(request.data, recipe.train_split, recipe.val_split) if recipe else usual_parts(request.data)
    val = recipe.val_split if recipe else "val"
    named = any(part.strip().endswith(val) for part in request.split.split("+"))  # trainval has val in it
    if named or (recipe is None and val not in dataset_splits(request.data)):
        val = ""
    return load_splits(request.data, request.split, val)


def in_numbers(train: Dataset) -> str:
    """The training data in a line."""
    return f"{train.name}: {len(train)} training images, {len(train.boxes)} objects, {len(train.class_names)} classes"


def with_options(recipe: RecipeT, request: TrainRequest) -> RecipeT:
    """``recipe`` as the command line's options change it."""
    run = {"steps": request.steps, "seed": request.seed}
    training = recipe.training.model_copy(update={k: v for k, v in run.items() if v is not None})
    if request.steps is not None:  # however long they take
        training = training.model_copy(update={"planned_seconds": None})
    minutes = None if request.steps is not None else request.minutes or recipe.minutes
    init = recipe.init if request.init is None else request.init
    return recipe.model_copy(update={"training": training, "init": init, "minutes": minutes})


def with_splits(recipe: RecipeT, train: Dataset, val: Dataset | None) -> RecipeT:
    """The recipe for these parts of the data set."""
    return recipe.model_copy(update={"train_split": train.split, "val_split": val.split if val is not None else ""})


def named_recipe(
    request: TrainRequest,
    train: Dataset,
    processes: Processes,
    proposals: ProposalConfig | None = None,
    val: Dataset | None = None,
) -> OneRecipe:
    """The recipe of a run without --config on the data ``train``, with the options' changes.

    Fine-tuning and training on shared maps take ``proposals``, by default those that suit the data. The latter holds
    some images out where there are enough and neither ``val`` nor --split says what to measure on.

    Raises:
        UserError: --init names no model.
    """
    if request.recipe is Recipe.classifier:
        return with_options(classifier_recipe(start_of(request.init or "random"), len(train)), request)
    objects = len(train.boxes)
    if request.recipe is Recipe.paper:
        return with_options(paper_recipe(objects), request)
    if request.recipe is Recipe.multibox:
        return with_options(multibox_recipe(start_of(request.init or "bundled")), request)
    start = start_of(request.init or "small")
    if proposals is None:
        own = _suited_proposals(train, request.seed or 0) if processes.writes else start.proposals
        proposals = processes.from_first(own)
    start = start._replace(proposals=proposals)
    if request.recipe is Recipe.finetune or request.recipe is Recipe.ensemble:
        return with_options(finetune_recipe(start, objects), request)
    recipe = with_options(shared_recipe(start), request)
    measured = val is not None or request.split is not None or len(train) < LEAST_TO_HOLD_OUT
    return recipe if measured else recipe.model_copy(update={"hold_out": HOLD_OUT})


def _suited_proposals(train: Dataset, seed: int) -> ProposalConfig:
    """Where to look for objects of the size that ``train`` has; UserError where some images have no usable object."""
    with_objects = np.flatnonzero(np.diff(train.offsets) > 0)
    some = np.random.default_rng([seed, 6]).permutation(with_objects)[: 2 * PICTURES]  # a few may be unreadable
    return choose_proposals(ImagePool.load(train.subset(np.sort(some))), seed).proposals


def as_planned(asked: OneRecipe, recorded: OneRecipe) -> OneRecipe:
    """``asked`` with the images and steps that were planned for ``recorded``, if both are for as many minutes."""
    if asked.minutes is None or asked.minutes != recorded.minutes or type(asked) is not type(recorded):
        return asked
    planned = recorded.training
    run = {"steps": planned.steps, "planned_seconds": planned.planned_seconds}
    training = asked.training.model_copy(update=run)
    return asked.model_copy(update={"training": training, "images": recorded.images})


# --- the run


def own_device(name: str, processes: Processes) -> torch.device:
    """The device of this process: of several on a machine, each takes a GPU of its own."""
    device = choose_device(name)
    if device.type == "cuda" and processes.count > 1:
        return choose_device(f"cuda:{processes.local_rank}")
    return device


def run_training(request: TrainRequest) -> Path:
    """Train as asked and return the folder, which is a model directory then.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal, with a checkpoint saved.
    """
    with joined_processes(request.device) as processes:
        return train_one(request, processes)


def train_one(request: TrainRequest, processes: Processes, given: OneRecipe | None = None) -> Path:
    """Train one network; see :func:`run_training`. ``given``: its recipe, in place of the request's."""
    begun = time.monotonic()
    folder, resuming, finished = prepare_folder(request, processes)
    if finished:
        return folder
    recorded = read_recipe(folder / RECIPE_FILE) if resuming else None
    if given is None and request.config is not None:
        given = with_options(read_recipe(request.config), request)
    known = given or recorded
    train, val = read_parts(request, known)
    whole = request.recipe is Recipe.classifier or (isinstance(known, TrainRecipe) and not known.training.background)
    if train.format == "image_folder" and not whole:
        raise UserError(
            f"{request.data}: has images in folders but no boxes; annotate them with a labelling tool, or, if the "
            "folders are classes, name whole images with --recipe classifier"
        )
    device = own_device(request.device, processes)
    machine = Machine(device, processes, request.micro_batch, request.checkpoint_minutes, log_once)
    about = (train, val, request.proposals, machine)

    def asked() -> OneRecipe:
        """What is asked for, with the parts of the data set and the net's outputs."""
        recipe = given
        if recipe is None and request.recipe is None and recorded is not None:
            recipe = with_options(recorded, request)
        elif recipe is None:
            recipe = named_recipe(request, train, processes, recorded.model.proposals if recorded else None, val)
        return with_classes(with_splits(recipe, train, val), len(train.class_names))

    log_once(in_numbers(train))
    if recorded is None:
        job = job_of(asked(), *about)
        check_beginning(job.recipe, job.keys)
        if job.recipe.minutes is not None:
            # All of them measure, for they wait for one another in every step; the first one's plan is taken.
            job.recipe, line = processes.from_first(job.plan(job.recipe.minutes, begun))
            job.choose_images()
            log_once(line)
    else:
        if request.resume == "auto":
            check_same_recipe(folder, recorded, as_planned(asked(), recorded))
        job = job_of(recorded, *about)
        job.choose_images()
    job.load()
    if recorded is None and processes.writes:
        begin_folder(folder, job.recipe, job.recipe.training.seed)
    processes.wait()
    with ExitStack() as stack:
        if processes.writes:  # two runs in one folder would spoil each other's checkpoints
            stack.enter_context(marked(folder, "train"))
            stack.callback(unmark, folder)
        with show_progress(job.recipe.training.steps, describe, processes.writes) as report:
            trainer = job.trainer(folder, report)
            if processes.from_first(trainer.checkpoint_path.exists()):
                trainer.resume()
                log_once(f"going on from step {trainer.step} of {trainer.steps}")
            elif processes.writes:
                save_sheet(trainer.batches.batch(0), job.train.class_names, folder)
            try:
                net = trainer.run()
            finally:
                if processes.writes and (folder / LOG_FILE).exists():
                    from detector.report.plots import plot_training

                    plot_training(folder / LOG_FILE, folder / "curves.png")
        for fault in trainer.batches.unreadable.values():
            log_once(f"left out while training: {fault}")
        if processes.writes:
            job.save(folder, trainer, net)
            trainer.clean_up()
    processes.wait()
    return folder
