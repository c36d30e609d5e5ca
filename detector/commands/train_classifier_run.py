"""What the ``train-classifier`` verb does once its options are read."""

from __future__ import annotations

from pathlib import Path

from detector.commands.train_run import TrainingTask, TrainRequest, run_kind
from detector.data import Dataset
from detector.model.classifier import CLASSIFIER_FILE
from detector.recipes.build import build_trainer
from detector.recipes.defaults import classifier_recipe
from detector.recipes.export import save_trained_classifier
from detector.recipes.initialization import start_of
from detector.recipes.region import ClassifierRecipe, read_classifier_recipe


def unnamed_recipe(request: TrainRequest, train: Dataset) -> ClassifierRecipe:
    """The recipe of a run without --config."""
    return classifier_recipe(start_of(request.init or "random"), len(train))


CLASSIFIER = TrainingTask(
    "train-classifier", CLASSIFIER_FILE, read_classifier_recipe, unnamed_recipe, build_trainer, save_trained_classifier
)


def run_classifier_training(request: TrainRequest) -> Path:
    """Train as asked; see :func:`detector.commands.train_run.run_kind`."""
    return run_kind(CLASSIFIER, request)
