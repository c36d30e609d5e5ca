"""R-CNN's second stage as a small network on top of a trunk: class scores, box regression, overlap; all linear.

Glossary of shapes: N regions, K classes, C channels of the trunk's map, g cells a side that the regression sees.
    map     (N, C, H, W)   the trunk's output
    pooled  (N, C)         its mean over all positions: what the classes are scored on
    grid    (N, C * g * g) its means over g x g cells: where in the crop the object lies, which the mean forgets
    probs   (N, K + 1)     background last
    deltas  (N, K, 4)      tx ty tw th of each class, see :func:`proposals.boxes.encode`
    overlap (N,)           predicted IoU of a region with the object that it shows, in [0, 1] (IoU-Net's localization
                           confidence, Jiang et al., ECCV 2018)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from proposals.multibox import MultiBoxOutput

HeadKind = Literal["svm", "softmax"]


class HeadShape(BaseModel):
    """What a head consists of.

    Attributes:
        kind: "svm": K one-against-all SVMs, each with a sigmoid that makes a probability of its margin; "softmax":
            K + 1 logits.
        grid: cells a side of the map that box regression sees; 0 for a head without regression.
        shared: one regression for all classes, in place of one for each.
        overlap: cells a side of the map that the overlap is predicted from; 0 for a head that does not predict it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: HeadKind
    grid: int = Field(default=3, ge=0, le=14)
    shared: bool = False
    overlap: int = Field(default=0, ge=0, le=14)


class HeadLogits(NamedTuple):
    """A head's outputs before their links: ``classes`` ``(N, K + 1)`` (``(N, K)`` margins of SVMs), and of a head
    that has them ``deltas`` ``(N, 1 or K, 4)`` and ``overlap`` ``(N,)``; of a network that proposes, ``proposed``.
    """

    classes: Tensor
    deltas: Tensor | None = None
    overlap: Tensor | None = None
    proposed: MultiBoxOutput | None = None


class RegionOutput(NamedTuple):
    """Probabilities ``(N, K + 1)``; deltas ``(N, K, 4)`` and overlaps ``(N,)`` from a head that has them."""

    probs: Tensor
    deltas: Tensor | None = None
    overlap: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> RegionOutput:
        """The output with ``change`` done to everything that is there."""
        deltas, overlap = (None if table is None else change(table) for table in (self.deltas, self.overlap))
        return RegionOutput(change(self.probs), deltas, overlap)


def stacked(outputs: Sequence[RegionOutput]) -> RegionOutput:
    """One output for the rows of all of them."""
    probs, deltas, overlaps = (None if parts[0] is None else torch.cat(parts) for parts in zip(*outputs, strict=True))
    assert probs is not None
    return RegionOutput(probs, deltas, overlaps)


def pooled_features(feature_map: Tensor) -> Tensor:
    """``(N, C, H, W)`` -> ``(N, C)``."""
    return feature_map.mean((2, 3))


def grid_features(feature_map: Tensor, grid: int) -> Tensor:
    """``(N, C, H, W)`` -> ``(N, C * grid * grid)``."""
    return torch.flatten(F.adaptive_avg_pool2d(feature_map, grid), 1)


class RegionHead(nn.Module):
    """The head of ``shape`` for ``num_classes`` classes on a trunk of ``num_features`` channels.

    Margins become probabilities by ``sigmoid(slope * margin + offset)``, class by class, so that the order within a
    class is the margins'. They need not add up to 1; the background's is what the likeliest class leaves.
    """

    slope: Tensor
    offset: Tensor

    def __init__(self, shape: HeadShape, num_classes: int, num_features: int) -> None:
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        self.classify = nn.Linear(num_features, num_classes + (shape.kind == "softmax"))
        if shape.kind == "svm":
            self.register_buffer("slope", torch.ones(num_classes))
            self.register_buffer("offset", torch.zeros(num_classes))
        self.moves = 1 if shape.shared else num_classes
        self.regress = nn.Linear(num_features * shape.grid**2, 4 * self.moves) if shape.grid else None
        self.judge = nn.Linear(num_features * shape.overlap**2, 1) if shape.overlap else None

    def _linked(self, scores: Tensor) -> Tensor:
        if self.shape.kind == "softmax":
            return torch.softmax(scores, 1)
        classes = torch.sigmoid(self.slope * scores + self.offset)
        return torch.cat([classes, 1 - classes.amax(1, keepdim=True)], 1)

    def logits(self, feature_map: Tensor, dropout: Callable[[Tensor], Tensor] = lambda x: x) -> HeadLogits:
        """The outputs before their links; ``dropout`` is done to what the classes are scored on."""
        deltas = overlap = None
        grids = {cells: grid_features(feature_map, cells) for cells in {self.shape.grid, self.shape.overlap} - {0}}
        if self.regress is not None:
            deltas = self.regress(grids[self.shape.grid]).view(-1, self.moves, 4)
        if self.judge is not None:
            overlap = self.judge(grids[self.shape.overlap]).flatten()
        return HeadLogits(self.classify(dropout(pooled_features(feature_map))), deltas, overlap)

    def forward(self, feature_map: Tensor) -> RegionOutput:
        classes, deltas, overlap, _ = self.logits(feature_map)
        if deltas is not None:
            deltas = deltas.expand(-1, self.num_classes, 4)
        if overlap is not None:
            overlap = overlap.sigmoid()
        return RegionOutput(self._linked(classes), deltas, overlap)
