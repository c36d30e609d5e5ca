"""MultiBox: a network that proposes boxes for the whole image at once.

Glossary: N images, K priors, C channels of the trunk's last map, G cells along a side of it, S pixels of input.
    trunk       (N, 3, S, S) -> (N, C, G, G); any module, passed in
    locations   (N, K, 4) boxes relative to the input, ``x1 y1 x2 y2``: prior + deviation * output
    logits      (N, K); sigmoid(logit) is the confidence that the prior has an object

Two heads: "global" is fully connected over k-means priors (Erhan et al., Scalable Object Detection using Deep Neural
Networks, CVPR 2014); "convolutional" has 11 priors in each cell of grids of 8x8, 6x6, 4x4, 3x3 and 2x2 cells and one
for the whole image (Szegedy et al., Scalable, High-Quality Object Detection, 2014). The latter needs a last map of 8x8.
The side of the input is chosen so that the trunk gives one: 256 pixels for a trunk that shrinks by 32, 128 for one by
16. Pooling a map of another size to 8x8 would blur cells into one another, and a cell would not see what its priors
lie on.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from proposals.errors import UserError
from proposals.priors import GRIDS, SHAPES_PER_CELL, Priors

NORM_EPS = 1e-3
CONVOLUTIONAL_PRIORS = sum(cells * cells * SHAPES_PER_CELL for cells in GRIDS if cells > 1) + 1


class MultiBoxConfig(BaseModel):
    """The network beside its trunk and its priors.

    Attributes:
        head: "global" or "convolutional"; see the module.
        input_size: S; whole images are squashed to S x S.
        reduced: channels that the global head keeps of the trunk's map before it is flattened.
        hidden: units of the global head's hidden layer. dropout: before its last layers.
        coarse: channels that the convolutional head keeps of the trunk's map for its grids of 4x4 cells and fewer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: Literal["global", "convolutional"] = "global"
    input_size: int = Field(default=128, ge=8, le=1024)
    reduced: int = Field(default=32, ge=1, le=4096)
    hidden: int = Field(default=256, ge=1, le=65536)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    coarse: int = Field(default=256, ge=1, le=4096)


class MultiBoxOutput(NamedTuple):
    """``locations`` (N, K, 4) relative to the input; ``logits`` (N, K)."""

    locations: Tensor
    logits: Tensor


def _unit(channels: int, out: int, kernel: int, *, stride: int = 1, padding: int | None = None) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; "same" padding unless told."""
    pad = kernel // 2 if padding is None else padding
    conv = nn.Conv2d(channels, out, kernel, stride, pad, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out, eps=NORM_EPS), nn.ReLU(inplace=True))


class GlobalHead(nn.Module):
    """The fully connected head: ``(N, C, G, G)`` -> outputs ``(N, K, 4)`` and logits ``(N, K)``."""

    def __init__(self, channels: int, cells: int, priors: int, config: MultiBoxConfig) -> None:
        super().__init__()
        self.reduce = _unit(channels, config.reduced, 1)
        self.hidden = nn.Linear(config.reduced * cells * cells, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.location = nn.Linear(config.hidden, 4 * priors)
        self.confidence = nn.Linear(config.hidden, priors)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.flatten(self.reduce(x), 1)  # (N, reduced * G * G)
        x = self.dropout(F.relu(self.hidden(x), inplace=True))  # (N, hidden)
        return self.location(x).unflatten(1, (-1, 4)), self.confidence(x)


class ConvolutionalHead(nn.Module):
    """The head over six grids: ``(N, C, 8, 8)`` -> outputs ``(N, 1420, 4)`` and logits ``(N, 1420)``.

    The order of the priors is that of :func:`proposals.priors.grid_priors`: grid, row, column, shape.
    """

    def __init__(self, channels: int, coarse: int) -> None:
        super().__init__()
        self.to8 = nn.Sequential(_unit(channels, 96, 1), _unit(96, 96, 3))
        self.to6 = nn.Sequential(_unit(channels, 96, 3), _unit(96, 96, 3, padding=0))
        self.shrink = _unit(channels, coarse, 3, stride=2)  # 8x8 -> 4x4, shared by the three that follow
        self.to4 = _unit(coarse, 128, 3)
        self.to3 = nn.Sequential(_unit(coarse, 128, 1), _unit(128, 96, 2, padding=0))
        self.to2 = nn.Sequential(_unit(coarse, 128, 1), _unit(128, 96, 3, padding=0))
        self.to1 = nn.AdaptiveAvgPool2d(1)  # of the trunk's own map
        widths = (96, 96, 128, 96, 96, channels)
        counts = [SHAPES_PER_CELL if cells > 1 else 1 for cells in GRIDS]
        self.location = nn.ModuleList(
            nn.Conv2d(c, 4 * n, 1, bias=False) for c, n in zip(widths, counts, strict=True)
        )  # fmt: skip
        self.confidence = nn.ModuleList(nn.Conv2d(c, n, 1) for c, n in zip(widths, counts, strict=True))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        small = self.shrink(x)
        maps = (self.to8(x), self.to6(x), self.to4(small), self.to3(small), self.to2(small), self.to1(x))
        outputs, logits = [], []
        for grid, location, confidence in zip(maps, self.location, self.confidence, strict=True):
            # (N, 4n, g, g) -> (N, g, g, 4n) -> (N, g * g * n, 4)
            outputs.append(location(grid).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
            logits.append(confidence(grid).permute(0, 2, 3, 1).reshape(len(x), -1))
        return torch.cat(outputs, 1), torch.cat(logits, 1)


class MultiBoxNet(nn.Module):
    """``(N, 3, S, S)`` normalised images -> :class:`MultiBoxOutput`.

    The priors are no part of the state dict: they are a file of their own (:mod:`proposals.priors`).

    Args:
        trunk: a network without head. priors: K of them; the convolutional head needs those of ``grid_priors``.

    Raises:
        UserError: the trunk's map at this input size, or the number of priors, does not fit the head.
    """

    priors: Tensor
    deviation: Tensor

    def __init__(self, trunk: nn.Module, priors: Priors, config: MultiBoxConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.register_buffer("priors", torch.from_numpy(priors.boxes.copy()), persistent=False)
        self.register_buffer("deviation", torch.from_numpy(priors.deviation.copy()), persistent=False)
        channels, height, width = map_shape(trunk, config.input_size)
        if config.head == "convolutional":
            if len(priors) != CONVOLUTIONAL_PRIORS:
                raise UserError(f"the convolutional head has {CONVOLUTIONAL_PRIORS} priors, not {len(priors)}")
            if (height, width) != (GRIDS[0], GRIDS[0]):
                fitting = input_size_for(trunk, GRIDS[0])
                raise UserError(
                    f"the convolutional head needs a map of {GRIDS[0]}x{GRIDS[0]} but the trunk gives {height}x{width} "
                    f"for input_size {config.input_size}: set it to {fitting or 'another, or take another trunk'}"
                )
            self.head: nn.Module = ConvolutionalHead(channels, config.coarse)
        else:
            self.head = GlobalHead(channels, height, len(priors), config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation of the head's layers; last layers small, so that training starts from the priors.

        The confidences start at one object among all priors.
        """
        for module in self.head.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        start = -math.log(max(len(self.priors) - 1, 1))
        for name, module in self.head.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and name.startswith(("location", "confidence")):
                nn.init.normal_(module.weight, std=0.01)
                if name.startswith("confidence"):
                    assert module.bias is not None
                    nn.init.constant_(module.bias, start)

    @property
    def grid(self) -> int:
        """Cells along a side of the finest grid: no image may have a shorter side in pixels."""
        if self.config.head == "convolutional":
            return GRIDS[0]
        head = self.head
        assert isinstance(head, GlobalHead)
        return math.isqrt(head.hidden.in_features // self.config.reduced)

    def decode(self, outputs: Tensor) -> Tensor:
        """Boxes ``(N, K, 4)`` relative to the input from the head's outputs ``(N, K, 4)``."""
        return self.priors + self.deviation * outputs

    def forward(self, x: Tensor) -> MultiBoxOutput:
        outputs, logits = self.head(self.trunk(x))
        return MultiBoxOutput(self.decode(outputs.float()), logits.float())


@torch.no_grad()
def map_shape(trunk: nn.Module, size: int) -> tuple[int, int, int]:
    """Channels, height and width of the trunk's map for an input of ``size`` pixels; leaves the trunk as it was.

    Raises:
        UserError: the input is too small for the trunk, or what it returns is no map.
    """
    was_training = {module: module.training for module in trunk.modules()}
    trunk.eval()
    parameter = next(trunk.parameters(), torch.zeros(0))
    try:
        shape = trunk(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype)).shape
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"MultiBox's trunk does not take an input of {size} pixels ({reason})") from None
    finally:
        for module, training in was_training.items():
            module.training = training
    if len(shape) != 4 or not shape[2] == shape[3]:
        raise UserError(f"MultiBox's trunk should give a square map (N, C, G, G), not {tuple(shape)}")
    return int(shape[1]), int(shape[2]), int(shape[3])


def input_size_for(trunk: nn.Module, cells: int) -> int | None:
    """The input of ``cells`` times a power of 2, which trunks shrink by, whose map has ``cells`` cells on a side."""
    for stride in (1, 2, 4, 8, 16, 32, 64, 128):
        try:
            if map_shape(trunk, cells * stride)[1] == cells:
                return cells * stride
        except UserError:
            continue
    return None
