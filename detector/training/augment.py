"""What a training crop goes through before it enters the net."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class AugmentConfig(BaseModel):
    """Random changes to training crops.

    Attributes:
        mirror: probability of a left-right mirror image.
        brightness, contrast, saturation: factors are drawn from 1 -/+ this (Howard 2013, as GoogLeNet's section 6).
        hue_shift: grey levels added to each channel on its own, normal with this deviation.
        random_interpolation: bilinear, area, nearest and cubic with equal odds (GoogLeNet, section 6).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: float = Field(default=0.5, ge=0, le=1)
    brightness: float = Field(default=0.3, ge=0, lt=1)
    contrast: float = Field(default=0.3, ge=0, lt=1)
    saturation: float = Field(default=0.3, ge=0, lt=1)
    hue_shift: float = Field(default=5.0, ge=0)
    random_interpolation: bool = True


class Distortion(NamedTuple):
    """Amounts for each of N crops: factors ``(N, 1, 1, 1)`` and grey levels ``(N, 3, 1, 1)`` to add."""

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    shift: Tensor

    def part(self, part: slice) -> Distortion:
        """The amounts of some of the crops."""
        return Distortion(*(amount[part] for amount in self))


def draw_distortion(n: int, config: AugmentConfig, generator: torch.Generator) -> Distortion:
    """Random amounts for ``n`` crops."""

    def factor(amount: float) -> Tensor:
        return (1 + amount * (2 * torch.rand(n, generator=generator) - 1)).view(n, 1, 1, 1)

    saturation, contrast, brightness = factor(config.saturation), factor(config.contrast), factor(config.brightness)
    shift = config.hue_shift * torch.randn(n, 3, generator=generator).view(n, 3, 1, 1)
    return Distortion(brightness, contrast, saturation, shift)


def apply_distortion(crops: Tensor, amounts: Distortion) -> Tensor:
    """Crops ``(N, 3, S, S)`` uint8 -> float32 0..255 with other contrast, light and colour."""
    x = crops.float()
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, amounts.saturation)
    x = torch.lerp(grey.mean((2, 3), keepdim=True), x, amounts.contrast)
    x = x * amounts.brightness + amounts.shift
    return x.clamp_(0, 255)
