"""The trainings of an experiment: pre-training, ensembles, MultiBox, each as ``train`` does it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from detector.commands.console import say
from detector.commands.train_ensemble_run import run_ensemble_training
from detector.commands.train_run import TrainRequest, run_training
from detector.experiment.recipe import MULTIBOX, PRETRAINING, ExperimentRecipe
from detector.model.config import named_folder
from detector.recipes.region import MemberPlan, OneRecipe, SharedRecipe, TrainRecipe
from detector.strict_yaml import write_settings

Begins = TypeVar("Begins", TrainRecipe, SharedRecipe, OneRecipe, MemberPlan)


def model_folders(recipe: ExperimentRecipe, folder: Path) -> dict[str, Path]:
    """The folders of the models that the experiment in ``folder`` measures, by name."""
    added = own_multibox(recipe)
    trained = {name: folder / (f"{name}-{MULTIBOX}" if name in added else name) for name in recipe.ensembles}
    return {**trained, **{name: named_folder(path) for name, path in recipe.models.items()}}


def own_multibox(recipe: ExperimentRecipe) -> list[str]:
    """The ensembles that get a MultiBox of the experiment's recipe: those whose own training has none."""
    if recipe.multibox is None:
        return []
    bases = {name: ensemble.base.training for name, ensemble in recipe.ensembles.items()}
    return [name for name, training in bases.items() if getattr(training, "multibox", None) is None]


def train_experiment(recipe: ExperimentRecipe, request: TrainRequest, pretraining_data: Path, folder: Path) -> None:
    """Train the parts of an experiment that are not trained yet.

    Args:
        request: the data and how to run; each part has its own recipe and folder.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal; what was finished stays so.
    """

    def asked(name: str, part: BaseModel) -> TrainRequest:
        write_settings(folder / f"{name}.yaml", part)
        return replace(request, config=folder / f"{name}.yaml", out=folder / name, proposals=folder / "proposals")

    def begun(part: Begins) -> Begins:
        """``part`` with the folder of the pre-training in place of its name."""
        init = str(folder / PRETRAINING) if part.init == PRETRAINING else part.init
        return part.model_copy(update={"init": init})

    if recipe.pretraining is not None:
        say("pre-training")
        run_training(replace(asked(PRETRAINING, recipe.pretraining), data=pretraining_data, jobs=1))
    for name, ensemble in recipe.ensembles.items():
        say(f"ensemble {name}: {len(ensemble.members)} members")
        members = tuple(begun(plan) for plan in ensemble.members)
        run_ensemble_training(
            asked(name, ensemble.model_copy(update={"base": begun(ensemble.base), "members": members}))
        )
    for name in own_multibox(recipe):
        assert recipe.multibox is not None
        say(f"MultiBox of {name}")
        init = {"init": str(folder / name)}
        run_training(replace(asked(f"{name}-{MULTIBOX}", recipe.multibox.model_copy(update=init)), jobs=1))
