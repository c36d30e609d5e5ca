"""The composition root of training: a recipe and a data set become a trainer, and what it trained a detector."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.crop import CropConfig
from detector.data import Dataset, load_dataset
from detector.detection.ensemble import Ensemble
from detector.detection.member import Member
from detector.detection.multibox_source import MultiBoxSource
from detector.detection.pipeline import Detector
from detector.model.config import ProposalConfig, named_folder, read_detector_config
from detector.model.load import stored_source
from detector.nets.googlenet import GoogLeNet
from detector.nets.region_head import HeadShape
from detector.nets.region_net import RegionNet
from detector.recipes.initialization import find_teacher, initialise, trained_head
from detector.recipes.region import OneRecipe, SharedRecipe, TrainRecipe
from detector.training.batches import CropBatches, RegionBatches, WindowBatches, Windows
from detector.training.pool import ImagePool
from detector.training.processes import Machine, Processes
from detector.training.region_settings import RegionTrainingConfig, SharedTrainingConfig
from detector.training.region_trainer import RegionTrainer, truth_accuracy
from detector.training.shared_batches import SharedBatches
from detector.types import Detections
from proposals.errors import UserError
from proposals.types import ProposalSource

VALIDATE_IMAGES = 2000
"""So many validate a training of crops, but all at its end."""
MEASURED_SCORE = 0.01  # detections below it do not count in the validation's mean AP

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
            initialise(new_shared_net(recipe.training, max(len(class_keys), 1)), recipe.init, class_keys)
        else:
            initialise(new_crop_net(recipe.training), recipe.init, class_keys)
    if class_keys:
        find_teacher(recipe, class_keys, torch.device("cpu"))


def propose_for(
    config: ProposalConfig, pool: ImagePool, store: Path, processes: Processes, advance: Callable[[], None]
) -> Iterator[NDArray[np.float32]]:
    """The proposals ``(P, 4)`` of each image, read from the store one after another.

    They are made at once, and ``advance`` is called after each image; one that cannot be read has none. Each of several
    processes makes its share, in the store of all.
    """
    source = stored_source(config, store)

    def boxes(index: int) -> NDArray[np.float32]:
        try:
            return source.propose(pool.images[index]).boxes[: config.max_proposals]
        except UserError:  # a picture that is read when it is needed, and has become unreadable
            return np.zeros((0, 4), np.float32)

    for index in range(processes.rank, len(pool.images), processes.count):
        boxes(index)
        advance()
    processes.wait()
    return map(boxes, range(len(pool.images)))


def crop_trainer(
    config: RegionTrainingConfig,
    train: ImagePool,
    val: ImagePool | None,
    num_classes: int,
    folder: Path,
    *,
    machine: Machine,
    windows: Windows | None = None,
    **about: Any,
) -> RegionTrainer[Any]:
    """A trainer of a net that names crops, validated by its top-1 on the annotated boxes of ``val``.

    Args:
        windows: of ``train``, for ``regions: windows``. about: see :class:`RegionTrainer`.

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
    batches: CropBatches = RegionBatches(train, config) if windows is None else WindowBatches(windows, train, config)

    def measure(net: nn.Module, last: bool) -> float | None:
        if val is None or not len(val.boxes):
            return None
        found = truth_accuracy(net, val, config, None if last else VALIDATE_IMAGES, machine.processes)
        return found if math.isfinite(found) else None

    return RegionTrainer(
        config, lambda: new_crop_net(config), batches, folder, machine=machine, measure=measure, **about
    )


def new_crop_net(config: RegionTrainingConfig) -> GoogLeNet | RegionNet:
    """The net of ``config`` with random weights."""
    if config.grid:
        return RegionNet(config.net, _region_heads(config.grid), config.num_classes, dropout=config.net.dropout)
    return GoogLeNet(config.net)


def _region_heads(grid: int) -> HeadShape:
    """The heads that a region network is trained with: classes, one box for all classes, overlap."""
    return HeadShape(kind="softmax", grid=grid, shared=True, overlap=grid)


def shared_trainer(
    config: SharedTrainingConfig, batches: SharedBatches, folder: Path, **about: Any
) -> RegionTrainer[RegionNet]:
    """A trainer of a region network on shared maps; ``about``: see :class:`RegionTrainer`."""
    return RegionTrainer(
        config, lambda: new_shared_net(config, batches.num_classes), batches, folder, metric="ap_val", **about
    )


def new_shared_net(config: SharedTrainingConfig, num_classes: int) -> RegionNet:
    """The net of ``config`` with random weights."""
    net = RegionNet(config.net, _region_heads(config.grid), num_classes, config.maps, config.dropout, config.multibox)
    if config.only_multibox:
        net.freeze_all_but_multibox()
    elif config.frozen:
        net.trunk.freeze_stage_3()
    return net


class ValidationAP:
    """Mean AP (VOC 2007's rule) of a net, as a whole detector, on the first images of the validation part.

    Args:
        recipe: of the run. crop: of the model that it ends with. data: the images that are measured. source: of their
            proposals.
    """

    def __init__(self, recipe: SharedRecipe, crop: CropConfig, data: Dataset, source: ProposalSource) -> None:
        self.recipe, self.crop, self.data, self.source = recipe, crop, data, source
        self.found: dict[str, Detections] = {}
        self.proposals: dict[str, NDArray[np.float32]] = {}
        """What the last measured net found, and the regions that it classified, by image id."""

    def __call__(self, net: RegionNet, last: bool = True) -> float:
        """The mean AP in [0, 1]."""
        from detector.evaluation import evaluate_voc, truth_of_dataset

        recipe = self.recipe
        device = next(net.parameters()).device
        trunk = copy.deepcopy(net.trunk)  # normalisation will be folded
        member = Member(trunk, self.crop, recipe.training.normalization, trained_head(net), recipe.maps)
        post = recipe.model.postprocess.model_copy(update={"score_threshold": MEASURED_SCORE})
        ensemble, multibox = Ensemble([member], device), None
        if net.multibox is not None:
            multibox = MultiBoxSource(copy.deepcopy(net.multibox), ensemble, recipe.maps)
        detector = Detector(
            self.source,
            ensemble,
            self.data.class_names,
            post,
            recipe.model.proposals.max_proposals,
            recipe.refinement,
            multibox=multibox,
        )
        for index, name in enumerate(self.data.image_ids):
            self.found[name], proposals = detector.detect(self.data.read(index))
            self.proposals[name] = proposals.boxes
        result = evaluate_voc(self.found, truth_of_dataset(self.data), self.data.class_names)
        return 0.0 if math.isnan(result.mean_ap) else result.mean_ap
