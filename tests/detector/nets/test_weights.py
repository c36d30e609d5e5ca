"""Weights go into a net whole or not at all, and one line says why not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from detector.nets.weights import load_into
from proposals.errors import UserError

GOOD = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"bias": None}, "lacks 'bias'"),
        ({"bias": None, "scale": torch.ones(1)}, "lacks 'bias' (and 1 more fault)"),
        ({"bias": None, "scale": torch.ones(1), "weight": torch.ones(3)}, "lacks 'bias' (and 2 more faults)"),
        ({"scale": torch.ones(1)}, "has an unknown tensor 'scale'"),
        ({"weight": torch.ones(3, 2)}, "has 'weight' of shape (3, 2) where the net has (2, 3)"),
        ({"bias": torch.tensor([0, torch.nan])}, "has values in 'bias' that are not finite"),
    ],
)
def test_the_first_fault_and_how_many_more(change: dict[str, Tensor | None], fault: str) -> None:
    net = nn.Linear(3, 2)
    before = net.weight.detach().clone()
    state = {name: tensor for name, tensor in {**GOOD, **change}.items() if tensor is not None}
    with pytest.raises(UserError) as caught:
        load_into(net, state, "a.safetensors")
    assert str(caught.value) == f"a.safetensors: does not fit the network: it {fault}"
    assert torch.equal(net.weight, before)


def test_weights_that_fit_are_loaded() -> None:
    net = nn.Linear(3, 2)
    load_into(net, GOOD, "a.safetensors")
    assert torch.equal(net.weight, torch.ones(2, 3))
