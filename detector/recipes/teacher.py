"""The teacher that a recipe names."""

from __future__ import annotations

import torch

from detector.detection.ensemble import Ensemble
from detector.model.config import named_folder, read_detector_config
from detector.model.load import load_ensemble
from detector.recipes.region import OneRecipe, SharedRecipe
from proposals.errors import UserError


def find_teacher(recipe: OneRecipe, class_keys: tuple[str, ...], device: torch.device) -> Ensemble | None:
    """The networks of the model that ``recipe`` has for a teacher, if it has one, in the precision of the run.

    Raises:
        UserError: it cannot be read, has other classes than the data, or no maps for a pupil on shared maps.
    """
    name = recipe.teacher
    if not name:
        return None
    folder = named_folder(name)
    config = read_detector_config(folder)
    if config.class_keys != class_keys:
        raise UserError(
            f"teacher {name}: knows {len(config.class_keys)} classes ({', '.join(config.class_keys[:3])}, ...), "
            f"the data have {len(class_keys)} ({', '.join(class_keys[:3])}, ...); they must be the same, in order"
        )
    if isinstance(recipe, SharedRecipe) and any(member.shared is None for member in config.members):
        raise UserError(f"teacher {name}: classifies crops, and this recipe's networks learn on shared maps")
    return load_ensemble(folder, config, device, precision=recipe.training.precision)
