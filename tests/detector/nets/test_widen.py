"""A widened network computes what the narrow one did, and its copied channels can part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detector.crop import CropConfig
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.weights import Normalization
from detector.nets.widen import can_widen, widen
from detector.recipes.initialization import initialise
from proposals.errors import UserError


def config(width: float, **changes: Any) -> GoogLeNetConfig:
    given: dict[str, Any] = {"num_outputs": 4, "norm": "batch", "stem": "stride4"} | changes
    return GoogLeNetConfig(width=width, **given)


def trained(config: GoogLeNetConfig, seed: int) -> GoogLeNet:
    """A network whose normalisation is not the identity, in evaluation mode."""
    torch.manual_seed(seed)
    net = GoogLeNet(config)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
            torch.nn.init.normal_(module.running_mean, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    torch.nn.init.normal_(net.fc.weight)
    return net.eval()


def outputs(config: GoogLeNetConfig, state: dict[str, Tensor], crops: Tensor) -> Tensor:
    net = GoogLeNet(config).eval()
    net.load_state_dict(state)
    with torch.inference_mode():
        answer: Tensor = net(crops)
    return answer


@settings(max_examples=12)
@given(
    widths=st.tuples(st.sampled_from([0.05, 0.125, 0.2, 0.25]), st.sampled_from([0.1, 0.3, 0.375, 0.6])),
    kernel5=st.sampled_from([3, 5]),
    stem=st.sampled_from(["stride4", "stride8"]),
    seed=st.integers(0, 1000),
)
def test_outputs_stay_the_same(widths: tuple[float, float], kernel5: int, stem: str, seed: int) -> None:
    narrow, wide = (config(width, kernel5=kernel5, stem=stem) for width in sorted(widths))
    net = trained(narrow, seed)
    crops = torch.randn(2, 3, 48, 48)
    expected = outputs(narrow, net.state_dict(), crops)
    torch.testing.assert_close(
        outputs(wide, widen(net.state_dict(), narrow, wide, seed), crops), expected, atol=1e-4, rtol=1e-4
    )


def test_copies_part_as_soon_as_they_are_trained() -> None:
    narrow, wide = config(0.25), config(0.5)
    state = widen(trained(narrow, 0).state_dict(), narrow, wide)
    net = GoogLeNet(wide)
    net.load_state_dict(state)
    net.train()
    old = narrow.inception("4c").n3x3
    weight = net.inception4c.branch2.get_submodule("1.conv").weight
    assert isinstance(weight, Tensor)
    assert len(weight) == 2 * old
    assert not (weight[:, None] == weight[None]).flatten(2).all(2).triu(1).any()  # their inputs are split differently
    gain = net.inception4c.branch2.get_submodule("1.bn").weight
    assert isinstance(gain, Tensor)
    copies = (gain[:, None] == gain[None]).triu(1)
    assert copies.sum() == old
    torch.nn.functional.cross_entropy(net(torch.randn(4, 3, 48, 48)), torch.arange(4)).backward()
    assert gain.grad is not None
    first, second = copies.nonzero()[0].tolist()
    assert not torch.isclose(gain.grad[first], gain.grad[second], rtol=1e-3)


def test_the_seed_says_which_channels_are_copied() -> None:
    narrow, wide = config(0.25), config(0.375)
    state = trained(narrow, 0).state_dict()
    one, same, other = (widen(state, narrow, wide, seed) for seed in (1, 1, 2))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert not torch.equal(one["conv1.bn.bias"], other["conv1.bn.bias"])


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (config(0.5), config(0.25)),
        (config(0.25, norm="lrn"), config(0.5, norm="lrn")),
        (config(0.25, kernel5=3), config(0.5)),
        (config(0.25, stem="stride8"), config(0.5)),
    ],
    ids=["narrower", "lrn", "kernel5", "stem"],
)
def test_what_cannot_be_widened(narrow: GoogLeNetConfig, wide: GoogLeNetConfig) -> None:
    assert not can_widen(narrow, wide)
    with pytest.raises(ValueError, match="cannot be widened"):
        widen(GoogLeNet(narrow).state_dict(), narrow, wide)


def test_a_recipe_may_begin_from_a_narrower_model(tmp_path: Path) -> None:
    narrow = config(0.125, num_outputs=3)
    source = trained(narrow, 3)
    facts: dict[str, Any] = {"name": "t", "class_names": ("cat", "dog"), "class_keys": ("n1", "n2"), "licence": "MIT"}
    crop = CropConfig(size=32, context_pad=2)
    save_model(tmp_path / "m", [(narrow, source.state_dict(), crop, Normalization())], half=False, **facts)
    crops = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        expected, features = source(crops), source.features(crops)

    same = GoogLeNet(config(0.25, num_outputs=3))
    initialise(same, str(tmp_path / "m"), ("n1", "n2"))
    other = GoogLeNet(config(0.25, num_outputs=8, aux=True, aux_pool="adaptive", dropout=0.4))
    new = other.fc.weight.clone()
    initialise(other, str(tmp_path / "m"), ("n1", "n3"))
    with torch.inference_mode():
        torch.testing.assert_close(same.eval()(crops), expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(other.fc.weight, new)  # other classes: the last layer stays new
        # Every pooled feature of the narrow net is there, and nothing else.
        widened = other.eval().features(crops)
        nearest = (widened[:, :, None] - features[:, None]).abs().amax(0)
        assert nearest.amin(0).max() < 1e-3
        assert nearest.amin(1).max() < 1e-3

    with pytest.raises(UserError, match="another architecture"):
        initialise(GoogLeNet(config(0.05, num_outputs=3)), str(tmp_path / "m"))
