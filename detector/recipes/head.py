"""The settings of the ``head`` recipe: what ``configs/head.yaml`` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.crop import CropConfig
from detector.detection.suppression import PostprocessConfig, RefinementConfig
from detector.model.config import ProposalConfig
from detector.strict_yaml import read_settings
from detector.training.heads import HeadTrainingConfig
from detector.training.proposal_choice import ProposalChoiceConfig
from detector.training.region_table import RegionTableConfig
from detector.training.trunk_tuning import TuningConfig


class HeadModelFacts(BaseModel):
    """What the trained model says of itself in ``model.yaml``; see :class:`detector.model.config.ModelConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    description: str = ""
    licence: str = "not stated"
    # R-CNN's 0.3 is for boxes as proposed. Boxes that were moved onto their object overlap their duplicates by more,
    # and a touching neighbour, in crowds of cells or bunches of fruit, may overlap by up to a half.
    postprocess: PostprocessConfig = PostprocessConfig(nms_threshold=0.5, max_detections=200, soft_sigma=0.3)


class HeadRecipe(BaseModel):
    """R-CNN's second stage on a trunk, from the data to the model directory.

    Attributes:
        init: the trunk: "bundled", "torchvision" (its ImageNet weights, when online), a model directory, or a local
            file of torchvision's GoogLeNet weights (``.pth``).
        train_split: part of the data set; empty takes the training part that it has, or all of it.
        crop: how regions become the trunk's input; ``None`` as the trunk is used to.
        proposals: where regions come from; ``None`` chooses by recall on training pictures, as ``choice`` says.
        regions: which others are trained on. tuning: of the trunk, before its features are taken; ``None`` freezes it.
        head: classifier and box regression. refinement: how often regions are classified and moved at detection.
        seed: of all chance. model: what ``model.yaml`` will say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["head"] = "head"
    init: str = "bundled"
    train_split: str = ""
    crop: CropConfig | None = None
    proposals: ProposalConfig | None = None
    choice: ProposalChoiceConfig = ProposalChoiceConfig()
    regions: RegionTableConfig = RegionTableConfig()
    tuning: TuningConfig | None = TuningConfig()
    head: HeadTrainingConfig = HeadTrainingConfig()
    refinement: RefinementConfig = RefinementConfig(every_round=True)
    seed: int = Field(default=0, ge=0)
    model: HeadModelFacts = HeadModelFacts()


def read_head_recipe(path: Path) -> HeadRecipe:
    """The recipe in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(HeadRecipe, path)
