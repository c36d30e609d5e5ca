"""What the verbs share that train a part of a detector, MultiBox or a localizer, in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer
from torch import nn

from detector.commands.console import INTERRUPTED, say
from detector.commands.resume import Resume
from detector.commands.train_common import RECIPE_FILE, refuse_several_processes
from detector.data import Dataset
from detector.model.config import read_model_config
from detector.recipes.region import LocalizerRecipe, MultiBoxRecipe
from detector.report.plots import plot_training
from detector.training.denormals import flushed_denormals
from detector.training.loop import Interrupted, Trainer
from proposals.errors import UserError

Recipe = TypeVar("Recipe", MultiBoxRecipe, LocalizerRecipe)
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class PartRequest:
    """A verb's options, as :func:`detector.commands.train_localizer.train_localizer` has them."""

    data: Path
    config: Path | None
    out: Path | None
    model: Path | None
    resume: Resume
    init: str | None
    steps: int | None
    seed: int | None
    device: str
    checkpoint_minutes: float


def run_part(run: Callable[[], Path], what: str, model: Path | None) -> None:
    """Call ``run`` and say where ``what`` is then; with a ``model`` it was joined to a copy of that.

    Raises:
        UserError: anything the user can mend. typer.Exit: stopped by a signal, with a checkpoint saved.
    """
    refuse_several_processes(what)
    if model is not None:
        read_model_config(model)  # before the hours, not after them
    try:
        with flushed_denormals():
            folder = run()
    except Interrupted as stopped:
        say(f"{stopped}; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None
    say(f"{what} is in {folder}" if model is None else f"the model with {what} is in {folder}")


def choose_recipe(
    request: PartRequest,
    folder: Path,
    resuming: bool,
    read: Callable[[Path], Recipe],
    changed: Callable[[Recipe], Recipe],
    more_options: tuple[object, ...] = (),
) -> Recipe | None:
    """The recipe of the run to resume or of the given file, with the options' changes; ``None`` for the default.

    ``--resume auto`` goes by the recorded recipe once there is one.

    Args:
        read: a recipe's file. changed: a recipe as the command line's options change it; ``more_options`` are
            those of the verb alone.

    Raises:
        UserError: options would change the recipe of a run to go on with.
    """
    if resuming:
        given = (request.config, request.init, request.steps, request.seed, *more_options)
        if request.resume is Resume.must and any(option is not None for option in given):
            raise UserError("--resume goes on with the run's recipe: leave out the options that would change it")
        return read(folder / RECIPE_FILE)
    return None if request.config is None else changed(read(request.config))


def with_options(recipe: Recipe, request: PartRequest) -> Recipe:
    """``recipe`` with the ``--steps``, ``--seed`` and ``--init`` of ``request``."""
    run = {name: value for name, value in (("steps", request.steps), ("seed", request.seed)) if value is not None}
    first = {} if request.init is None else {"init": request.init}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=run), **first})


def with_splits(recipe: Recipe, train: Dataset, val: Dataset | None) -> Recipe:
    """``recipe`` with the names of the parts of the data that were found."""
    return recipe.model_copy(update={"train_split": train.split, "val_split": "" if val is None else val.split})


def train_to_the_end(trainer: Trainer[Net, Any], steps: int, folder: Path, save_sheet: Callable[[], None]) -> Net:
    """The trained net, from its checkpoint if there is one; the folder has curves, and a sheet of what went in."""
    if trainer.checkpoint_path.exists():
        trainer.resume()
        say(f"going on from step {trainer.step} of {steps}")
    else:
        save_sheet()
    net = trainer.run()
    plot_training(folder / "log.csv", folder / "curves.png")
    return net
