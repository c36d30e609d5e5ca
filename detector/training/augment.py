"""What a training crop goes through before it enters the net."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class AugmentConfig(BaseModel):
    """Random changes to training crops.

    Attributes:
        mirror: probability of a left-right mirror image.
        brightness, contrast, saturation: factors are drawn from 1 -/+ this (Howard 2013, as GoogLeNet's section 6).
        hue_shift: grey levels added to each channel on its own, normal with this deviation.
        random_interpolation: bilinear, area, nearest and cubic with equal odds (GoogLeNet, section 6).
        grey: probability that a crop loses its colours, so that shape and texture must do.
        sharpness: what smoothing takes away is multiplied by a factor drawn from 1 -/+ this: 0 would smooth the crop, 2
            sharpens it. Photographs are smoother than small pictures, and a net can take that for background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: float = Field(default=0.5, ge=0, le=1)
    brightness: float = Field(default=0.3, ge=0, lt=1)
    contrast: float = Field(default=0.3, ge=0, lt=1)
    saturation: float = Field(default=0.3, ge=0, lt=1)
    hue_shift: float = Field(default=5.0, ge=0)
    random_interpolation: bool = True
    grey: float = Field(default=0.0, ge=0, le=1)
    sharpness: float = Field(default=0.0, ge=0, le=1)


class Distortion(NamedTuple):
    """Amounts for each of N crops: factors ``(N, 1, 1, 1)`` and grey levels ``(N, 3, 1, 1)`` to add.

    ``sharpness`` is ``None`` where no crop's is changed.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    shift: Tensor
    sharpness: Tensor | None = None

    def part(self, part: slice) -> Distortion:
        """The amounts of some of the crops."""
        return Distortion(*(None if amount is None else amount[part] for amount in self))  # type: ignore[arg-type]


def draw_distortion(n: int, config: AugmentConfig, generator: torch.Generator) -> Distortion:
    """Random amounts for ``n`` crops."""

    def factor(amount: float) -> Tensor:
        return (1 + amount * (2 * torch.rand(n, generator=generator) - 1)).view(n, 1, 1, 1)

    saturation, contrast, brightness = factor(config.saturation), factor(config.contrast), factor(config.brightness)
    shift = config.hue_shift * torch.randn(n, 3, generator=generator).view(n, 3, 1, 1)
    if config.grey:
        grey = (torch.rand(n, generator=generator) < config.grey).view(n, 1, 1, 1)
        saturation, shift = saturation.masked_fill(grey, 0.0), shift.masked_fill(grey, 0.0)
    sharpness = factor(config.sharpness) if config.sharpness else None
    return Distortion(brightness, contrast, saturation, shift, sharpness)


def apply_distortion(crops: Tensor, amounts: Distortion) -> Tensor:
    """Crops ``(N, 3, S, S)`` uint8 -> float32 0..255 with other sharpness, contrast, light and colour."""
    x = crops.float()
    if amounts.sharpness is not None:
        x = torch.lerp(smoothed(x), x, amounts.sharpness)
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, amounts.saturation)
    x = torch.lerp(grey.mean((2, 3), keepdim=True), x, amounts.contrast)
    x = x * amounts.brightness + amounts.shift
    return x.clamp_(0, 255)


def smoothed(x: Tensor) -> Tensor:
    """``(N, 3, S, S)`` after a binomial filter of five taps each way (deviation: one pixel); the border is repeated."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    row = taps.view(1, 1, 1, 5).expand(x.shape[1], 1, 1, 5)
    x = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), row, groups=x.shape[1])
    return F.conv2d(x, row.transpose(2, 3), groups=x.shape[1])
