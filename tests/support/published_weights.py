"""Made-up weights of EfficientNet-Lite0 under the names of the published ones."""

from __future__ import annotations

import torch
from torch import Tensor

from detector.nets.efficientnet_lite import STAGES


def published_weights(outputs: int) -> dict[str, Tensor]:
    """Random weights under the names of the published ones."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def conv(name: str, norm: str, outs: int, ins: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(outs, ins, kernel, kernel, generator=generator) / (ins * kernel**2) ** 0.5
        state[f"{norm}.weight"] = 1 + torch.rand(outs, generator=generator)
        state[f"{norm}.bias"] = torch.randn(outs, generator=generator)
        state[f"{norm}.running_mean"] = torch.randn(outs, generator=generator) / 4
        state[f"{norm}.running_var"] = 0.5 + torch.rand(outs, generator=generator)

    conv("_conv_stem", "_bn0", 32, 3, 3)
    inputs, number = 32, 0
    for expansion, kernel, _, channels, repeats in STAGES:
        for _ in range(repeats):
            block, inner = f"_blocks.{number}", inputs * expansion
            if expansion != 1:
                conv(f"{block}._expand_conv", f"{block}._bn0", inner, inputs, 1)
            conv(f"{block}._depthwise_conv", f"{block}._bn1", inner, 1, kernel)
            conv(f"{block}._project_conv", f"{block}._bn2", channels, inner, 1)
            inputs, number = channels, number + 1
    conv("_conv_head", "_bn1", 1280, inputs, 1)
    state["_fc.weight"] = torch.randn(outputs, 1280, generator=generator) / 36
    state["_fc.bias"] = torch.randn(outputs, generator=generator)
    return state
