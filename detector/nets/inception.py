"""The parts that GoogLeNet is made of: convolution units and Inception modules."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), ConvUnit(in_channels, c.pool_proj, 1, norm=norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)
