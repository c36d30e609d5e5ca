"""What the ``train-multibox`` verb does once its options are read: a run folder from the data to the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.commands.resume import Resume
from detector.commands.train_common import (
    RECIPE_FILE,
    begin_folder,
    load_pool,
    own_device,
    prepare_folder,
    read_data,
    show_progress,
    teller,
)
from detector.images.write import write_picture
from detector.model.save import join_multibox
from detector.nets.multibox import MULTIBOX_FILE, PRIORS
from detector.recipes.build_multibox import (
    build_multibox_trainer,
    check_multibox_beginning,
    choose_priors,
    save_trained_multibox,
)
from detector.recipes.multibox import MultiBoxRecipe, default_multibox_recipe, read_multibox_recipe
from detector.report.drawing import draw_proposals, draw_sheet
from detector.report.plots import plot_training
from detector.training.loop import Machine
from detector.training.multibox import MultiBoxProgress, MultiBoxTrainer
from detector.training.processes import Processes, joined_processes
from proposals.errors import UserError
from proposals.priors import read_priors, write_priors
from proposals.types import Proposals, Source

DEFAULT_EPOCHS = 60  # of the default recipe, within the bounds below
DEFAULT_STEPS = (400, 4000)
SHEET_PICTURES = 16


@dataclass(frozen=True)
class MultiBoxRequest:
    """The verb's options; see :func:`detector.commands.train_multibox.train_multibox`."""

    data: Path
    config: Path | None
    out: Path | None
    resume: Resume
    device: str
    checkpoint_minutes: float
    model: Path | None = None
    init: str | None = None
    priors: Path | None = None
    steps: int | None = None
    seed: int | None = None


def default_recipe(request: MultiBoxRequest, pictures: int) -> MultiBoxRecipe:
    """The default recipe for so many images, with the options' changes."""
    batch = default_multibox_recipe(1).training.batch_size
    steps = int(np.clip(DEFAULT_EPOCHS * pictures / batch, *DEFAULT_STEPS))
    return changed(default_multibox_recipe(steps), request)


def changed(recipe: MultiBoxRecipe, request: MultiBoxRequest) -> MultiBoxRecipe:
    """``recipe`` as the command line's options change it."""
    run = {name: value for name, value in (("steps", request.steps), ("seed", request.seed)) if value is not None}
    given = {"init": request.init, "priors": None if request.priors is None else str(request.priors)}
    first = {name: value for name, value in given.items() if value is not None}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=run), **first})


def choose_recipe(request: MultiBoxRequest, folder: Path, resuming: bool) -> MultiBoxRecipe | None:
    """The recipe of the run to resume or of the given file, with the options' changes; ``None`` for the default.

    ``--resume auto`` goes by the recorded recipe once there is one.

    Raises:
        UserError: options would change the recipe of a run to go on with.
    """
    if resuming:
        given = (request.config, request.init, request.steps, request.seed, request.priors)
        if request.resume is Resume.must and any(option is not None for option in given):
            raise UserError("--resume goes on with the run's recipe: leave out the options that would change it")
        return read_multibox_recipe(folder / RECIPE_FILE)
    return None if request.config is None else changed(read_multibox_recipe(request.config), request)


def run_multibox_training(request: MultiBoxRequest) -> Path:
    """Train as asked and return the folder, which is a MultiBox folder then, and with --model a model directory.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal, with a checkpoint saved.
    """
    with joined_processes(request.device) as processes:
        return _train(request, processes)


def _train(request: MultiBoxRequest, processes: Processes) -> Path:
    tell = teller(processes)
    made = prepare_folder(request.out, request.resume, "train-multibox", MULTIBOX_FILE) if processes.writes else None
    made = processes.from_first(made)
    assert made is not None
    folder = made.path
    if made.finished:
        tell(f"{folder}: finished already")
        return folder
    recipe = choose_recipe(request, folder, made.resuming)
    train, val = read_data(request.data, (recipe.train_split, recipe.val_split) if recipe else None)
    if recipe is None:
        splits = {"train_split": train.split, "val_split": "" if val is None else val.split}
        recipe = default_recipe(request, len(train)).model_copy(update=splits)
    if not made.resuming:
        check_multibox_beginning(recipe)
    tell(f"{train.name}: {len(train)} training images, {len(train.boxes)} objects")
    pools = [load_pool(dataset, tell) for dataset in (train, val) if dataset is not None]
    if processes.writes and not made.resuming:
        folder.mkdir(parents=True, exist_ok=True)
        write_priors(folder / PRIORS, choose_priors(recipe, pools[0]))
        begin_folder(folder, "train-multibox", recipe, recipe.training.seed)
    processes.wait()
    priors = read_priors(folder / PRIORS)
    with show_progress(recipe.training.steps, describe, processes.writes) as report:
        trainer = build_multibox_trainer(
            recipe,
            priors,
            pools[0],
            pools[1] if len(pools) > 1 else None,
            folder,
            machine=Machine(own_device(request.device, processes), processes, None, request.checkpoint_minutes, tell),
            report=report,
        )
        if processes.from_first(trainer.checkpoint_path.exists()):
            trainer.resume()
            tell(f"going on from step {trainer.step} of {recipe.training.steps}")
        elif processes.writes:
            save_sheet(trainer, folder)
        net = trainer.run()
    if processes.writes:
        plot_training(folder / "log.csv", folder / "curves.png")
        save_trained_multibox(folder, recipe, train, trainer, net)
        if request.model is not None:
            join_multibox(request.model, folder, folder)
        trainer.clean_up()
    processes.wait()
    return folder


def save_sheet(trainer: MultiBoxTrainer, folder: Path) -> None:
    """An image of the first training images as they enter the net, with their objects."""
    batch = trainer.batches.batch(0)
    pictures = batch.pictures[:SHEET_PICTURES].round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    drawn, labels = [], []
    for i, picture in enumerate(pictures):
        boxes = batch.truths.boxes[batch.truths.owner == i].numpy() * np.float32(picture.shape[0])
        codes = np.full(len(boxes), Source.GIVEN, np.uint8)
        truth = Proposals(boxes, np.zeros(len(boxes), np.float32), codes, (picture.shape[0], picture.shape[1]))
        drawn.append(draw_proposals(picture, truth, None, legend=False))
        labels.append(f"{len(boxes)} objects")
    write_picture(folder / "pictures.png", draw_sheet(drawn, labels, columns=4))


def describe(entry: MultiBoxProgress) -> tuple[str, bool]:
    """A line of the log for people; one with a validation is kept on the terminal."""
    recall = "" if entry.recall_val is None else f", validation recall {entry.recall_val:.3f} with 50 boxes"
    line = f"loss {entry.loss:.3f}, matched IoU {entry.iou_matched:.3f}{recall}, {entry.pictures_per_second:.0f}/s"
    return line, bool(recall)
