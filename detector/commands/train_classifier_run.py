"""What the ``train-classifier`` verb does once its options are read."""

from __future__ import annotations

from pathlib import Path

from detector.build import build_trainer, with_classes
from detector.classifier import CLASSIFIER_FILE
from detector.commands.train_run import Kind, TrainRequest, run_kind
from detector.config import ClassifierRecipe, read_classifier_recipe
from detector.data import Dataset
from detector.first_weights import start_of
from detector.recipes import classifier_recipe
from detector.trained import save_trained_classifier


def asked_recipe(request: TrainRequest, train: Dataset, val: Dataset | None) -> ClassifierRecipe:
    """The recipe of --config, or the default one, with the options' changes and what the data decide."""
    if request.config is not None:
        recipe = read_classifier_recipe(request.config)
    else:
        recipe = classifier_recipe(start_of(request.init or "random"), len(train))
    changes = {"steps": request.steps, "seed": request.seed}
    training = recipe.training.model_copy(update={k: v for k, v in changes.items() if v is not None})
    update = {
        "training": training,
        "init": recipe.init if request.init is None else request.init,
        "train_split": train.split,
        "val_split": val.split if val is not None else "",
    }
    return with_classes(recipe.model_copy(update=update), len(train.class_names))


CLASSIFIER = Kind(
    "train-classifier", CLASSIFIER_FILE, read_classifier_recipe, asked_recipe, build_trainer, save_trained_classifier
)


def run_classifier_training(request: TrainRequest) -> Path:
    """Train as asked; see :func:`detector.commands.train_run.run_kind`."""
    return run_kind(CLASSIFIER, request)
