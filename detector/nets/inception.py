"""The parts that GoogLeNet is made of: convolution units and Inception modules."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detector.nets.kernels import is_plain

Norm = Literal["none", "batch"]
BATCH_NORM_EPS = 1e-3  # torchvision's GoogLeNet; the batch-normalisation paper gives none


class InceptionChannels(NamedTuple):
    """One row of Table 1 (Going Deeper with Convolutions): output channels of each convolution of a module."""

    n1x1: int
    n3x3_reduce: int
    n3x3: int
    n5x5_reduce: int
    n5x5: int
    pool_proj: int

    @property
    def out(self) -> int:
        """Channels of the concatenated output."""
        return self.n1x1 + self.n3x3 + self.n5x5 + self.pool_proj


class ConvUnit(nn.Module):
    """Convolution, optional batch normalisation, ReLU; "same" padding for odd kernels.

    With batch normalisation the convolution has no bias. ``(N, in, H, W)`` -> ``(N, out, H / stride, W / stride)``.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=norm == "none")
        if norm == "batch":
            self.bn = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)
        self.norm: Norm = norm
        self.relu = nn.ReLU(inplace=True)

    def fold_normalization(self) -> None:
        """Put the normalisation's scale and shift into the convolution; for inference only."""
        if self.norm == "batch":
            self.conv = fuse_conv_bn_eval(self.conv, self.bn)
            del self.bn
            self.norm = "none"

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm == "batch":
            x = self.bn(x)
        return self.relu(x)  # type: ignore[no-any-return]


class Pool(nn.MaxPool2d):
    """Maximum of ``kernel`` x ``kernel`` windows, of values that are never negative; incomplete windows count too.

    Stride 1 has kernel 3 and keeps the shape, ``(N, C, H, W)``; stride 2 is Caffe's, whose sizes round up. Where no
    gradient is needed, on a CPU, each axis takes the maximum of shifted maps. Non-negative numbers are in the order of
    their bits read as integers, which have the faster maximum: bfloat16's takes three times as long.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__(kernel, stride, padding=kernel // 2 if stride == 1 else 0, ceil_mode=True)
        self.kernel, self.step = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        if not is_plain(x):
            return super().forward(x)  # type: ignore[no-any-return]
        bits = x.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])
        for axis in (2, 3):
            bits = self._along(bits, axis)
        return bits.view(x.dtype)

    def _along(self, x: Tensor, axis: int) -> Tensor:
        size = x.shape[axis]
        if self.step == 1:
            pooled, before, behind = x.clone(), (0, size - 1), (1, size - 1)
            for to, of in ((before, behind), (behind, before)):
                part = pooled.narrow(axis, *to)
                torch.maximum(part, x.narrow(axis, *of), out=part)
            return pooled
        count = -(-(size - self.kernel) // 2) + 1
        every_other = (slice(None),) * axis
        pooled = x[(*every_other, slice(0, None, 2))].narrow(axis, 0, count).clone(memory_format=torch.channels_last)
        for start in range(1, self.kernel):
            other = x[(*every_other, slice(start, None, 2))]
            there = min(count, other.shape[axis])
            part = pooled.narrow(axis, 0, there)
            torch.maximum(part, other.narrow(axis, 0, there), out=part)
        return pooled


class Inception(nn.Module):
    """An Inception module with dimension reductions (paper, figure 2b): four branches, concatenated.

    Args:
        kernel5: kernel of the "5x5" branch; 5 as in the paper, 3 as in torchvision's port.

    ``(N, in, H, W)`` -> ``(N, channels.out, H, W)``.
    """

    def __init__(self, in_channels: int, channels: InceptionChannels, *, kernel5: Literal[3, 5], norm: Norm) -> None:
        super().__init__()
        c = channels
        self.branch1 = ConvUnit(in_channels, c.n1x1, 1, norm=norm)
        self.branch2 = nn.Sequential(
            ConvUnit(in_channels, c.n3x3_reduce, 1, norm=norm), ConvUnit(c.n3x3_reduce, c.n3x3, 3, norm=norm)
        )
        self.branch3 = nn.Sequential(
            ConvUnit(in_channels, c.n5x5_reduce, 1, norm=norm), ConvUnit(c.n5x5_reduce, c.n5x5, kernel5, norm=norm)
        )
        self.branch4 = nn.Sequential(Pool(3, 1), ConvUnit(in_channels, c.pool_proj, 1, norm=norm))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)
