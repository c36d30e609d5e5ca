"""What ``train`` does with a recipe of the task "shared": a region network on shared maps, from data to model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

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
    show_progress,
    teller,
)
from detector.commands.train_run import TrainRequest, check_resumed_options
from detector.data import Dataset
from detector.images.write import write_picture
from detector.model.config import MODEL_FILE
from detector.model.proposals import stored_source
from detector.recipes.build_shared import ValidationAP, build_shared_trainer, propose_for, trained_head, trunk_weights
from detector.recipes.export import save_trained_shared
from detector.recipes.initialization import start_of
from detector.recipes.region import SharedRecipe, read_shared_recipe
from detector.report.drawing import draw_sheet
from detector.report.plots import plot_training
from detector.strict_yaml import read_yaml
from detector.training.loop import Machine
from detector.training.processes import Processes, joined_processes
from detector.training.run_log import LOG_FILE
from detector.training.shared_batches import SharedBatch
from detector.training.shared_trainer import SharedProgress
from proposals.errors import UserError

SHEET_REGIONS = 64


def wants_shared(request: TrainRequest) -> bool:
    """Whether the options, or the run to go on with, ask for a training on shared maps."""
    recorded = None if request.out is None else request.out / RECIPE_FILE
    going_on = request.resume is not Resume.no and recorded is not None and recorded.is_file()
    file = recorded if going_on else request.config
    return file is not None and file.is_file() and read_yaml(file).get("task") == "shared"


def run_shared_training(request: TrainRequest) -> Path:
    """Train as asked and return the folder, which is a model directory then.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal, with a checkpoint saved.
    """
    check_resumed_options(request)
    with joined_processes(request.device) as processes:
        return _train(request, processes)


def _train(request: TrainRequest, processes: Processes) -> Path:
    tell = teller(processes)
    made = prepare_folder(request.out, request.resume, "train", MODEL_FILE) if processes.writes else None
    made = processes.from_first(made)
    assert made is not None
    folder = made.path
    if made.finished:
        tell(f"{folder}: finished already")
        return folder
    asked = None if request.config is None else _with_options(read_shared_recipe(request.config), request)
    recipe = read_shared_recipe(folder / RECIPE_FILE) if made.resuming else asked
    assert recipe is not None
    train, val = read_data(request.data, (recipe.train_split, recipe.val_split))
    if train.format == "image_folder" or not len(train.boxes):
        raise UserError(f"{request.data}: the training data hold no usable object")
    if not made.resuming:
        recipe = _with_splits(recipe, train, val)
        trunk_weights(recipe)  # what is wrong with them shall show before the pictures are read
        if processes.writes:
            begin_folder(folder, "train", recipe, recipe.training.seed)
    elif request.resume is Resume.auto and asked is not None:
        check_same_recipe(folder, recipe, _with_splits(asked, train, val))
    processes.wait()
    tell(f"{train.name}: {len(train)} training pictures, {len(train.boxes)} objects, {len(train.class_names)} classes")
    _run(request, recipe, train, val, folder, processes)
    processes.wait()
    return folder


def _with_options(recipe: SharedRecipe, request: TrainRequest) -> SharedRecipe:
    """``recipe`` as the command line's options change it."""
    if request.members is not None:
        raise UserError("--members is for --recipe ensemble")
    run = {name: value for name, value in (("steps", request.steps), ("seed", request.seed)) if value is not None}
    changes: dict[str, object] = {"training": recipe.training.model_copy(update=run)}
    if request.init is not None:
        changes["init"] = request.init
    if request.split is not None:
        changes["train_split"] = request.split
    return recipe.model_copy(update=changes)


def _with_splits(recipe: SharedRecipe, train: Dataset, val: Dataset | None) -> SharedRecipe:
    """``recipe`` for these parts of the data set."""
    return recipe.model_copy(update={"train_split": train.split, "val_split": "" if val is None else val.split})


def _run(
    request: TrainRequest,
    recipe: SharedRecipe,
    train: Dataset,
    val: Dataset | None,
    folder: Path,
    processes: Processes,
) -> None:
    tell = teller(processes)
    pool = load_pool(train, tell)
    with progress("proposing", len(pool.images), "picture") as advance:
        proposals = propose_for(recipe, pool, request.proposals, processes, advance)
    crop = start_of(recipe.init).crop
    device = own_device(request.device, processes)
    measure = None
    if val is not None and processes.count == 1:
        some = val.subset(np.arange(min(len(val), recipe.val_images)))
        measure = ValidationAP(recipe, crop, some, stored_source(recipe.model.proposals, request.proposals))
    keys = tuple(str(key) for key in train.class_keys)
    machine = Machine(device, processes, request.micro_batch, request.checkpoint_minutes, tell)
    with show_progress(recipe.training.steps, describe, processes.writes) as report:
        trainer = build_shared_trainer(
            recipe, pool, proposals, keys, folder, machine=machine, report=report, measure=measure
        )
        if processes.from_first(trainer.checkpoint_path.exists()):
            trainer.resume()
            tell(f"going on from step {trainer.step} of {recipe.training.steps}")
        elif processes.writes:
            _save_sheet(trainer.batches.batch(0), (*train.class_names, "background"), folder)
        try:
            net = trainer.run()
        finally:
            if processes.writes and (folder / LOG_FILE).exists():
                plot_training(folder / LOG_FILE, folder / "curves.png")
    if processes.writes:
        save_trained_shared(folder, recipe, train, net, trained_head(net), crop, trainer.last_ap, trainer.seconds)
        trainer.clean_up()


def describe(entry: SharedProgress) -> tuple[str, bool]:
    """A line of the log for people; one with a validation is kept on the terminal."""
    measured = "" if entry.ap_val is None else f", validation mean AP {entry.ap_val:.3f}"
    line = (
        f"loss {entry.loss:.3f} (classes {entry.class_loss:.3f}, boxes {entry.box_loss:.3f}), objects named right "
        f"{entry.top1_objects:.3f}{measured}, rate {entry.rate:.2g}, {entry.images_per_second:.1f} images/s"
    )
    return line, bool(measured)


def _save_sheet(batch: SharedBatch, names: tuple[str, ...], folder: Path) -> None:
    """``crops.png``: regions as they lie in the first batch, with what they are labelled."""
    shown = batch.images.round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    keep = np.unique(np.linspace(0, len(batch.labels) - 1, SHEET_REGIONS).astype(int))
    crops, labels = [], []
    for image, x1, y1, x2, y2 in batch.rois[keep].round().int().tolist():
        crop = Image.fromarray(shown[image]).crop((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))).resize((64, 64))
        crops.append(np.asarray(crop))
    for label in batch.labels[keep].tolist():
        labels.append(names[label])
    write_picture(folder / "crops.png", draw_sheet(crops, labels, columns=8))
