"""What the ``train-teacher`` verb does once its options are read."""

from __future__ import annotations

from pathlib import Path

from detector.commands.train_run import TrainingTask, TrainRequest, run_kind
from detector.data import Dataset
from detector.model.teacher import TEACHER_FILE
from detector.recipes.build import build_trainer
from detector.recipes.defaults import teacher_recipe
from detector.recipes.export import save_trained_teacher
from detector.recipes.initialization import start_of
from detector.recipes.region import TeacherRecipe, read_teacher_recipe
from proposals.errors import UserError


def unnamed_recipe(request: TrainRequest, train: Dataset) -> TeacherRecipe:
    """The recipe of a run without --config."""
    if request.init is None:
        raise UserError("--init: which weights shall the teacher begin with? See docs/training.md, A teacher")
    return teacher_recipe(start_of("bundled"), request.init, len(train.boxes))


TEACHER = TrainingTask(
    "train-teacher", TEACHER_FILE, read_teacher_recipe, unnamed_recipe, build_trainer, save_trained_teacher
)


def run_teacher_training(request: TrainRequest) -> Path:
    """Train as asked; see :func:`detector.commands.train_run.run_kind`."""
    return run_kind(TEACHER, request)
