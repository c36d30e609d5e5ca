"""The composition root of training: a recipe and a data set become a trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from detector.data import Dataset, load_dataset
from detector.model.config import named_folder, read_detector_config
from detector.nets.googlenet import GoogLeNet
from detector.nets.region_net import RegionNet
from detector.recipes.build_shared import new_shared_net
from detector.recipes.initialization import initialise, initialise_region_net, region_heads
from detector.recipes.region import OneRecipe, SharedRecipe, TrainRecipe
from detector.recipes.teacher import find_teacher
from detector.training.batches import CropBatches, RegionBatches
from detector.training.machine import Machine
from detector.training.pool import ImagePool
from detector.training.region_settings import RegionTrainingConfig
from detector.training.region_trainer import Progress, RegionTrainer, Teacher, truth_accuracy
from detector.training.windows import WindowBatches, Windows
from proposals.errors import UserError

VALIDATE_IMAGES = 2000
"""So many validate a training of crops, but all at its end."""

RecipeT = TypeVar("RecipeT", TrainRecipe, SharedRecipe, OneRecipe)


def with_classes(recipe: RecipeT, num_classes: int) -> RecipeT:
    """The recipe with a net of ``num_classes`` outputs, and one for background if the recipe has it."""
    outputs = num_classes + (not isinstance(recipe, TrainRecipe) or recipe.training.background)
    net = recipe.training.net.model_copy(update={"num_outputs": outputs})
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"net": net})})


def load_splits(data: Path, train_split: str, val_split: str) -> tuple[Dataset, Dataset | None]:
    """The training and the validation part of a data set; a set without splits is all training.

    Raises:
        UserError: the data set cannot be read, or the two parts differ in their classes.
    """
    train = load_dataset(data, split=train_split) if train_split else load_dataset(data)
    if not val_split:
        return train, None
    val = load_dataset(data, split=val_split, classes=train.class_names)
    if val.class_names != train.class_names:
        raise UserError(f"{data}: the splits {train_split} and {val_split} differ in their classes")
    return train, val


def check_beginning(recipe: OneRecipe, class_keys: tuple[str, ...] = ()) -> None:
    """Look at what ``init`` and ``teacher`` name now, for a run comes to them only when all pictures are read.

    Args:
        class_keys: those of the data. Without them a teacher is not looked at.

    Raises:
        UserError: one cannot be had, belongs to another architecture, or (a teacher) has other classes than the data.
    """
    with torch.random.fork_rng(devices=[]):
        if isinstance(recipe, SharedRecipe):
            kept = "frozen" if recipe.training.frozen else "only_multibox"
            if recipe.init == "random" and (recipe.training.frozen or recipe.training.only_multibox):
                raise UserError(f"training.{kept} keeps layers of init, and random ones are worth nothing")
            if recipe.training.only_multibox:
                read_detector_config(named_folder(recipe.init))  # the model that gets it
            initialise_region_net(new_shared_net(recipe.training, max(len(class_keys), 1)), recipe.init, class_keys)
        else:
            start_crop_net(new_crop_net(recipe.training), recipe, class_keys)
    if class_keys:
        find_teacher(recipe, class_keys, torch.device("cpu"))


def crop_trainer(
    config: RegionTrainingConfig,
    train: ImagePool,
    val: ImagePool | None,
    num_classes: int,
    folder: Path,
    *,
    machine: Machine,
    report: Callable[[Progress], None],
    start: Callable[[Any], None] | None = None,
    teacher: Teacher | None = None,
    windows: Windows | None = None,
    kind: type[RegionTrainer[Any]] = RegionTrainer,
    log_every: int = 50,
    validate_every: int = 1000,
) -> RegionTrainer[Any]:
    """A trainer of a net that names crops, validated by its top-1 on the annotated boxes of ``val``.

    Args:
        start: puts first weights into the net. teacher: see :class:`RegionTrainer`. windows: of ``train``, for
            ``regions: windows``. kind: of the trainer.

    Raises:
        UserError: the net does not fit the classes, there is no object, or something is missing.
    """
    outputs = config.net.num_outputs
    if outputs - config.background != num_classes:
        and_background = " and background" if config.background else ""
        raise UserError(f"the net has {outputs} outputs for {num_classes} classes{and_background}")
    if not len(train.boxes):
        raise UserError("the training data hold no usable object")
    if config.regions == "windows" and windows is None:
        raise UserError("regions: windows needs the proposals of the training images")
    batches: CropBatches = RegionBatches(train, config)
    if windows is not None:
        batches = WindowBatches(windows, train, config)

    def measure(net: nn.Module, last: bool) -> float | None:
        if val is None or not len(val.boxes):
            return None
        found = truth_accuracy(net, val, config, None if last else VALIDATE_IMAGES, machine.processes)
        return found if math.isfinite(found) else None

    return kind(
        config, lambda: new_crop_net(config), batches, folder, machine=machine, report=report, start=start,
        teacher=teacher, measure=measure, log_every=log_every, validate_every=validate_every,
    )  # fmt: skip


def start_crop_net(net: GoogLeNet | RegionNet, recipe: TrainRecipe, class_keys: tuple[str, ...]) -> None:
    """Put the first weights of ``recipe`` into ``net``; UserError where they cannot be had or do not fit."""
    if isinstance(net, RegionNet):
        initialise_region_net(net, recipe.init, class_keys)
    else:
        initialise(net, recipe.init, class_keys)


def new_crop_net(config: RegionTrainingConfig) -> GoogLeNet | RegionNet:
    """The net of ``config`` with random weights."""
    if config.grid:
        return RegionNet(config.net, region_heads(config.grid), config.num_classes, dropout=config.net.dropout)
    return GoogLeNet(config.net)
