"""Box regression in the experiment's folder, and as part of a model directory.

``regression/`` holds for each member that has it ``head-N.safetensors``, the network's own last layer and the
regression, and ``head-N.yaml``, which is written last and says how it came to be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load as load_safetensors

from detector.classify import Member
from detector.data import Dataset
from detector.experiment.regression import BoxRegressionConfig, draw_regions, fit_boxes, head_of, region_features
from detector.model import (
    HeadConfig,
    MemberConfig,
    ModelConfig,
    begin_copy,
    load_head,
    read_model_config,
    write_model_config,
)
from detector.nets.region_head import RegionHead
from detector.nets.weights import save_weights, sha256
from detector.postprocess import RefinementConfig
from detector.sampling import SamplingConfig
from detector.strict_yaml import dump_yaml, read_settings
from detector.training.pool import ImagePool


class FittedFile(BaseModel):
    """How a member's box regression came to be.

    Attributes:
        head: its file and shape. network: SHA-256 of the weights that it stands on. regions, pictures: learned from.
        kind, penalty, before, after: see :class:`detector.experiment.regression.Fitted`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: HeadConfig
    network: str
    pictures: int
    regions: int
    kind: Literal["class", "shared", "none"]
    penalty: float
    before: float
    after: float

    def in_words(self) -> str:
        """One line."""
        return (
            f"box regression ({self.kind}, penalty {self.penalty:g}): held-out regions overlap their objects by "
            f"{self.after:.3f}, as drawn {self.before:.3f}"
        )


def fitted_path(folder: Path, number: int) -> Path:
    """Where it says how member ``number`` got its regression."""
    return folder / f"head-{number}.yaml"


def ensure_regression(
    folder: Path,
    number: int,
    member: Member,
    config: MemberConfig,
    training: Callable[[], tuple[ImagePool, SamplingConfig]],
    settings: BoxRegressionConfig,
    device: torch.device,
    tell: Callable[[str], None],
) -> Member:
    """The member with box regression, fitted now unless ``folder`` holds it.

    Args:
        training: gives the pictures and how regions are drawn; called only if there is something to fit.
    """
    path = fitted_path(folder, number)
    known = read_settings(FittedFile, path) if path.is_file() else None
    if known is None or known.network != config.sha256:
        known = _fit(folder, number, member, config, training, settings, device)
        tell(f"member {number + 1}: {known.in_words()}")
    head = load_head(folder, known.head, member.num_outputs - 1, member.net.num_features)
    return Member(member.net, member.crop, member.normalization, head)


def _fit(
    folder: Path,
    number: int,
    member: Member,
    config: MemberConfig,
    training: Callable[[], tuple[ImagePool, SamplingConfig]],
    settings: BoxRegressionConfig,
    device: torch.device,
) -> FittedFile:
    pool, sampling = training()
    regions = draw_regions(pool, sampling, settings)
    features = region_features(member, pool, regions, settings.grid, device)
    fitted = fit_boxes(features, regions, pool.sizes, member.num_outputs - 1, settings)
    head = head_of(member, fitted, settings.grid)
    folder.mkdir(exist_ok=True)
    file = folder / f"head-{number}.safetensors"
    save_head(file, head)
    found = FittedFile(
        head=HeadConfig(file=file.name, sha256=sha256(file), shape=head.shape),
        network=config.sha256,
        pictures=len(np.unique(regions.owner)),
        regions=len(regions.boxes),
        kind=fitted.kind,
        penalty=fitted.penalty,
        before=round(fitted.before, 6),
        after=round(fitted.after, 6),
    )
    path = fitted_path(folder, number)
    temporary = path.with_name(path.name + ".unfinished")
    temporary.write_text(dump_yaml(found), encoding="utf-8")
    temporary.replace(path)
    return found


def save_head(file: Path, head: RegionHead) -> None:
    """Write a head: the last layer in float16, as networks are; a regression of each class as well, for its size."""
    state = head.state_dict()
    whole = "regress" if head.shape.shared else "none"  # the one for all classes is small, and its weights are, too
    save_weights(file, {name: t if name.startswith(whole) else t.half() for name, t in state.items()})


def with_regression(model: Path, regression: Path, out: Path) -> ModelConfig:
    """Make ``out`` a copy of the model directory ``model`` whose first members have the regressions in ``regression``.

    Raises:
        UserError: one of them is not what it should be, or ``out`` is a model directory already.
    """
    config = read_model_config(model)
    begin_copy(out, [model / file for file in config.files])
    members = list(config.members)
    number = 0
    while number < len(members) and fitted_path(regression, number).is_file():
        fitted = read_settings(FittedFile, fitted_path(regression, number))
        begin_copy(out, [regression / fitted.head.file])
        # The file holds the trunk alone now; the last layer is the head's.
        weights = out / members[number].file
        state = load_safetensors(weights.read_bytes())
        save_weights(weights, {name: t for name, t in state.items() if not name.startswith("fc.")})
        members[number] = members[number].model_copy(update={"sha256": sha256(weights), "head": fitted.head})
        number += 1
    changes = {"members": tuple(members), "refinement": RefinementConfig(rounds=1) if number else None}
    joined = ModelConfig.model_validate({**dict(config), **changes})
    write_model_config(out, joined)
    return joined


def training_pictures(train: Dataset, settings: BoxRegressionConfig) -> ImagePool:
    """The pictures that regression is fitted to."""
    count = min(settings.pictures, len(train))
    chosen = np.random.default_rng([settings.seed, 0]).choice(len(train), count, replace=False)
    return ImagePool.load(train.subset(np.sort(chosen)))
