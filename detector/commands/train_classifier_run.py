"""What the ``train-classifier`` verb does once its options are read."""

from __future__ import annotations

from pathlib import Path

from detector.build import with_classes
from detector.classifier import CLASSIFIER_FILE
from detector.commands.train_common import (
    RECIPE_FILE,
    Resume,
    begin_folder,
    check_same_recipe,
    prepare_folder,
    read_data,
    teller,
)
from detector.commands.train_run import TrainRequest, check_resumed_options, train_network
from detector.config import ClassifierRecipe, read_classifier_recipe
from detector.data import Dataset
from detector.first_weights import start_of
from detector.recipes import classifier_recipe
from detector.trained import save_trained_classifier
from detector.training.processes import joined_processes


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


def run_classifier_training(request: TrainRequest) -> Path:
    """Train as asked and return the folder, which is a classifier directory then.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal, with a checkpoint saved.
    """
    check_resumed_options(request)
    with joined_processes(request.device) as processes:
        tell = teller(processes)
        made = None
        if processes.writes:
            made = prepare_folder(request.out, request.resume, "train-classifier", CLASSIFIER_FILE)
        made = processes.from_first(made)
        assert made is not None
        folder = made.path
        if made.finished:
            tell(f"{folder}: finished already")
            return folder
        recorded = read_classifier_recipe(folder / RECIPE_FILE) if made.resuming else None
        known = recorded or (read_classifier_recipe(request.config) if request.config is not None else None)
        train, val = read_data(request.data, (known.train_split, known.val_split) if known else None)
        if recorded is None:
            recipe = asked_recipe(request, train, val)
            if processes.writes:
                begin_folder(folder, "train-classifier", recipe, recipe.training.seed)
        else:
            recipe = recorded
            if request.resume is Resume.auto:
                check_same_recipe(folder, recorded, asked_recipe(request, train, val))
        processes.wait()
        tell(f"{train.name}: {len(train)} training pictures of {len(train.class_names)} classes")
        trainer, net = train_network(recipe, folder, train, val, request, processes)
        if processes.writes:
            save_trained_classifier(folder, recipe, train, net, trainer.last_accuracy, trainer.seconds)
            trainer.clean_up()
        processes.wait()
    return folder
