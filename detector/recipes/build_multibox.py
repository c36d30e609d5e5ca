"""The composition root of a MultiBox training: a recipe and a data set become a trainer, and it a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from detector.data import Dataset
from detector.model.config import MODEL_FILE
from detector.nets.googlenet import GoogLeNet
from detector.nets.multibox import MULTIBOX_FILE, MultiBoxFacts, read_multibox, read_multibox_facts, save_multibox
from detector.nets.trunk import Trunk
from detector.recipes.export import provenance
from detector.recipes.initialization import initialise
from detector.recipes.multibox import MultiBoxRecipe
from detector.training.loop import Machine
from detector.training.multibox import MultiBoxProgress, MultiBoxTrainer, calibrate, fit_priors
from detector.training.pool import ImagePool
from proposals.errors import UserError
from proposals.multibox import CONVOLUTIONAL_PRIORS, MultiBoxNet
from proposals.priors import Priors, read_priors


def check_multibox_beginning(recipe: MultiBoxRecipe) -> None:
    """Look at what ``init`` names now, for a run comes to it only when all pictures are read.

    Raises:
        UserError: it cannot be had, or belongs to another architecture.
    """
    settings = recipe.training.multibox
    count = CONVOLUTIONAL_PRIORS if settings.head == "convolutional" else 1  # any: a head may stay new
    boxes = np.broadcast_to(np.array([0, 0, 1, 1], np.float32), (count, 4))
    with torch.random.fork_rng(devices=[]):
        net = MultiBoxNet(Trunk(recipe.training.trunk), Priors(boxes, np.ones_like(boxes)), settings)
        initialise_multibox(net, recipe.init)


def initialise_multibox(net: MultiBoxNet, init: str) -> None:
    """Load what ``init`` names into the trunk of ``net``; of a MultiBox folder also the layers of the head that fit.

    A head of other priors stays new, because its outputs mean other boxes.

    Raises:
        UserError: there is no such model, or its trunk has another architecture.
    """
    folder = Path(init)
    if not (folder / MULTIBOX_FILE).is_file() or (folder / MODEL_FILE).is_file():
        assert isinstance(net.trunk, GoogLeNet)
        initialise(net.trunk, init)
        return
    other = read_multibox(folder, read_multibox_facts(folder).multibox)
    own, given = net.state_dict(), other.state_dict()
    wrong = [n for n in own if n.startswith("trunk.") and (n not in given or given[n].shape != own[n].shape)]
    if wrong:
        raise UserError(f"init {init}: weights of another architecture ({wrong[0]!r} differs); set training.trunk")
    same = net.priors.shape == other.priors.shape and all(
        torch.allclose(a.cpu(), b, atol=1e-4) for a, b in ((net.priors, other.priors), (net.deviation, other.deviation))
    )
    fits = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape and (same or n.startswith("trunk."))}
    net.load_state_dict({**own, **fits})


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
        provenance=provenance(dataset, recipe.init, trainer.seconds),
        scores=scores,
    )
