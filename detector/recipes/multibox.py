"""The settings of a MultiBox training: what its file in ``configs/`` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from detector.nets.googlenet import GoogLeNetConfig
from detector.strict_yaml import read_settings
from detector.training.multibox import MultiBoxTrainingConfig
from proposals.merge import MergeConfig
from proposals.multibox import MultiBoxConfig
from proposals.multibox_source import MultiBoxProposalConfig


class MultiBoxModelFacts(BaseModel):
    """What the trained MultiBox says of itself; see :class:`detector.nets.multibox.MultiBoxFacts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    description: str = ""
    licence: str = "not stated"
    proposals: MultiBoxProposalConfig = MultiBoxProposalConfig()
    merge: MergeConfig = MergeConfig()


class MultiBoxRecipe(BaseModel):
    """A MultiBox training from the data to its folder.

    Attributes:
        init: where the weights start: "random"; of the trunk "bundled" or a model directory, whose first network it
            takes; or a MultiBox folder, whose head is taken as far as it fits.
        priors: a file of priors in place of fitted ones, in either format; empty to fit them.
        train_split, val_split, half: as in :class:`detector.recipes.region.NetworkRecipe`. Validation pictures also
            calibrate the scores.
        training: the run. model: what ``multibox.yaml`` will say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["multibox"] = "multibox"
    init: str = "random"
    priors: str = ""
    train_split: str = "train"
    val_split: str = "val"
    training: MultiBoxTrainingConfig
    half: bool = True
    model: MultiBoxModelFacts = MultiBoxModelFacts()


def read_multibox_recipe(path: Path) -> MultiBoxRecipe:
    """The MultiBox recipe in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(MultiBoxRecipe, path)


def default_multibox_recipe(steps: int) -> MultiBoxRecipe:
    """The global head over 100 priors on a narrow trunk, from random weights: for pictures of the user's own."""
    trunk = GoogLeNetConfig(norm="batch", width=0.25, stem="stride4")
    training = MultiBoxTrainingConfig(
        trunk=trunk, num_priors=100, steps=steps, batch_size=32, average=0.99, multibox=MultiBoxConfig(dropout=0.2)
    )
    return MultiBoxRecipe(training=training)
