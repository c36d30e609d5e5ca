"""EfficientNet-Lite0, as a teacher: what a region classifier learns from need not be a GoogLeNet.

Tan and Le, EfficientNet (2019), in the published variant without squeeze-and-excitation and with ReLU6. Batch
normalisation is folded into the convolutions: the weights come from elsewhere and are only tuned here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from proposals.errors import UserError

STEM, FEATURES = 32, 1280
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel, stride, channels and repeats of the blocks (paper, Table 1; B0 and Lite0 are alike in these)."""
EPSILON = 1e-3  # of the batch normalisation that is folded
MULTIPLE = 32  # of the input's side: padding is that of even maps


class EfficientNetLiteConfig(BaseModel):
    """An EfficientNet-Lite0.

    Attributes:
        kind: of trunk, see :mod:`detector.nets.trunks`.
        num_outputs: K + 1. size: crops are resized to this side, a multiple of 32, before they enter.
        dropout: before the last layer, in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["efficientnet_lite"] = "efficientnet_lite"
    num_outputs: int = Field(ge=1, le=1_000_000)
    size: int = Field(default=96, ge=MULTIPLE, le=1024, multiple_of=MULTIPLE)
    dropout: float = Field(default=0.2, ge=0, lt=1)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of frozen weights; its gradient is a convolution too, which the CPU does far faster."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride = x.shape, stride
        return F.conv2d(x, weight, bias, stride, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        height, width = ctx.shape[2:]
        if ctx.stride > 1:
            spread = grad.new_zeros(*grad.shape[:2], *(ctx.stride * (side - 1) + 1 for side in grad.shape[2:]))
            spread = spread.contiguous(memory_format=torch.channels_last)
            spread[:, :, :: ctx.stride, :: ctx.stride] = grad
            grad = spread
        kernel = weight.shape[-1]
        back = F.conv2d(grad, weight.flip(2, 3), None, 1, kernel - 1, groups=len(weight))
        return F.pad(back, (0, width - back.shape[3], 0, height - back.shape[2])), None, None, None


def _same(kernel: int, stride: int) -> tuple[int, int, int, int]:
    """TensorFlow's padding of an even map: what is odd goes to the right and the bottom."""
    before, after = (kernel - stride) // 2, kernel - stride - (kernel - stride) // 2
    return before, after, before, after


class Depthwise(nn.Module):
    """``(N, C, H, W)`` to ``(N, C, H / stride, W / stride)``; its weights are never trained."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, _same(kernel, stride)
        self.register_buffer("weight", torch.zeros(channels, 1, kernel, kernel))
        self.register_buffer("bias", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        y: Tensor = _Depthwise.apply(F.pad(x, self.padding), weight, bias, self.stride)
        return y


class Block(nn.Module):
    """An inverted residual: widened by a 1x1 convolution, filtered by channel, narrowed again."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = nn.Conv2d(inputs, inner, 1) if expansion != 1 else None
        self.depthwise = Depthwise(inner, kernel, stride)
        self.project = nn.Conv2d(inner, outputs, 1)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        narrow: Tensor = self.project(F.relu6(self.depthwise(y)))
        return x + narrow if self.shortcut else narrow


class EfficientNetLite(nn.Module):
    """Logits ``(N, num_outputs)`` of normalised crops ``(N, 3, S, S)``, float32 and of any size."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__()
        self.config, self.num_features = config, FEATURES
        self.stem = nn.Conv2d(3, STEM, 3, 2)
        blocks, inputs = [], STEM
        for expansion, kernel, stride, outputs, repeats in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(inputs, outputs, expansion, kernel, stride if repeat == 0 else 1))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(inputs, FEATURES, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(FEATURES, config.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.fc(self.dropout(self.features(x)))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """What the last layer classifies, ``(N, 1280)``, of the same."""
        return self.trunk(x).mean((2, 3))

    def trunk(self, x: Tensor) -> Tensor:
        """The network without its last layer: the same to ``(N, 1280, size / 32, size / 32)``."""
        size = (self.config.size, self.config.size)
        if x.shape[2:] != size:
            lowest, highest = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
            x = F.interpolate(x, size=size, mode="bicubic", align_corners=False).clamp(lowest, highest)
        x = F.relu6(self.stem(F.pad(x, _same(3, 2)).to(self.stem.weight.dtype)))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x))

    def fold_normalization(self) -> EfficientNetLite:
        """Itself: batch normalisation is folded already."""
        return self


class EfficientNetLiteTrunk(EfficientNetLite):
    """The trunk alone: normalised crops to ``(N, 1280, size / 32, size / 32)``."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        del self.fc, self.dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)


def folded_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of an :class:`EfficientNetLite` from the names of the PyTorch port of the published weights.

    Raises:
        UserError: something is missing; they are not of this network.
    """

    def fold(conv: str, norm: str) -> tuple[Tensor, Tensor]:
        weight, bias, mean, variance = (
            published[f"{norm}.{n}"] for n in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / torch.sqrt(variance + EPSILON)
        return published[f"{conv}.weight"] * scale.view(-1, 1, 1, 1), bias - mean * scale

    state: dict[str, Tensor] = {}
    try:
        pairs = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
        for number in range(sum(stage[4] for stage in STAGES)):
            old, new = f"_blocks.{number}", f"blocks.{number}"
            if number:
                pairs.append((f"{new}.expand", f"{old}._expand_conv", f"{old}._bn0"))
            pairs.append((f"{new}.depthwise", f"{old}._depthwise_conv", f"{old}._bn1"))
            pairs.append((f"{new}.project", f"{old}._project_conv", f"{old}._bn2"))
        for new, conv, norm in pairs:
            state[f"{new}.weight"], state[f"{new}.bias"] = fold(conv, norm)
        state["fc.weight"], state["fc.bias"] = published["_fc.weight"], published["_fc.bias"]
    except KeyError as missing:
        raise UserError(f"not the weights of EfficientNet-Lite0: {missing} is missing") from None
    return state
