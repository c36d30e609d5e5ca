"""The running mean of a net's weights, and which weights decay."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay; biases and normalisation without."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


class WeightAverage:
    """Running mean of a net's parameters and normalisation statistics (Polyak averaging, paper section 6)."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: t.detach().clone() for name, t in net.state_dict().items()}

    def update(self, net: nn.Module, step: int) -> None:
        """Move towards the net's present weights; early on faster, so that the start is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            mean = self.state[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
