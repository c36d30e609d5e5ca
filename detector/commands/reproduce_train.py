"""The trainings of an experiment: pre-training, ensembles, MultiBox, each with the code of its own verb."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from detector.commands.console import say
from detector.commands.resume import Resume
from detector.commands.train_ensemble_run import run_ensemble_training
from detector.commands.train_multibox_run import MultiBoxRequest, run_multibox_training
from detector.commands.train_run import TrainRequest, run_training
from detector.experiment.recipe import MULTIBOX, PRETRAINING, ExperimentRecipe
from detector.model.config import MODEL_FILE, named_folder
from detector.model.save import join_multibox
from detector.nets.multibox import MULTIBOX_FILE
from detector.recipes.multibox import MultiBoxRecipe
from detector.recipes.region import MemberPlan, OneRecipe, SharedRecipe, TrainRecipe
from detector.strict_yaml import write_settings

Begins = TypeVar("Begins", TrainRecipe, SharedRecipe, OneRecipe, MemberPlan, MultiBoxRecipe)


def model_folders(recipe: ExperimentRecipe, folder: Path) -> dict[str, Path]:
    """The folders of the models that the experiment in ``folder`` measures, by name."""
    trained = {
        name: folder / (f"{name}-{MULTIBOX}" if recipe.multibox is not None else name) for name in recipe.ensembles
    }
    return {**trained, **{name: named_folder(path) for name, path in recipe.models.items()}}


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

    multibox = folder / MULTIBOX
    if recipe.pretraining is not None:
        say("pre-training")
        run_training(replace(asked(PRETRAINING, recipe.pretraining), data=pretraining_data, jobs=1))
    for name, ensemble in recipe.ensembles.items():
        say(f"ensemble {name}: {len(ensemble.members)} members")
        members = tuple(begun(plan) for plan in ensemble.members)
        run_ensemble_training(
            asked(name, ensemble.model_copy(update={"base": begun(ensemble.base), "members": members}))
        )
    if recipe.multibox is not None and not (multibox / MULTIBOX_FILE).is_file():
        say("MultiBox")
        config = asked(MULTIBOX, begun(recipe.multibox)).config
        run_multibox_training(
            MultiBoxRequest(request.data, config, multibox, Resume.auto, request.device, request.checkpoint_minutes)
        )
    for name, model in model_folders(recipe, folder).items():
        if name in recipe.ensembles and not (model / MODEL_FILE).is_file():
            join_multibox(folder / name, multibox, model)
