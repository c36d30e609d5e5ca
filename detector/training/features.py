"""The regions that SVMs are trained on, with what each overlaps and its features, in flat arrays.

Glossary: R regions of all images together, K classes. An image's regions are its annotated boxes and its proposals;
they stand together, in the images' order. Background in ignored objects is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.detection.ensemble import Ensemble
from detector.detection.member import Member
from detector.nets.region_head import HeadShape, RegionHead, RegionOutput, pooled_features
from detector.training.pool import ImagePool
from detector.training.processes import ALONE, Processes
from detector.training.sampling import hidden
from proposals.boxes import clip, iou, is_valid

FEATURES_FILE = "features.bin"
F16_MAX = float(np.finfo(np.float16).max)
F16_BYTES = 2
FOREGROUND_IOU = 0.5  # regions show an object from this IoU on

Boxes = NDArray[np.float32]
Features = NDArray[np.float16]
"""``(R, C)`` of a :class:`RegionTable`'s regions, in its order; in memory, or mapped from a file."""


@dataclass(frozen=True, slots=True, eq=False)
class RegionTable:
    """All regions of a training set.

    Attributes:
        boxes: ``(R, 4)`` float32. first: ``(M + 1,)`` int64, the regions of image i are ``first[i]:first[i + 1]``.
        annotated: ``(R,)`` bool, the annotated boxes.
        labels: ``(R,)`` int64, the class of the object that each overlaps most if that is by half, otherwise K.
        class_overlap: ``(R, K)`` float32, the greatest IoU with an object of each class.
    """

    boxes: Boxes
    first: NDArray[np.int64]
    annotated: NDArray[np.bool_]
    labels: NDArray[np.int64]
    class_overlap: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def of_image(self, image: int) -> slice:
        """The regions of one image."""
        return slice(int(self.first[image]), int(self.first[image + 1]))


def make_table(pool: ImagePool, proposals: Sequence[Boxes], num_classes: int) -> RegionTable:
    """The regions of ``pool`` whose images have these ``proposals``, ``(P, 4)`` each."""
    if len(proposals) != len(pool.images):
        raise ValueError(f"{len(pool.images)} images, proposals of {len(proposals)}")
    columns: list[tuple[NDArray[np.generic], ...]] = []
    for image, found in enumerate(proposals):
        truth, labels = pool.truth(image), pool.labels[pool.of_image(image)]
        height, width = pool.sizes[image].tolist()
        boxes = clip(np.concatenate([truth, found]).astype(np.float32), (int(height), int(width))).astype(np.float32)
        annotated = np.arange(len(boxes)) < len(truth)
        apart = hidden(boxes, pool.unsure(image)) & ~annotated & ~(iou(boxes, truth) >= FOREGROUND_IOU).any(axis=1)
        good = is_valid(boxes) & ~apart
        overlap = iou(boxes[good].astype(np.float64), truth.astype(np.float64)).astype(np.float32)
        named, by_class = np.full(len(overlap), num_classes), np.zeros((len(overlap), num_classes), np.float32)
        for label in np.unique(labels):
            by_class[:, label] = overlap[:, labels == label].max(axis=1)
        shows = by_class.max(axis=1, initial=0) >= FOREGROUND_IOU
        if shows.any():
            named[shows] = labels[overlap[shows].argmax(axis=1)]
        columns.append((boxes[good], annotated[good], named, by_class))
    first = np.concatenate([[0], np.cumsum([len(column[0]) for column in columns], dtype=np.int64)]).astype(np.int64)
    none = (np.zeros((0, 4), np.float32), np.zeros(0, np.bool_), np.zeros(0, np.int64))
    columns.append((*none, np.zeros((0, num_classes), np.float32)))
    boxes, annotated, named, by_class = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return RegionTable(boxes, first, annotated, named, by_class)


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
