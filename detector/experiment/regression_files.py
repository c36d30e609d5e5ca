"""Box regression in the experiment's folder.

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

from detector.data import Dataset
from detector.detection.ensemble import Member
from detector.experiment.headed_model import stored_head
from detector.experiment.overlap import OverlapConfig
from detector.experiment.regression import (
    BoxRegressionConfig,
    draw_regions,
    fit_boxes,
    region_features,
    with_box_regression,
)
from detector.model.config import MemberConfig, WeightsFile
from detector.model.load import load_checked
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.weights import save_weights, sha256
from detector.strict_yaml import read_settings, write_settings
from detector.training.pool import ImagePool
from detector.training.sampling import SamplingConfig


class FittedFile(BaseModel):
    """How a member's box regression came to be.

    Attributes:
        head: its file. shape: what it consists of. network: SHA-256 of the weights that it stands on. regions,
            pictures: learned from.
        kind, penalty, before, after: see :class:`detector.experiment.regression.Fitted`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: WeightsFile
    shape: HeadShape
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
    head = RegionHead(known.shape, member.num_outputs - 1, member.net.num_features)
    load_checked(head, folder, known.head)
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
    head = with_box_regression(member, fitted, settings.grid).head
    assert head is not None
    folder.mkdir(exist_ok=True)
    file = folder / f"head-{number}.safetensors"
    save_weights(file, stored_head(head))
    found = FittedFile(
        head=WeightsFile(file=file.name, sha256=sha256(file)),
        shape=head.shape,
        network=config.sha256,
        pictures=len(np.unique(regions.owner)),
        regions=len(regions.boxes),
        kind=fitted.kind,
        penalty=fitted.penalty,
        before=round(fitted.before, 6),
        after=round(fitted.after, 6),
    )
    write_settings(fitted_path(folder, number), found)
    return found


def training_pictures(train: Dataset, settings: BoxRegressionConfig | OverlapConfig) -> ImagePool:
    """The pictures that box regression or overlaps are fitted to."""
    count = min(settings.pictures, len(train))
    chosen = np.random.default_rng([settings.seed, 0]).choice(len(train), count, replace=False)
    return ImagePool.load(train.subset(np.sort(chosen)))
