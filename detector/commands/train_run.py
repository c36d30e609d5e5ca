"""What the ``train`` verb does once its options are read: a run folder from the data to the finished model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from detector.build import build_trainer, save_trained, with_classes
from detector.commands.console import say
from detector.commands.train_common import RECIPE_FILE, load_pool, prepare_folder, read_data, show_progress
from detector.config import TrainRecipe, default_recipe, read_recipe
from detector.data import load_dataset
from detector.model import BUNDLED_MODEL, MODEL_FILE, read_model_config
from detector.report.drawing import draw_sheet
from detector.report.plots import plot_training
from detector.run_folder import CONFIG_FILE, write_config
from detector.strict_yaml import dump_yaml
from detector.training.pool import ImagePool
from detector.training.regions import Progress, RegionTrainer
from proposals.errors import UserError

DEFAULT_EPOCHS = 30  # of the default recipe, within the bounds below
DEFAULT_STEPS = (300, 3000)
SHEET_CROPS = 64


@dataclass(frozen=True)
class TrainRequest:
    """The verb's options; see :func:`detector.commands.train.train`."""

    data: Path
    config: Path | None
    out: Path | None
    resume: bool
    init: str | None
    steps: int | None
    seed: int | None
    device: str
    checkpoint_minutes: float


def choose_recipe(request: TrainRequest, folder: Path, objects: int) -> TrainRecipe:
    """The recipe of the options: of the run to resume, of the given file, or the default for a set of ``objects``."""
    if request.resume:
        if request.config is not None or any(v is not None for v in (request.init, request.steps, request.seed)):
            raise UserError("--resume goes on with the run's recipe: leave out --config, --init, --steps and --seed")
        return read_recipe(folder / RECIPE_FILE)
    if request.config is not None:
        recipe = read_recipe(request.config)
    else:
        member = read_model_config(BUNDLED_MODEL).members[0]
        foreground = 48  # of the default recipe's 64 regions in a batch
        steps = int(np.clip(DEFAULT_EPOCHS * objects / foreground, *DEFAULT_STEPS))
        recipe = default_recipe(member.net, member.crop, steps)
    changes = {"steps": request.steps, "seed": request.seed}
    training = recipe.training.model_copy(update={k: v for k, v in changes.items() if v is not None})
    init = request.init if request.init is not None else recipe.init
    return recipe.model_copy(update={"training": training, "init": init})


def run_training(request: TrainRequest) -> Path:
    """Train as asked and return the folder, which is a model directory then.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal, with a checkpoint saved.
    """
    folder = prepare_folder(request.out, request.resume, "train", MODEL_FILE)
    recipe = None
    if request.resume:
        recipe = choose_recipe(request, folder, 0)
    elif request.config is not None:
        recipe = read_recipe(request.config)
    train, val = read_data(request.data, (recipe.train_split, recipe.val_split) if recipe else None)
    if recipe is None or not request.resume:
        recipe = choose_recipe(request, folder, len(train.boxes))
        splits = {"train_split": train.split, "val_split": val.split if val is not None else ""}
        recipe = with_classes(recipe.model_copy(update=splits), len(train.class_names))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECIPE_FILE).write_text(dump_yaml(recipe), encoding="utf-8")
        write_config(folder / CONFIG_FILE, "train", recipe.model_dump(mode="json"), recipe.training.seed)
    say(f"{train.name}: {len(train)} training pictures, {len(train.boxes)} objects of {len(train.class_names)} classes")
    pools = [load_pool(dataset) for dataset in (train, val) if dataset is not None]
    scenes = ImagePool.join([load_pool(load_dataset(Path(p))) for p in recipe.scenes]) if recipe.scenes else None
    with show_progress(recipe.training.steps, describe) as report:
        trainer = build_trainer(
            recipe,
            pools[0],
            pools[1] if len(pools) > 1 else None,
            tuple(str(key) for key in train.class_keys),
            folder,
            device=request.device,
            report=report,
            checkpoint_minutes=request.checkpoint_minutes,
            scenes=scenes,
        )
        if trainer.checkpoint_path.exists():
            trainer.resume()
            say(f"going on from step {trainer.step} of {recipe.training.steps}")
        else:
            save_sheet(trainer, train.class_names, folder)
        net = trainer.run()
    plot_training(folder / "log.csv", folder / "curves.png")
    save_trained(folder, recipe, train, net, trainer.last_accuracy, trainer.seconds)
    trainer.checkpoint_path.unlink()  # the model stands in its place
    return folder


def save_sheet(trainer: RegionTrainer, class_names: tuple[str, ...], folder: Path) -> None:
    """A picture of the first training crops as they enter the net, with their labels."""
    batch = trainer.batches.batch(0)
    names = (*class_names, "background")
    # Foreground comes first in a batch: take some of everything.
    keep = np.unique(np.linspace(0, len(batch.labels) - 1, SHEET_CROPS).astype(int))
    crops = batch.crops[keep].round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    labels = [names[i] for i in batch.labels[keep].tolist()]
    Image.fromarray(draw_sheet(list(crops), labels, columns=8)).save(folder / "crops.png")


def describe(entry: Progress) -> tuple[str, bool]:
    """A line of the log for people; one with a validation is kept on the terminal."""
    accuracy = "" if entry.top1_val is None else f", validation top-1 {entry.top1_val:.3f}"
    line = f"loss {entry.loss:.3f}, top-1 {entry.top1_train:.3f}{accuracy}, {entry.crops_per_second:.0f}/s"
    return line, bool(accuracy)
