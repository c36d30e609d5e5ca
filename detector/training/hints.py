"""Hints: while a network learns a teacher's answers, a linear layer on its features learns the teacher's features.

Romero et al., FitNets: hints for thin deep nets (ICLR 2015), with the features that the last layers classify as the
hint, and all of the training as the one stage. The layer is left behind when the run ends.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Logits

GUESS = "guess"
SPREAD = 0.05  # added to a feature's deviation over the batch: one that is the same for all crops teaches nothing


@runtime_checkable
class HintingTeacher(Protocol):
    """A teacher that can say what it sees, beside what it would name it."""

    num_features: int

    def name_and_describe(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """What ``name_crops`` says, and the features ``(B, num_features)`` float32 on the CPU that it says it by."""
        ...


class Hinted(NamedTuple):
    """What a net says of crops in training, and its guess ``(B, num_features)`` of the teacher's features."""

    said: Tensor | Logits
    guess: Tensor


class HintedGoogLeNet(GoogLeNet):
    """A GoogLeNet that guesses features of its teacher while it trains; in evaluation it is a GoogLeNet like any other.

    Args:
        features: how many features the teacher has.
    """

    def __init__(self, config: GoogLeNetConfig, features: int) -> None:
        super().__init__(config)
        self.guess = nn.Linear(self.num_features, features)

    def forward(self, x: Tensor) -> Tensor | Logits | Hinted:  # type: ignore[override]
        """Logits as those of the base class; :class:`Hinted` in training."""
        if not self.training:
            return super().forward(x)
        taps: dict[str, Tensor] = {}
        features = self.features(x, taps)
        return Hinted(self.answer(features, taps), self.guess(features))

    def without_guess(self) -> GoogLeNet:
        """A GoogLeNet of the same weights, in evaluation mode."""
        net = GoogLeNet(self.config).to(next(self.parameters()).device)
        net.load_state_dict({n: t for n, t in self.state_dict().items() if not n.startswith(f"{GUESS}.")})
        return net.eval()


def answer_of(output: Tensor | Logits | Hinted) -> Tensor | Logits:
    """What a net says of crops, without its guess."""
    return output.said if isinstance(output, Hinted) else output


def hint_loss(guess: Tensor, features: Tensor, seen: Tensor) -> Tensor:
    """Mean squared distance of ``guess`` ``(B, D)`` from ``features`` ``(B, D)``, standardised over the batch.

    ``seen`` ``(B,)`` bool: the crops that count.
    """
    told = features[seen]
    with torch.no_grad():
        told = (told - told.mean(0)) / (told.std(0, correction=0) + SPREAD)
    return F.mse_loss(guess[seen].float(), told)
