"""What the ``train-teacher`` verb does once its options are read."""

from __future__ import annotations

from pathlib import Path

from detector.build import build_teacher_trainer, with_classes
from detector.commands.train_run import Kind, TrainRequest, run_kind
from detector.config import TeacherRecipe, read_teacher_recipe
from detector.data import Dataset
from detector.first_weights import start_of
from detector.recipes import teacher_recipe
from detector.teacher import TEACHER_FILE
from detector.trained import save_trained_teacher
from proposals.errors import UserError


def asked_recipe(request: TrainRequest, train: Dataset, val: Dataset | None) -> TeacherRecipe:
    """The recipe of --config, or the default one, with the options' changes and what the data decide."""
    if request.config is not None:
        recipe = read_teacher_recipe(request.config)
    elif request.init is None:
        raise UserError("--init: which weights shall the teacher begin with? See docs/training.md, A teacher")
    else:
        objects = sum(len(record.ground_truth) for record in train)
        recipe = teacher_recipe(start_of("bundled"), request.init, objects)
    changes = {"steps": request.steps, "seed": request.seed}
    training = recipe.training.model_copy(update={k: v for k, v in changes.items() if v is not None})
    update = {
        "training": training,
        "init": recipe.init if request.init is None else request.init,
        "train_split": train.split,
        "val_split": val.split if val is not None else "",
    }
    return with_classes(recipe.model_copy(update=update), len(train.class_names))


TEACHER = Kind(
    "train-teacher", TEACHER_FILE, read_teacher_recipe, asked_recipe, build_teacher_trainer, save_trained_teacher
)


def run_teacher_training(request: TrainRequest) -> Path:
    """Train as asked; see :func:`detector.commands.train_run.run_kind`."""
    return run_kind(TEACHER, request)
