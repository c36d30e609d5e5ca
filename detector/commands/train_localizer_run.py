"""What the ``train-localizer`` verb does once its options are read: a run folder from the data to the network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.commands.console import progress, say
from detector.commands.train_common import begin_folder, load_pool, prepare_folder, read_data, show_progress
from detector.commands.train_part import PartRequest, choose_recipe, train_to_the_end, with_options, with_splits
from detector.data import load_dataset
from detector.images.write import write_picture
from detector.model.config import BUNDLED_MODEL, read_model_config
from detector.model.load import choose_device
from detector.model.save import join_localizer
from detector.nets.localizer import LOCALIZER_FILE
from detector.recipes.build import build_localizer_trainer, check_beginning, search_pictures
from detector.recipes.export import save_trained_localizer
from detector.recipes.region import LocalizerRecipe, SearchingConfig, read_localizer_recipe
from detector.report.drawing import draw_sheet
from detector.training.localizer import LocalizerProgress, LocalizerTrainer
from detector.training.localizer_batches import JitterConfig, LocalizerTrainingConfig
from detector.training.loop import Machine
from detector.training.pool import ImagePool
from detector.training.schedule import ScheduleConfig

SHEET_CROPS = 32
DEFAULT_RATE, DEFAULT_BATCH = 0.02, 128  # of the default recipe, whose trunk is trained
WIDE_CONTEXT = 5  # the surroundings are a fifth of the crop on each side, for what goes on beyond a region shows there
DEFAULT_PROPOSED = 0.5  # of the regions, where a model says how it proposes
DEFAULT_EPOCHS, DEFAULT_STEPS = 60, (300, 3000)  # regions of each object, and the bounds of the steps


@dataclass(frozen=True)
class LocalizerRequest(PartRequest):
    """The verb's options; see :func:`detector.commands.train_localizer.train_localizer`."""

    proposals: Path


def default_recipe(request: PartRequest, objects: int) -> LocalizerRecipe:
    """A localizer on the bundled trunk for so many objects, with the options' changes.

    It also learns from what the selective search of ``--model`` proposes, for that is what it will judge.
    """
    bundled = read_model_config(BUNDLED_MODEL).members[0]
    jitter, searching = JitterConfig(), SearchingConfig()
    if request.model is not None:
        jitter = JitterConfig(proposed=DEFAULT_PROPOSED)
        searching = SearchingConfig(proposals=read_model_config(request.model).proposals)
    training = LocalizerTrainingConfig(
        jitter=jitter,
        trunk=bundled.net,
        crop=bundled.crop.model_copy(update={"context_pad": bundled.crop.size // WIDE_CONTEXT}),
        normalization=bundled.normalization,
        schedule=ScheduleConfig(rate=DEFAULT_RATE),
        steps=int(np.clip(DEFAULT_EPOCHS * objects / DEFAULT_BATCH, *DEFAULT_STEPS)),
        batch_size=DEFAULT_BATCH,
        average=0.99,
    )
    return with_options(LocalizerRecipe(training=training, searching=searching), request)


def run_localizer_training(request: LocalizerRequest) -> Path:
    """Train as asked and return the folder, which is a localizer's then, and with --model a model directory.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal, with a checkpoint saved.
    """
    made = prepare_folder(request.out, request.resume, "train-localizer", LOCALIZER_FILE)
    folder = made.path
    if made.finished:
        say(f"{folder}: finished already")
        return folder
    recipe = choose_recipe(
        request, folder, made.resuming, read_localizer_recipe, lambda recipe: with_options(recipe, request)
    )
    train, val = read_data(request.data, (recipe.train_split, recipe.val_split) if recipe else None)
    if recipe is None:
        recipe = with_splits(default_recipe(request, len(train.boxes)), train, val)
    if not made.resuming:
        check_beginning(recipe)
    say(f"{train.name}: {len(train)} training pictures, {len(train.boxes)} objects")
    pools = [load_pool(dataset) for dataset in (train, val) if dataset is not None]
    scenes = None
    if recipe.scenes:
        scenes = ImagePool.join([load_pool(load_dataset(Path(path))) for path in recipe.scenes])
    if not made.resuming:
        folder.mkdir(parents=True, exist_ok=True)
        begin_folder(folder, "train-localizer", recipe, recipe.training.seed)
    with contextlib.ExitStack() as stack:

        def show(total: int) -> Callable[[], None]:
            return stack.enter_context(progress("searching", total, "picture"))

        val_pool = pools[1] if len(pools) > 1 else None
        searched = search_pictures(recipe, pools[0], val_pool, scenes, request.proposals, show)
    with show_progress(recipe.training.steps, describe) as report:
        trainer = build_localizer_trainer(
            recipe,
            pools[0],
            val_pool,
            scenes,
            folder,
            searched=searched,
            machine=Machine(choose_device(request.device), checkpoint_minutes=request.checkpoint_minutes, tell=say),
            report=report,
        )
        net = train_to_the_end(trainer, recipe.training.steps, folder, lambda: save_sheet(trainer, folder))
    save_trained_localizer(folder, recipe, train, trainer, net)
    if request.model is not None:
        join_localizer(request.model, folder, folder)
    trainer.clean_up()
    return folder


def save_sheet(trainer: LocalizerTrainer, folder: Path) -> None:
    """A picture of the first crops as they enter the net, with their IoUs."""
    batch = trainer.batches.batch(0)
    crops = batch.crops[:SHEET_CROPS].round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    labels = [f"{overlap:.2f}" for overlap in batch.overlaps[:SHEET_CROPS].tolist()]
    write_picture(folder / "crops.png", draw_sheet(list(crops), labels, columns=8))


def describe(entry: LocalizerProgress) -> tuple[str, bool]:
    """A line of the log for people; one with a validation is kept on the terminal."""
    worth = "" if entry.correlation_val is None else f", validation correlation {entry.correlation_val:.3f}"
    return f"loss {entry.loss:.3f}{worth}, {entry.crops_per_second:.0f} crops/s", bool(worth)
