"""The features of every region of a training set, as the networks of a model make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.detection.ensemble import Ensemble, Member
from detector.nets.region_head import HeadShape, RegionHead, RegionOutput, pooled_features
from detector.training.pool import ImagePool
from detector.training.processes import ALONE, Processes
from detector.training.region_table import RegionTable

FEATURES_FILE = "features.bin"
F16_MAX = float(np.finfo(np.float16).max)
F16_BYTES = 2

Features = NDArray[np.float16]
"""``(R, C)`` of a :class:`RegionTable`'s regions, in its order; in memory, or mapped from a file."""


class FeatureHead(RegionHead):
    """Hands on what classes are scored on: ``(N, C, H, W)`` -> the means ``(N, C)``, in the place of probabilities."""

    def __init__(self, num_features: int) -> None:
        nn.Module.__init__(self)
        self.shape, self.num_classes = HeadShape(kind="softmax", grid=0), num_features - 1
        self.regress = self.judge = None

    def forward(self, feature_map: Tensor) -> RegionOutput:
        return RegionOutput(pooled_features(feature_map))


def blocks(features: Features, rows: int = 4096) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """All features in order, as (first row, ``(n, C)`` float32)."""
    for start in range(0, len(features), rows):
        yield start, features[start : start + rows].astype(np.float32)


def compute_features(
    members: Sequence[Member],
    pool: ImagePool,
    table: RegionTable,
    folder: Path,
    device: torch.device,
    advance: Callable[[], None] = lambda: None,
    processes: Processes = ALONE,
) -> list[Features]:
    """The features of ``table``'s regions by each member, in files of ``folder`` that are theirs alone.

    Args:
        advance: called after each image. processes: each computes those of its share of the images.
    """
    takers = [Member(m.net, m.crop, m.normalization, FeatureHead(m.net.num_features), m.shared) for m in members]
    ensembles = [Ensemble([taker], device) for taker in takers]
    paths = [folder / f"{number}-{FEATURES_FILE}" for number in range(len(members))]
    widths = [m.net.num_features for m in members]
    if processes.writes:
        for path, width in zip(paths, widths, strict=True):
            with path.open("wb") as file:
                file.truncate(len(table) * width * F16_BYTES)
    processes.wait()
    for index in range(processes.rank, len(pool.images), processes.count):
        rows = table.of_image(index)
        for path, ensemble, width in zip(paths, ensembles, widths, strict=True):
            (found,) = ensemble.predict_members(pool.images[index], table.boxes[rows])
            # Beyond float16's range an activation would become infinite and spoil every sum.
            half = found.probs.clamp(-F16_MAX, F16_MAX).half().numpy()
            with path.open("r+b") as file:  # not through a mapping: a full disk would end the process
                file.seek(rows.start * width * F16_BYTES)
                file.write(half.tobytes())
        advance()
    processes.wait()
    return [_mapped(path, (len(table), width)) for path, width in zip(paths, widths, strict=True)]


def _mapped(path: Path, shape: tuple[int, int]) -> Features:
    return np.memmap(path, np.float16, "r", shape=shape) if shape[0] else np.zeros(shape, np.float16)
