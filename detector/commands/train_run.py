"""What the ``train`` verb does once its options are read: a run folder from the data to the finished model."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from detector.commands.options import Recipe
from detector.commands.resume import Resume
from detector.commands.train_common import (
    RECIPE_FILE,
    begin_folder,
    check_same_recipe,
    own_device,
    prepare_folder,
    read_data,
    save_sheet,
    show_progress,
    suited_proposals,
    teller,
)
from detector.commands.train_jobs import CropJob, SharedJob, job_of
from detector.data import Dataset, dataset_splits
from detector.model.config import MODEL_FILE, ProposalConfig
from detector.recipes.build import load_splits, with_classes
from detector.recipes.defaults import (
    classifier_recipe,
    ensemble_recipe,
    finetune_recipe,
    multibox_recipe,
    paper_recipe,
    shared_recipe,
)
from detector.recipes.initialization import start_of
from detector.recipes.region import EnsembleRecipe, OneRecipe, SharedRecipe, TrainRecipe, read_recipe
from detector.runs.leftovers import marked, unmark
from detector.strict_yaml import read_yaml
from detector.training.processes import Machine, Processes, joined_processes
from detector.training.region_trainer import Progress
from detector.training.run_files import LOG_FILE
from proposals.errors import UserError

HOLD_OUT, LEAST_TO_HOLD_OUT = 0.1, 60  # share of the images that is measured on, and how many there must be for it
RecipeT = TypeVar("RecipeT", TrainRecipe, SharedRecipe, OneRecipe)


@dataclass(frozen=True)
class TrainRequest:
    """The verb's options; see :func:`detector.commands.train.train`."""

    data: Path
    recipe: Recipe | None = None
    config: Path | None = None
    out: Path | None = None
    resume: Resume = Resume.no
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
    if file is None and request.resume is not Resume.no and request.out is not None:
        file = request.out / RECIPE_FILE
    return str(read_yaml(file).get("task", "")) if file is not None and file.is_file() else ""


def check_resumed_options(request: TrainRequest) -> None:
    """UserError where options would change a run that is to go on as it is."""
    given = (
        request.recipe, request.config, request.init, request.minutes, request.steps, request.seed, request.members,
        request.split,
    )  # fmt: skip
    if request.resume is Resume.must and any(value is not None for value in given):
        raise UserError(
            "--resume goes on with the run's recipe: leave out --recipe, --config, --init, --minutes, --steps, --seed, "
            "--members and --split, or say --resume auto"
        )
    if request.minutes is not None and request.steps is not None:
        raise UserError("--minutes and --steps: choose one of them; minutes become steps by the speed of the machine")


def with_options(recipe: RecipeT, request: TrainRequest) -> RecipeT:
    """``recipe`` as the command line's options change it."""
    run = {"steps": request.steps, "seed": request.seed}
    training = recipe.training.model_copy(update={k: v for k, v in run.items() if v is not None})
    if request.steps is not None:  # however long they take
        training = training.model_copy(update={"planned_seconds": None})
    minutes = None if request.steps is not None else request.minutes or recipe.minutes
    init = recipe.init if request.init is None else request.init
    return recipe.model_copy(update={"training": training, "init": init, "minutes": minutes})


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
        proposals = processes.from_first(suited_proposals(train, request.seed or 0) if processes.writes else None)
        assert proposals is not None
    start = start._replace(proposals=proposals)
    if request.recipe is Recipe.finetune or request.recipe is Recipe.ensemble:
        return with_options(finetune_recipe(start, objects), request)
    recipe = with_options(shared_recipe(start), request)
    measured = val is not None or request.split is not None or len(train) < LEAST_TO_HOLD_OUT
    return recipe if measured else recipe.model_copy(update={"hold_out": HOLD_OUT})


def named_ensemble(
    request: TrainRequest, processes: Processes, proposals: ProposalConfig | None = None
) -> EnsembleRecipe:
    """The ensemble of a run without --config: members of R-CNN's fine-tuning."""
    train, val = read_parts(request, None)
    base = with_splits(named_recipe(request, train, processes, proposals), train, val)
    return ensemble_recipe(base) if request.members is None else ensemble_recipe(base, request.members)


def as_planned(asked: OneRecipe, recorded: OneRecipe) -> OneRecipe:
    """``asked`` with the images and steps that were planned for ``recorded``, if both are for as many minutes."""
    if asked.minutes is None or asked.minutes != recorded.minutes or type(asked) is not type(recorded):
        return asked
    planned = recorded.training
    run = {"steps": planned.steps, "average": planned.average, "planned_seconds": planned.planned_seconds}
    training = asked.training.model_copy(update=run)
    return asked.model_copy(update={"training": training, "images": recorded.images})


def resolved(recipe: RecipeT, train: Dataset, val: Dataset | None) -> RecipeT:
    """The recipe with what the data decide: the parts of the data set, and the net's outputs."""
    return with_classes(with_splits(recipe, train, val), len(train.class_names))


def with_splits(recipe: RecipeT, train: Dataset, val: Dataset | None) -> RecipeT:
    """The recipe for these parts of the data set."""
    return recipe.model_copy(update={"train_split": train.split, "val_split": val.split if val is not None else ""})


def read_parts(request: TrainRequest, recipe: OneRecipe | None) -> tuple[Dataset, Dataset | None]:
    """The training and validation data: by --split, by the recipe, or whatever parts the data set has.

    What --split names is never validated on; what remains without a validation part trains without.

    Raises:
        UserError: they cannot be read.
    """
    if request.split is None:
        return read_data(request.data, (recipe.train_split, recipe.val_split) if recipe else None)
    val = recipe.val_split if recipe else "val"
    named = any(part.strip().endswith(val) for part in request.split.split("+"))  # trainval has val in it
    if named or (recipe is None and val not in dataset_splits(request.data)):
        val = ""
    return load_splits(request.data, request.split, val)


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
    check_resumed_options(request)
    tell = teller(processes)
    made = prepare_folder(request.out, request.resume, "train", MODEL_FILE) if processes.writes else None
    made = processes.from_first(made)
    assert made is not None
    folder = made.path
    if made.finished:
        tell(f"{folder}: finished already")
        return folder
    recorded = read_recipe(folder / RECIPE_FILE) if made.resuming else None
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
    machine = Machine(
        own_device(request.device, processes), processes, request.micro_batch, request.checkpoint_minutes, tell
    )

    def job(recipe: OneRecipe) -> CropJob | SharedJob:
        return job_of(resolved(recipe, train, val), train, val, request.proposals, machine)

    def asked() -> OneRecipe:
        if given is not None:
            return given
        if request.recipe is None and recorded is not None:
            return with_options(recorded, request)
        return named_recipe(request, train, processes, recorded.model.proposals if recorded else None, val)

    tell(f"{train.name}: {len(train)} training images, {len(train.boxes)} objects, {len(train.class_names)} classes")
    if recorded is None:
        running = job(asked())
        running.check()
        plan_in_time(running, begun, processes)
        running.load()
        if processes.writes:
            begin_folder(folder, "train", running.recipe, running.recipe.training.seed)
    else:
        if request.resume is Resume.auto:
            check_same_recipe(folder, recorded, as_planned(job(asked()).recipe, recorded))
        running = job_of(recorded, train, val, request.proposals, machine)
        running.choose_images()
        running.load()
    processes.wait()
    with ExitStack() as stack:
        if processes.writes:  # two runs in one folder would spoil each other's checkpoints
            stack.enter_context(marked(folder, "train"))
            stack.callback(unmark, folder)
        train_network(running, folder, processes)
    processes.wait()
    return folder


def plan_in_time(job: CropJob | SharedJob, begun: float, processes: Processes) -> None:
    """Plan a run whose recipe says how many minutes it may take, as the first of several processes sees it."""
    if job.recipe.minutes is None:
        return
    # All of them measure, for they wait for one another in every step; the first one's plan is taken.
    job.recipe, line = processes.from_first(job.plan(job.recipe.minutes, begun))
    job.choose_images()
    job.machine.tell(line)


def train_network(job: CropJob | SharedJob, folder: Path, processes: Processes) -> None:
    """The run itself, new or resumed, whose data are loaded."""
    tell, steps = job.machine.tell, job.recipe.training.steps
    with show_progress(steps, describe, processes.writes) as report:
        trainer = job.trainer(folder, report)
        if processes.from_first(trainer.checkpoint_path.exists()):
            trainer.resume()
            tell(f"going on from step {trainer.step} of {trainer.steps}")
        elif processes.writes:
            save_sheet(trainer.batches.batch(0), job.train.class_names, folder)
        try:
            net = trainer.run()
        finally:
            if processes.writes and (folder / LOG_FILE).exists():
                from detector.report.plots import plot_training

                plot_training(folder / LOG_FILE, folder / "curves.png")
    for fault in trainer.batches.unreadable.values():
        tell(f"left out while training: {fault}")
    if processes.writes:
        job.save(folder, trainer, net)
        trainer.clean_up()


def describe(entry: Progress) -> tuple[str, bool]:
    """A line of the log for people; one with a validation is kept on the terminal."""
    parts = [f"loss {entry.loss:.3f}"]
    if entry.loss != entry.proposal_loss:  # or MultiBox alone learns
        if entry.box_loss is not None:
            proposals = "" if entry.proposal_loss is None else f", proposals {entry.proposal_loss:.3f}"
            parts[0] += f" (classes {entry.class_loss:.3f}, boxes {entry.box_loss:.3f}{proposals})"
        parts.append(f"top-1 {entry.top1_train:.3f}, of objects {entry.top1_objects:.3f}")
    if entry.top1_val is not None:
        parts.append(f"validation top-1 {entry.top1_val:.3f}")
    if entry.ap_val is not None:
        parts.append(f"validation mean AP {entry.ap_val:.3f}")
    parts += [f"rate {entry.rate:.2g}", f"{entry.regions_per_second:.0f} regions/s"]
    return ", ".join(parts), entry.top1_val is not None or entry.ap_val is not None
