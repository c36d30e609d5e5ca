"""MultiBox: a network's maps of an image propose boxes, each moved from a prior, with the confidence that it is good.

Erhan et al. (Scalable Object Detection using Deep Neural Networks, CVPR 2014) predict a set of boxes and confidences
for the whole image; Szegedy et al. (Scalable, High-Quality Object Detection, 2014) do so convolutionally, from priors
in the cells of grids; Liu et al. (SSD: Single Shot MultiBox Detector, ECCV 2016) from the maps of several scales. Here
the maps are those that regions are pooled from, so that a network which classifies regions proposes them as well.

Glossary: N images of one size, L levels (scales of an image, 0 the largest), K priors of all levels, C channels.
    maps    L tensors (N, C, h_l, w_l)
    priors  (K, 4) x1 y1 x2 y2 in pixels of level 0: level, row, column, size, aspect
    deltas  (N, K, 4) tx ty tw th from a prior to its box, see :func:`proposals.boxes.encode`
    logits  (N, K); sigmoid(logit) is the confidence: the IoU that the box is expected to have with an object
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from proposals.boxes import clip, decode, is_valid, nms
from proposals.types import Proposals, Source

# What tx ty tw th of a matched prior deviate by, of which the outputs are multiples (SSD's "variances").
DEVIATION = (0.1, 0.1, 0.2, 0.2)
FIRST_LOGIT = -4.0  # of an untrained head: most priors lie on nothing (RetinaNet, section 4.1)
NORM_GROUPS = 8


class MultiBoxConfig(BaseModel):
    """The head, and its priors.

    Attributes:
        smallest: root of the smallest priors' area, in pixels of level 0. ratio, count: so many sizes, each so many
            times the one before. aspects: width / height of the priors of each size.
        channels: of the layer before the last one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    ratio: float = Field(default=1.5, gt=1, le=4)
    count: int = Field(default=8, ge=1, le=32)
    aspects: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=(0.5, 1.0, 2.0), min_length=1
    )
    channels: int = Field(default=128, ge=NORM_GROUPS, le=4096, multiple_of=NORM_GROUPS)

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Roots ``(count,)`` of the priors' areas."""
        return np.asarray(self.smallest * self.ratio ** np.arange(self.count), np.float64)


class MultiBoxProposalConfig(BaseModel):
    """How boxes become proposals.

    Attributes:
        candidates: the boxes of the best so many priors are looked at. nms_threshold: of two boxes with a greater IoU
            the better stays. keep: the best so many of what is left.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(default=3000, ge=1)
    nms_threshold: float = Field(default=0.7, gt=0, le=1)
    keep: int = Field(default=300, ge=1)


class LevelGrid(NamedTuple):
    """The cells of a level's map: their number, and the centre of the first and the step, in pixels of level 0."""

    height: int
    width: int
    first: tuple[float, float]
    step: tuple[float, float]
    """Both (down, across)."""


class MultiBoxOutput(NamedTuple):
    """``deltas`` (N, K, 4) and ``logits`` (N, K) of ``priors`` (K, 4)."""

    deltas: Tensor
    logits: Tensor
    priors: Tensor


def grid_priors(
    sizes_by_level: Sequence[NDArray[np.float64]], aspects: Sequence[float], grids: Sequence[LevelGrid]
) -> NDArray[np.float32]:
    """The priors ``(K, 4)``: every size of a level, in every aspect, around the centre of each of its cells."""
    found = [np.zeros((0, 4))]
    for sizes, grid in zip(sizes_by_level, grids, strict=True):
        roots = np.sqrt(aspects)
        shapes = np.stack([np.outer(sizes, roots), np.outer(sizes, 1 / roots)], axis=2).reshape(-1, 2)  # (A, 2) w, h
        down = grid.first[0] + grid.step[0] * np.arange(grid.height)
        across = grid.first[1] + grid.step[1] * np.arange(grid.width)
        centres = np.stack(np.broadcast_arrays(across[None, :], down[:, None]), axis=2)[:, :, None]  # (h, w, 1, 2)
        found.append(np.concatenate([centres - shapes / 2, centres + shapes / 2], axis=3).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


class MultiBoxHead(nn.Module):
    """Maps of L levels -> deltas ``(N, K, 4)`` and logits ``(N, K)``.

    Args:
        in_channels: of the maps. sizes: of each level's priors, none of some.

    A 3x3 convolution that all levels share, then a 1x1 convolution of each level's own. Groups are normalised, not
    batches, so that an image's boxes do not depend on the others.
    """

    deviation: Tensor

    def __init__(self, in_channels: int, sizes: Sequence[NDArray[np.float64]], config: MultiBoxConfig) -> None:
        super().__init__()
        self.config, self.sizes = config, tuple(sizes)
        self.shared = nn.Conv2d(in_channels, config.channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(NORM_GROUPS, config.channels)
        channels = config.channels
        self.move, self.judge = nn.ModuleDict(), nn.ModuleDict()  # by level; none of a level without priors
        nn.init.kaiming_normal_(self.shared.weight, mode="fan_out", nonlinearity="relu")
        for level, own in enumerate(self.sizes):
            shapes = len(own) * len(config.aspects)
            if shapes:
                self.move[str(level)] = _small(nn.Conv2d(channels, 4 * shapes, 1), 0.0)
                self.judge[str(level)] = _small(nn.Conv2d(channels, shapes, 1), FIRST_LOGIT)
        self.register_buffer("deviation", torch.tensor(DEVIATION), persistent=False)

    def alike(self, other: MultiBoxHead) -> bool:
        """Whether its weights mean the same in ``other``: of the same architecture, for the same priors."""
        return (
            self.config == other.config
            and self.shared.in_channels == other.shared.in_channels
            and [each.tolist() for each in self.sizes] == [each.tolist() for each in other.sizes]
        )

    def priors(self, grids: Sequence[LevelGrid]) -> Tensor:
        """Those of maps with the cells ``grids``, ``(K, 4)``."""
        found = grid_priors(self.sizes, self.config.aspects, grids)
        return torch.from_numpy(found).to(self.deviation.device)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        deltas, logits = [], []
        for level, move in self.move.items():
            x = maps[int(level)]
            y = F.relu(self.norm(self.shared(x))).to(self.deviation.dtype)
            with torch.autocast(x.device.type, enabled=False):  # a short format has too few digits to rank by
                # (N, 4A, h, w) -> (N, h, w, 4A) -> (N, h * w * A, 4)
                deltas.append(move(y).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
                logits.append(self.judge[level](y).permute(0, 2, 3, 1).reshape(len(x), -1))
        return torch.cat(deltas, 1).float() * self.deviation, torch.cat(logits, 1).float()


def _small(layer: nn.Conv2d, bias: float) -> nn.Conv2d:
    """A last layer that begins with nearly the same answer everywhere."""
    assert layer.bias is not None
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, bias)
    return layer


def ranked_boxes(
    output: MultiBoxOutput, scale: tuple[float, float], image_size: tuple[int, int], config: MultiBoxProposalConfig
) -> Proposals:
    """The proposals of an image, best first, from the ``output`` for it alone (N = 1).

    Args:
        scale: pixels of the image in one of level 0, (down, across). image_size: (height, width).
    """
    best = output.logits[0].sort(descending=True, stable=True)
    rows = best.indices[: config.candidates]
    boxes = decode(output.priors[rows].cpu().numpy().astype(np.float64), output.deltas[0, rows].cpu().numpy())
    boxes = clip(boxes * np.array([scale[1], scale[0]] * 2), image_size).astype(np.float32)
    scores = best.values[: config.candidates].sigmoid().cpu().numpy()
    good = is_valid(boxes)
    boxes, scores = boxes[good], scores[good]
    kept = nms(boxes, scores, config.nms_threshold, config.keep)
    return Proposals(boxes[kept], scores[kept], np.full(len(kept), Source.MULTIBOX, np.uint8), image_size)
