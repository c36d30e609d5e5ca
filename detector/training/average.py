"""The running mean of a net's weights, and which weights decay."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(
    net: nn.Module, weight_decay: float, heads: tuple[str, ...] = (), head_rate: float = 1.0
) -> list[dict[str, Any]]:
    """Weights with decay; biases and normalisation without.

    Parameters whose names begin with one of ``heads`` form groups of their own, which learn ``head_rate`` times as
    fast as the rest ("scale", which the loop obeys); with a rate of 1 they are like the others.
    """
    groups = []
    for of_head in (False, True) if head_rate != 1 else (None,):
        named = [p for n, p in net.named_parameters() if of_head is None or n.startswith(heads) == of_head]
        scale = {"scale": head_rate} if of_head else {}
        groups.append({"params": [p for p in named if p.ndim > 1], "weight_decay": weight_decay, **scale})
        groups.append({"params": [p for p in named if p.ndim <= 1], "weight_decay": 0.0, **scale})
    return groups


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
