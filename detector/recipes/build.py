"""The composition root of training: a recipe and a data set become a trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from detector.data import Dataset, load_dataset
from detector.detection.ensemble import Ensemble
from detector.model.config import ModelConfig, named_folder, read_model_config
from detector.model.load import read_member
from detector.model.proposals import proposed_boxes, stored_source
from detector.model.teacher import is_teacher, load_teacher, read_teacher_config
from detector.nets.efficientnet_lite import EfficientNetLite
from detector.nets.googlenet import GoogLeNet
from detector.nets.trunk import Trunk
from detector.recipes.initialization import initialise, initialise_multibox, initialise_teacher
from detector.recipes.region import ClassifierRecipe, MultiBoxRecipe, TeacherRecipe, TrainRecipe
from detector.training.loop import Machine
from detector.training.multibox import MultiBoxProgress, MultiBoxTrainer, fit_priors
from detector.training.pool import ImagePool
from detector.training.processes import ALONE, Processes
from detector.training.regions import Progress, RegionTrainer
from detector.training.teacher import TeacherTrainer
from detector.training.teaching import Teacher
from detector.training.windows import Windows
from proposals.errors import UserError
from proposals.multibox import CONVOLUTIONAL_PRIORS, MultiBoxNet
from proposals.priors import Priors, read_priors

RecipeT = TypeVar("RecipeT", TrainRecipe, ClassifierRecipe, TeacherRecipe)


def find_windows(
    recipe: TrainRecipe,
    pool: ImagePool,
    store: Path,
    *,
    processes: Processes = ALONE,
    advance: Callable[[], None] = lambda: None,
) -> Windows:
    """The windows of ``pool`` for a recipe that trains on windows; ``advance`` is called after each picture.

    Each of several processes proposes for some of the pictures; the store is theirs in common.
    """
    config = recipe.model.proposals
    source = stored_source(config, store)

    def propose(index: int) -> NDArray[np.float32]:
        return proposed_boxes(source, pool.images[index], config.max_proposals)

    for index in range(processes.rank, len(pool.images), processes.count):
        propose(index)
        advance()
    processes.wait()
    boxes = (propose(index) for index in range(len(pool.images)))
    return Windows.label(pool, boxes, recipe.training.num_classes, recipe.training.sampling)


def with_classes(recipe: RecipeT, num_classes: int) -> RecipeT:
    """The recipe with a net of ``num_classes`` outputs, and one for background if the recipe has it."""
    outputs = num_classes + recipe.training.background
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


def check_beginning(
    recipe: TrainRecipe | ClassifierRecipe | TeacherRecipe | MultiBoxRecipe,
    class_keys: tuple[str, ...] = (),
) -> None:
    """Look at what ``init`` and ``teacher`` name now, for a run comes to them only when all pictures are read.

    Args:
        class_keys: those of the data. Without them a teacher is not looked at.

    Raises:
        UserError: one cannot be had, belongs to another architecture, or (a teacher) has other classes than the data.
    """
    with torch.random.fork_rng(devices=[]):
        if isinstance(recipe, TeacherRecipe):
            initialise_teacher(EfficientNetLite(recipe.training.net), recipe.init, class_keys)
        elif isinstance(recipe, MultiBoxRecipe):
            settings = recipe.training.multibox
            count = CONVOLUTIONAL_PRIORS if settings.head == "convolutional" else 1  # any: a head may stay new
            boxes = np.broadcast_to(np.array([0, 0, 1, 1], np.float32), (count, 4))
            net = MultiBoxNet(Trunk(recipe.training.trunk), Priors(boxes, np.ones_like(boxes)), settings)
            initialise_multibox(net, recipe.init)
        else:
            new_layers = recipe.new_layers if isinstance(recipe, TrainRecipe) else ()
            initialise(GoogLeNet(recipe.training.net), recipe.init, class_keys, new_layers)
    if isinstance(recipe, TrainRecipe) and recipe.teacher and class_keys:
        find_teacher(recipe.teacher, class_keys, torch.device("cpu"), recipe.training.precision)


def find_teacher(name: str, class_keys: tuple[str, ...], device: torch.device, precision: str) -> Teacher:
    """The classifier of the model ``name``, "bundled" or a directory, or a teacher directory; see
    :func:`detector.model.load.load_model` for ``precision``.

    Raises:
        UserError: it cannot be read, or has other classes than the data.
    """
    folder = named_folder(name)
    config = read_teacher_config(folder) if is_teacher(folder) else read_model_config(folder)
    if config.class_keys != class_keys:
        raise UserError(
            f"teacher {name}: knows {len(config.class_keys)} classes ({', '.join(config.class_keys[:3])}, ...), "
            f"the data have {len(class_keys)} ({', '.join(class_keys[:3])}, ...); they must be the same, in order"
        )
    if not isinstance(config, ModelConfig):
        return load_teacher(folder, device, precision)
    members = [read_member(folder, member, len(class_keys)) for member in config.members]
    return Ensemble(members, device, temperature=config.temperature, precision=precision)


def build_trainer(
    recipe: TrainRecipe | ClassifierRecipe,
    train: ImagePool,
    val: ImagePool | None,
    class_keys: tuple[str, ...],
    folder: Path,
    *,
    machine: Machine,
    report: Callable[[Progress], None],
    scenes: ImagePool | None = None,
    windows: Windows | None = None,
) -> RegionTrainer:
    """A trainer whose net has its first weights, and its teacher if the recipe names one."""
    teacher_name = recipe.teacher if isinstance(recipe, TrainRecipe) else ""
    trainer = RegionTrainer(
        recipe.training,
        train,
        val,
        len(class_keys),
        folder,
        machine=machine,
        report=report,
        scenes=scenes,
        windows=windows,
        teacher=find_teacher(teacher_name, class_keys, machine.device, recipe.training.precision)
        if teacher_name
        else None,
    )
    if not trainer.checkpoint_path.exists():
        new_layers = recipe.new_layers if isinstance(recipe, TrainRecipe) else ()
        initialise(trainer.net, recipe.init, class_keys, new_layers)
        trainer.restart_average()
    return trainer


def build_teacher_trainer(
    recipe: TeacherRecipe,
    train: ImagePool,
    val: ImagePool | None,
    class_keys: tuple[str, ...],
    folder: Path,
    *,
    machine: Machine,
    report: Callable[[Progress], None],
    scenes: ImagePool | None = None,
) -> TeacherTrainer:
    """A trainer whose net has its first weights."""
    trainer = TeacherTrainer(
        recipe.training, train, val, len(class_keys), folder, machine=machine, report=report, scenes=scenes
    )
    if not trainer.checkpoint_path.exists():
        initialise_teacher(trainer.net, recipe.init, class_keys)
        trainer.restart_average()
    return trainer


def choose_priors(recipe: MultiBoxRecipe, train: ImagePool) -> Priors:
    """The priors of a MultiBox run: those of the recipe's file, or fitted ones.

    Raises:
        UserError: the file is faulty or does not fit the head, or the data have too few objects.
    """
    if not recipe.priors:
        return fit_priors(recipe.training, train)
    convolutional = recipe.training.multibox.head == "convolutional"
    return read_priors(Path(recipe.priors), CONVOLUTIONAL_PRIORS if convolutional else None)


def build_multibox_trainer(
    recipe: MultiBoxRecipe,
    priors: Priors,
    train: ImagePool,
    val: ImagePool | None,
    folder: Path,
    *,
    machine: Machine,
    report: Callable[[MultiBoxProgress], None],
) -> MultiBoxTrainer:
    """A trainer whose net has its first weights."""
    trainer = MultiBoxTrainer(
        recipe.training,
        priors,
        train,
        val,
        folder,
        machine=machine,
        report=report,
    )
    if not trainer.checkpoint_path.exists():
        initialise_multibox(trainer.net, recipe.init)
        trainer.restart_average()
    return trainer
