"""The trunk's features of every region of a training set, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.crop import CropConfig, ImagePyramid, crop_regions
from detector.detection.ensemble import CPU_BATCH, GPU_BATCH
from detector.nets.googlenet import GoogLeNet
from detector.nets.region_head import grid_features, pooled_features
from detector.nets.weights import Normalization, to_tensor
from detector.training.feature_cache import FeatureCache, ImageFeatures, read_features
from detector.training.pool import ImagePool
from detector.training.region_table import RegionTable
from proposals.errors import UserError

# Raised with every change that changes the features, so that stored ones are not mistaken for today's.
VERSION = 1
F16_MAX = float(np.finfo(np.float16).max)


class FeatureExtractor:
    """Features of regions by one trunk.

    Args:
        net: in evaluation mode; put on ``device``, its normalisation folded. digest: of its weights. grid: cells a side
            of the grid features, 0 for none.
    """

    def __init__(
        self,
        net: GoogLeNet,
        digest: str,
        crop: CropConfig,
        normalization: Normalization,
        grid: int,
        device: torch.device,
    ) -> None:
        self.net = net.eval().fold_normalization().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.crop, self.normalization, self.grid, self.device = crop, normalization, grid, device
        self.settings = {
            "method": "trunk features",
            "version": VERSION,
            "weights": digest,
            "net": net.config.model_dump(mode="json", exclude={"num_outputs", "aux", "aux_pool", "dropout"}),
            "crop": crop.model_dump(mode="json"),
            "normalization": normalization.model_dump(mode="json"),
            "grid": grid,
        }

    @torch.inference_mode()
    def __call__(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.float32],
        mirror: NDArray[np.bool_],
        rows: NDArray[np.int64],
    ) -> ImageFeatures:
        """Pooled features of ``boxes`` ``(R, 4)`` in ``image``, and grid features of those at ``rows``, ascending."""
        channels = self.net.num_features
        batch = CPU_BATCH if self.device.type == "cpu" else GPU_BATCH
        pooled = np.empty((len(boxes), channels), np.float16)
        grid = np.empty((len(rows), channels * self.grid**2), np.float16)
        pyramid, done = ImagePyramid(image), 0
        for start in range(0, len(boxes), batch):
            part = slice(start, start + batch)
            crops = crop_regions(image, boxes[part], self.crop, self.normalization.fill, pyramid=pyramid)
            crops[mirror[part]] = crops[mirror[part]][:, :, ::-1]
            seen = self.net.trunk(self.normalization(to_tensor(crops).to(self.device)))
            pooled[part] = _half(pooled_features(seen))
            if self.grid:
                wanted = rows[(rows >= start) & (rows < start + batch)] - start
                grid[done : done + len(wanted)] = _half(grid_features(seen[torch.from_numpy(wanted)], self.grid))
                done += len(wanted)
        return ImageFeatures(
            pooled, rows if self.grid else rows[:0], grid if self.grid else np.zeros((0, 0), np.float16)
        )


def _half(features: Tensor) -> NDArray[np.float16]:
    # Beyond float16's range an activation would become infinite and spoil every sum.
    return np.asarray(features.clamp(-F16_MAX, F16_MAX).half().cpu().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """Features of a whole :class:`RegionTable`, image by image as they lie on disk.

    Attributes:
        paths: the file of each image. first: ``(M + 1,)`` int64, as in the region table. num_features: C.
        num_grid: D, the length of a grid feature.
    """

    paths: Sequence[Path]
    first: NDArray[np.int64]
    num_features: int
    num_grid: int

    def image(self, index: int) -> ImageFeatures:
        """The features of one image, mapped.

        Raises:
            UserError: they are gone.
        """
        found = read_features(self.paths[index], check=False)
        if found is None:
            raise UserError(f"{self.paths[index]}: vanished or was changed during the run; run again")
        return found

    def blocks(self, least: int = 4096) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All pooled features in order, as (first row, ``(n, C)`` float32), of at least ``least`` rows but the last."""
        start, waiting, count = 0, [], 0
        for index in range(len(self.paths)):
            pooled = self.image(index).pooled.astype(np.float32)  # a copy, so that the file is closed
            waiting.append(pooled)
            count += len(pooled)
            if count >= least:
                yield start, np.concatenate(waiting)
                start, waiting, count = start + count, [], 0
        if count:
            yield start, np.concatenate(waiting)

    def pooled(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Pooled features ``(n, C)`` of ``rows``."""
        found = np.empty((len(rows), self.num_features), np.float32)
        owner = np.searchsorted(self.first, rows, side="right") - 1
        for index in np.unique(owner).tolist():
            where = owner == index
            found[where] = self.image(index).pooled[rows[where] - self.first[index]]
        return found

    def grid(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows that have grid features ``(G,)``, ascending, and those features ``(G, D)``."""
        rows, features = [np.zeros(0, np.int64)], [np.zeros((0, self.num_grid), np.float16)]
        for index in range(len(self.paths)):
            image = self.image(index)
            rows.append(image.rows + self.first[index])
            features.append(image.grid.copy())
        return np.concatenate(rows), np.concatenate(features).astype(np.float32)


def compute_features(
    extractor: FeatureExtractor,
    pool: ImagePool,
    table: RegionTable,
    grid_rows: NDArray[np.bool_],
    cache: Path,
    progress: Callable[[], None] = lambda: None,
) -> tuple[FeatureTable, int]:
    """The features of ``table``, from ``cache`` where they are there, and how many images had to be computed.

    Args:
        grid_rows: ``(R,)``, the regions whose grid features are wanted. progress: called after each image.

    Raises:
        UserError: the cache cannot be written.
    """
    store = FeatureCache(cache, extractor.settings)
    paths, made = [], 0
    for index, image in enumerate(pool.images):
        part = table.of_image(index)
        boxes, mirror, rows = table.boxes[part], table.mirror[part], np.flatnonzero(grid_rows[part])
        rows = rows if extractor.grid else rows[:0]
        paths.append(store.path(image, boxes, mirror, rows))
        made += store.ensure(paths[-1], partial(extractor, image, boxes, mirror, rows))
        progress()
    channels = extractor.net.num_features
    return FeatureTable(paths, table.first, channels, channels * extractor.grid**2), made
