"""What the ``train`` verb does once its options are read: a run folder from the data to the finished model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from detector.commands.console import progress
from detector.commands.resume import Resume
from detector.commands.train_common import (
    RECIPE_FILE,
    begin_folder,
    check_same_recipe,
    load_pool,
    own_device,
    prepare_folder,
    read_data,
    save_sheet,
    show_progress,
    suited_proposals,
    teller,
)
from detector.data import Dataset, dataset_splits, load_dataset
from detector.model.config import MODEL_FILE, ProposalConfig
from detector.recipes.build import build_trainer, check_beginning, find_windows, load_splits, with_classes
from detector.recipes.defaults import Recipe, ensemble_recipe, finetune_recipe, paper_recipe
from detector.recipes.export import save_trained
from detector.recipes.initialization import start_of
from detector.recipes.region import ClassifierRecipe, EnsembleRecipe, TeacherRecipe, TrainRecipe, read_recipe
from detector.report.plots import plot_training
from detector.training.loop import Interrupted, Machine, Net
from detector.training.pool import ImagePool
from detector.training.processes import Processes, joined_processes
from detector.training.regions import CropTrainer, Progress
from detector.training.run_log import LOG_FILE
from proposals.errors import UserError

RecipeT = TypeVar("RecipeT", TrainRecipe, ClassifierRecipe, TeacherRecipe)


@dataclass(frozen=True)
class TrainRequest:
    """The verb's options; see :func:`detector.commands.train.train`."""

    data: Path
    recipe: Recipe | None = None
    config: Path | None = None
    out: Path | None = None
    resume: Resume = Resume.no
    init: str | None = None
    steps: int | None = None
    seed: int | None = None
    members: int | None = None
    proposals: Path = Path("runs/proposals")
    device: str = "auto"
    micro_batch: int | None = None
    checkpoint_minutes: float = 5.0
    jobs: int = 1
    split: str | None = None


def check_resumed_options(request: TrainRequest) -> None:
    """UserError where options would change a run that is to go on as it is."""
    given = (request.recipe, request.config, request.init, request.steps, request.seed, request.members, request.split)
    if request.resume is Resume.must and any(value is not None for value in given):
        raise UserError(
            "--resume goes on with the run's recipe: leave out --recipe, --config, --init, --steps, --seed, "
            "--members and --split, or say --resume auto"
        )


def with_options(recipe: RecipeT, request: TrainRequest) -> RecipeT:
    """``recipe`` as the command line's options change it."""
    changes = {"steps": request.steps, "seed": request.seed}
    training = recipe.training.model_copy(update={k: v for k, v in changes.items() if v is not None})
    init = recipe.init if request.init is None else request.init
    return recipe.model_copy(update={"training": training, "init": init})


def named_recipe(
    request: TrainRequest, train: Dataset, processes: Processes, proposals: ProposalConfig | None = None
) -> TrainRecipe:
    """The recipe of a run without --config on the data ``train``, with the options' changes.

    R-CNN's fine-tuning takes ``proposals``, by default those that suit the data.
    """
    objects = len(train.boxes)
    if request.recipe is Recipe.paper:
        return with_options(paper_recipe(objects), request)
    start = start_of(request.init or "bundled")
    if proposals is None:
        proposals = processes.from_first(suited_proposals(train, request.seed or 0) if processes.writes else None)
        assert proposals is not None
    return with_options(finetune_recipe(start._replace(proposals=proposals), objects), request)


def named_ensemble(
    request: TrainRequest, processes: Processes, proposals: ProposalConfig | None = None
) -> EnsembleRecipe:
    """The ensemble of a run without --config: members of R-CNN's fine-tuning."""
    train, val = read_parts(request, None)
    base = with_splits(named_recipe(request, train, processes, proposals), train, val)
    return ensemble_recipe(base) if request.members is None else ensemble_recipe(base, request.members)


def resolved(recipe: RecipeT, train: Dataset, val: Dataset | None) -> RecipeT:
    """The recipe with what the data decide: the parts of the data set, and the net's outputs."""
    return with_classes(with_splits(recipe, train, val), len(train.class_names))


def with_splits(recipe: RecipeT, train: Dataset, val: Dataset | None) -> RecipeT:
    """The recipe for these parts of the data set."""
    return recipe.model_copy(update={"train_split": train.split, "val_split": val.split if val is not None else ""})


def keys_of(dataset: Dataset) -> tuple[str, ...]:
    """The classes' keys as models have them."""
    return tuple(str(key) for key in dataset.class_keys)


def read_parts(request: TrainRequest, recipe: TrainRecipe | None) -> tuple[Dataset, Dataset | None]:
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


def train_one(request: TrainRequest, processes: Processes, given: TrainRecipe | None = None) -> Path:
    """Train one network; see :func:`run_training`. ``given``: its recipe, in place of the request's."""
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
    if train.format == "image_folder":
        raise UserError(
            f"{request.data}: has pictures in folders but no boxes; annotate them with a labelling tool, or, if the "
            "folders are classes, name whole pictures with detector train-classifier"
        )
    asked = given
    if asked is None:
        asked = named_recipe(request, train, processes, recorded.model.proposals if recorded else None)
    if recorded is None:
        recipe = resolved(asked, train, val)
        check_beginning(recipe, keys_of(train))
        if processes.writes:
            begin_folder(folder, "train", recipe, recipe.training.seed)
    else:
        recipe = recorded
        if request.resume is Resume.auto:
            check_same_recipe(folder, recorded, resolved(asked, train, val))
    processes.wait()
    tell(f"{train.name}: {len(train)} training pictures, {len(train.boxes)} objects, {len(train.class_names)} classes")
    trainer, net = train_network(build_trainer, recipe, folder, train, val, request, processes)
    if processes.writes:
        save_trained(folder, recipe, train, net, trainer.last_accuracy, trainer.seconds)
        trainer.clean_up()
    processes.wait()
    return folder


def train_network(
    build: Callable[..., CropTrainer[Net]],
    recipe: TrainRecipe | ClassifierRecipe | TeacherRecipe,
    folder: Path,
    train: Dataset,
    val: Dataset | None,
    request: TrainRequest,
    processes: Processes,
) -> tuple[CropTrainer[Net], Net]:
    """The run itself, new or resumed: the trainer at its end, and the trained net.

    ``build``: makes the trainer of such a recipe; see :mod:`detector.recipes.build`.
    """
    tell = teller(processes)
    pools = [load_pool(dataset, tell) for dataset in (train, val) if dataset is not None]
    given: dict[str, object] = {}
    names = train.class_names
    if isinstance(recipe, ClassifierRecipe):
        pools = [pool.whole() for pool in pools]
    else:
        names = (*names, "background")
        if recipe.scenes:
            given["scenes"] = ImagePool.join([load_pool(load_dataset(Path(path)), tell) for path in recipe.scenes])
        if isinstance(recipe, TrainRecipe) and recipe.training.regions == "windows":
            with progress("proposing", len(pools[0].images), "picture") as advance:
                windows = find_windows(recipe, pools[0], request.proposals, processes=processes, advance=advance)
            given["windows"] = windows
            tell(f"{len(windows.foreground):,} windows show objects, {len(windows.background):,} background")
    machine = Machine(
        own_device(request.device, processes), processes, request.micro_batch, request.checkpoint_minutes, tell
    )
    with show_progress(recipe.training.steps, describe, processes.writes) as report:
        trainer = build(
            recipe,
            pools[0],
            pools[1] if len(pools) > 1 else None,
            keys_of(train),
            folder,
            machine=machine,
            report=report,
            **given,
        )
        if processes.from_first(trainer.checkpoint_path.exists()):
            trainer.resume()
            tell(f"going on from step {trainer.step} of {recipe.training.steps}")
        elif processes.writes:
            save_sheet(trainer.batches.batch(0), names, folder)
        try:
            net = trainer.run()
        except Interrupted:
            if processes.writes and (folder / LOG_FILE).exists():
                plot_training(folder / LOG_FILE, folder / "curves.png")
            raise
    for fault in trainer.batches.unreadable.values():
        tell(f"left out while training: {fault}")
    if processes.writes:
        plot_training(folder / LOG_FILE, folder / "curves.png")
    return trainer, net


@dataclass(frozen=True)
class TrainingTask(Generic[RecipeT, Net]):
    """A verb that trains one network by one recipe, from the data to the finished folder.

    Attributes:
        verb: its name. finished: the file that a finished folder has. read: of a recipe's file. unnamed: the recipe of
            a run without --config. build: its trainer. save: makes the run folder what it becomes.
    """

    verb: str
    finished: str
    read: Callable[[Path], RecipeT]
    unnamed: Callable[[TrainRequest, Dataset], RecipeT]
    build: Callable[..., CropTrainer[Net]]
    save: Callable[[Path, RecipeT, Dataset, Net, float | None, float], object]


def run_kind(kind: TrainingTask[RecipeT, Net], request: TrainRequest) -> Path:
    """Train as asked and return the folder, which is what the verb makes then.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal, with a checkpoint saved.
    """
    check_resumed_options(request)
    with joined_processes(request.device) as processes:
        tell = teller(processes)
        made = None
        if processes.writes:
            made = prepare_folder(request.out, request.resume, kind.verb, kind.finished)
        made = processes.from_first(made)
        assert made is not None
        folder = made.path
        if made.finished:
            tell(f"{folder}: finished already")
            return folder
        recorded = kind.read(folder / RECIPE_FILE) if made.resuming else None
        known = recorded or (kind.read(request.config) if request.config is not None else None)
        train, val = read_data(request.data, (known.train_split, known.val_split) if known else None)

        def asked() -> RecipeT:
            given = kind.unnamed(request, train) if request.config is None else kind.read(request.config)
            return resolved(with_options(given, request), train, val)

        if recorded is None:
            recipe = asked()
            check_beginning(recipe, keys_of(train))
            if processes.writes:
                begin_folder(folder, kind.verb, recipe, recipe.training.seed)
        else:
            recipe = recorded
            if request.resume is Resume.auto:
                check_same_recipe(folder, recorded, asked())
        processes.wait()
        tell(f"{train.name}: {len(train)} training pictures of {len(train.class_names)} classes")
        trainer, net = train_network(kind.build, recipe, folder, train, val, request, processes)
        if processes.writes:
            kind.save(folder, recipe, train, net, trainer.last_accuracy, trainer.seconds)
            trainer.clean_up()
        processes.wait()
    return folder


def describe(entry: Progress) -> tuple[str, bool]:
    """A line of the log for people; one with a validation is kept on the terminal."""
    accuracy = "" if entry.top1_val is None else f", validation top-1 {entry.top1_val:.3f}"
    line = f"loss {entry.loss:.3f}, top-1 {entry.top1_train:.3f}{accuracy}, rate {entry.rate:.2g}, "
    return line + f"{entry.crops_per_second:.0f} crops/s", bool(accuracy)
