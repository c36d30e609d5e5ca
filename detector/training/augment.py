"""What a training crop goes through before it enters the net."""

from __future__ import annotations

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


def distort(crops: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Photometric distortions: ``(N, 3, S, S)`` uint8 -> float32 0..255, each crop by its own amounts."""
    n = len(crops)

    def factor(amount: float) -> Tensor:
        return (1 + amount * (2 * torch.rand(n, generator=generator) - 1)).view(n, 1, 1, 1)

    x = crops.float()
    saturation, contrast, brightness = factor(config.saturation), factor(config.contrast), factor(config.brightness)
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, saturation)
    x = torch.lerp(grey.mean((2, 3), keepdim=True), x, contrast)
    x = x * brightness + config.hue_shift * torch.randn(n, 3, generator=generator).view(n, 3, 1, 1)
    return x.clamp_(0, 255)
