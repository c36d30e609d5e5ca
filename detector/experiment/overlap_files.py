"""Predicted overlaps in the experiment's folder.

``overlap/`` holds for each member that predicts them ``overlap-N.safetensors``, the regression, and ``overlap-N.yaml``,
which is written last and says how it came to be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from detector.detection.ensemble import Member
from detector.experiment.overlap import (
    FittedOverlap,
    OverlapConfig,
    ProposedRegions,
    draw_proposed,
    fit_overlap,
    with_overlap,
)
from detector.experiment.regression import region_features
from detector.model.config import MemberConfig, WeightsFile
from detector.nets.weights import load_into, read_weights, save_weights, sha256
from detector.strict_yaml import read_settings, write_settings
from detector.training.pool import ImagePool
from proposals.types import ProposalSource


class OverlapFile(BaseModel):
    """How a member's prediction of overlaps came to be.

    Attributes:
        weights: its file. settings: it was fitted by. network: SHA-256 of the weights that it stands on.
        pictures, regions: learned from. penalty, correlation, error: see
            :class:`detector.experiment.overlap.FittedOverlap`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: WeightsFile
    settings: OverlapConfig
    network: str
    pictures: int
    regions: int
    penalty: float
    correlation: float
    error: float

    def in_words(self) -> str:
        """One line."""
        return (
            f"overlaps (penalty {self.penalty:g}): on held-out regions predicted with a correlation of "
            f"{self.correlation:.3f}, off by {self.error:.3f} in the mean"
        )


class TrainingRegions:
    """Regions proposed in training pictures, read and proposed once, when the first member needs them."""

    def __init__(
        self, pictures: Callable[[], ImagePool], source: ProposalSource, advance: Callable[[int], Callable[[], None]]
    ) -> None:
        self.pictures, self.source, self.advance = pictures, source, advance
        self.known: tuple[ImagePool, ProposedRegions] | None = None

    def get(self, settings: OverlapConfig) -> tuple[ImagePool, ProposedRegions]:
        """The pictures and their regions."""
        if self.known is None:
            pool = self.pictures()
            self.known = pool, draw_proposed(pool, self.source, settings, self.advance(len(pool.images)))
        return self.known


def overlap_path(folder: Path, number: int) -> Path:
    """Where it says how member ``number`` came to predict overlaps."""
    return folder / f"overlap-{number}.yaml"


def ensure_overlap(
    folder: Path,
    number: int,
    member: Member,
    config: MemberConfig,
    training: TrainingRegions,
    settings: OverlapConfig,
    device: torch.device,
    tell: Callable[[str], None],
) -> Member:
    """The member with predicted overlaps, fitted now unless ``folder`` holds what these ``settings`` give."""
    path = overlap_path(folder, number)
    known = read_settings(OverlapFile, path) if path.is_file() else None
    same = known is not None and (known.network, _fitting(known.settings)) == (config.sha256, _fitting(settings))
    if known is None or not same or not _sound(folder, known.weights):
        pool, regions = training.get(settings)
        fitted = fit_overlap(region_features(member, pool, regions, settings.grid, device), regions, settings)
        known = _save(folder, number, fitted, regions, config.sha256, settings)
        tell(f"member {number + 1}: {known.in_words()}")
    file = folder / known.weights.file
    # As stored, so that a run that goes on from here is the same.
    judge = nn.Linear(member.net.num_features * settings.grid**2, 1)
    load_into(judge, read_weights(file), file)
    weights = judge.weight.detach()[0].double().numpy()
    fitted = FittedOverlap(weights, float(judge.bias.detach()), known.penalty, known.correlation, known.error)
    return with_overlap(member, fitted, settings.grid)


def _fitting(settings: OverlapConfig) -> OverlapConfig:
    """The settings that matter for what is fitted."""
    return settings.model_copy(update={"members": 1, "power": 1.0})


def _sound(folder: Path, weights: WeightsFile) -> bool:
    path = folder / weights.file
    return path.is_file() and sha256(path) == weights.sha256


def _save(
    folder: Path, number: int, fitted: FittedOverlap, regions: ProposedRegions, network: str, settings: OverlapConfig
) -> OverlapFile:
    """Keep what was ``fitted`` to ``regions`` for the weights whose SHA-256 is ``network``."""
    folder.mkdir(exist_ok=True)
    file = folder / f"overlap-{number}.safetensors"
    weights, bias = torch.from_numpy(fitted.weights[None]).float(), torch.tensor([fitted.bias])
    save_weights(file, {"weight": weights, "bias": bias.float()})
    found = OverlapFile(
        weights=WeightsFile(file=file.name, sha256=sha256(file)),
        settings=settings,
        network=network,
        pictures=len(np.unique(regions.owner)),
        regions=len(regions.boxes),
        penalty=fitted.penalty,
        correlation=round(fitted.correlation, 6),
        error=round(fitted.error, 6),
    )
    write_settings(overlap_path(folder, number), found)
    return found
