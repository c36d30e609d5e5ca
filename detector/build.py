"""The composition root of training: a recipe and a data set become a trainer, a finished run a model directory."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from detector.config import MultiBoxRecipe, TrainRecipe
from detector.data import Dataset, load_dataset
from detector.model import BUNDLED_MODEL, ModelConfig, choose_device, read_member, read_model_config, save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.multibox import MultiBoxFacts, save_multibox
from detector.nets.weights import read_torchvision_weights
from detector.training.multibox import MultiBoxProgress, MultiBoxTrainer, calibrate, fit_priors
from detector.training.pool import ImagePool
from detector.training.regions import Progress, RegionTrainer
from proposals.errors import UserError
from proposals.multibox import CONVOLUTIONAL_PRIORS, MultiBoxNet
from proposals.priors import Priors, read_priors

HEADS = ("fc.", "aux1.fc2.", "aux2.fc2.")


def initial_weights(init: str, class_keys: tuple[str, ...] = ()) -> dict[str, Tensor] | None:
    """The state dict that ``init`` of a recipe names; ``None`` for "random".

    The last layers are left out, but for a model directory whose classes are ``class_keys``.

    Raises:
        UserError: it cannot be had.
    """
    if init == "random":
        return None
    if init == "torchvision" or init.endswith(".pth"):
        state = read_torchvision_weights(None if init == "torchvision" else Path(init))
    else:
        folder = BUNDLED_MODEL if init == "bundled" else Path(init)
        config = read_model_config(folder)
        state = read_member(folder, config.members[0]).net.state_dict()
        if config.class_keys == class_keys:
            return state
    return {name: tensor for name, tensor in state.items() if not name.startswith(HEADS)}


def initialise(net: GoogLeNet, init: str, class_keys: tuple[str, ...] = ()) -> None:
    """Load the weights that ``init`` names into ``net``.

    Missing auxiliary heads stay new, and so do the last layers unless ``init`` is a model of these ``class_keys``.

    Raises:
        UserError: they cannot be had or belong to another architecture.
    """
    state = initial_weights(init, class_keys)
    if state is None:
        return
    own = net.state_dict()
    new = [n for n in own if n not in state and not n.startswith((*HEADS, "aux"))]
    wrong = [n for n, t in state.items() if not n.startswith("aux") and (n not in own or own[n].shape != t.shape)]
    if new or wrong:
        raise UserError(
            f"init {init}: weights of another architecture ({(new + wrong)[0]!r} differs); set training.net"
        )
    net.load_state_dict({**own, **{n: t for n, t in state.items() if n in own and own[n].shape == t.shape}})


def with_classes(recipe: TrainRecipe, num_classes: int) -> TrainRecipe:
    """The recipe with a net of ``num_classes`` + 1 outputs."""
    net = recipe.training.net.model_copy(update={"num_outputs": num_classes + 1})
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


def build_trainer(
    recipe: TrainRecipe,
    train: ImagePool,
    val: ImagePool | None,
    class_keys: tuple[str, ...],
    folder: Path,
    *,
    device: str,
    report: Callable[[Progress], None],
    checkpoint_minutes: float,
    scenes: ImagePool | None = None,
) -> RegionTrainer:
    """A trainer whose net has its first weights."""
    trainer = RegionTrainer(
        recipe.training,
        train,
        val,
        len(class_keys),
        folder,
        device=choose_device(device),
        report=report,
        checkpoint_minutes=checkpoint_minutes,
        scenes=scenes,
    )
    if not trainer.checkpoint_path.exists():
        initialise(trainer.net, recipe.init, class_keys)
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
    device: str,
    report: Callable[[MultiBoxProgress], None],
    checkpoint_minutes: float,
) -> MultiBoxTrainer:
    """A trainer whose net has its first weights."""
    trainer = MultiBoxTrainer(
        recipe.training,
        priors,
        train,
        val,
        folder,
        device=choose_device(device),
        report=report,
        checkpoint_minutes=checkpoint_minutes,
    )
    if not trainer.checkpoint_path.exists():
        trunk = trainer.net.trunk
        assert isinstance(trunk, GoogLeNet)
        initialise(trunk, recipe.init)
        trainer.restart_average()
    return trainer


def save_trained_multibox(
    folder: Path, recipe: MultiBoxRecipe, dataset: Dataset, trainer: MultiBoxTrainer, net: MultiBoxNet
) -> MultiBoxFacts:
    """Make ``folder``, a finished run's, a MultiBox folder as well; the scores are calibrated here."""
    training = recipe.training
    held_out = trainer.train if trainer.val is None else trainer.val
    calibration = calibrate(net, held_out, training.normalization)
    scores = {} if trainer.last_recall is None else {"val_recall50_at_50": round(trainer.last_recall, 4)}
    return save_multibox(
        folder,
        net,
        trainer.priors,
        training.trunk,
        training.normalization,
        half=recipe.half,
        name=recipe.model.name or folder.resolve().name,
        description=recipe.model.description,
        licence=recipe.model.licence,
        proposals=recipe.model.proposals.model_copy(update={"calibration": calibration}),
        merge=recipe.model.merge,
        provenance=_provenance(dataset, recipe.init, trainer.seconds),
        scores=scores,
    )


def _provenance(dataset: Dataset, init: str, seconds: float) -> dict[str, str]:
    return {
        "data": f"{dataset.name} ({dataset.format}), split {dataset.split or 'all'}, {len(dataset)} images",
        "trained": datetime.date.today().isoformat(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seconds": f"{seconds:.0f} on {platform.machine()}, {torch.get_num_threads()} threads",
        "init": init,
    }


def save_trained(
    folder: Path, recipe: TrainRecipe, dataset: Dataset, net: GoogLeNet, top1: float | None, seconds: float
) -> ModelConfig:
    """Make ``folder``, a finished run's, a model directory as well."""
    training = recipe.training
    net_config: GoogLeNetConfig = training.net
    return save_model(
        folder,
        [(net_config, net.state_dict(), training.crop, training.normalization)],
        half=recipe.half,
        name=recipe.model.name or folder.resolve().name,
        description=recipe.model.description,
        class_names=dataset.class_names,
        class_keys=tuple(str(key) for key in dataset.class_keys),
        proposals=recipe.model.proposals,
        postprocess=recipe.model.postprocess,
        licence=recipe.model.licence,
        provenance=_provenance(dataset, recipe.init, seconds),
        scores={} if top1 is None else {"val_top1_on_annotated_boxes": round(top1, 4)},
    )
