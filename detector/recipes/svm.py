"""R-CNN's last stage as a recipe: the classes of a trained model named anew, by SVMs on its features."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.strict_yaml import read_settings


class SvmRecipe(BaseModel):
    """SVMs in place of the softmax of a trained model; its proposals, boxes and overlaps stay.

    Attributes:
        init: the model folder, "bundled" or a path, of the data's classes. train_split: part of the data set; empty
            takes the training part that it has, or all of it. seed: random seed. name, description, licence: what
            ``model.yaml`` will say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["svm"] = "svm"
    init: str = Field(default="bundled", min_length=1)
    train_split: str = ""
    seed: int = Field(default=0, ge=0)
    name: str = ""
    description: str = ""
    licence: str = "not stated"


def read_svm_recipe(path: Path) -> SvmRecipe:
    """The recipe in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(SvmRecipe, path)
