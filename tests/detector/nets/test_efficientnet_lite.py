"""The teacher's network: its size, the folded weights against the plain network, its gradient, its padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from published_weights import published_weights
from torch import Tensor

from detector.nets.efficientnet_lite import (
    STAGES,
    Depthwise,
    EfficientNetLite,
    EfficientNetLiteConfig,
    folded_weights,
)
from proposals.errors import UserError


def plain_network(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """TensorFlow's network step by step: "same" padding computed from each map, batch normalisation by itself."""

    def conv(x: Tensor, name: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        pads = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        y = F.conv2d(F.pad(x, pads), weight, None, stride, groups=groups)
        facts = (state[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *facts, eps=1e-3)

    x = conv(x, "_conv_stem", "_bn0", 2).clamp(0, 6)
    number = 0
    for expansion, _, first_stride, channels, repeats in STAGES:
        for repeat in range(repeats):
            block, stride = f"_blocks.{number}", first_stride if repeat == 0 else 1
            y = x if expansion == 1 else conv(x, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
            y = conv(y, f"{block}._depthwise_conv", f"{block}._bn1", stride, y.shape[1]).clamp(0, 6)
            y = conv(y, f"{block}._project_conv", f"{block}._bn2")
            x = x + y if stride == 1 and x.shape[1] == channels else y
            number += 1
    x = conv(x, "_conv_head", "_bn1").clamp(0, 6).mean((2, 3))
    return F.linear(x, state["_fc.weight"], state["_fc.bias"])


@pytest.mark.parametrize("size", [64, 96])
def test_folded_network_is_the_plain_one(size: int) -> None:
    state = published_weights(5)
    net = EfficientNetLite(EfficientNetLiteConfig(num_outputs=5, size=size)).eval()
    net.load_state_dict(folded_weights(state))
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(net(x), plain_network(state, x), rtol=1e-4, atol=1e-4)


def test_parameters_are_lite0s() -> None:
    """4,652,008 with 1,000 outputs, as published, where each normalisation's two become one bias."""
    net = EfficientNetLite(EfficientNetLiteConfig(num_outputs=1000))
    own = sum(t.numel() for t in net.state_dict().values())
    biases = sum(t.numel() for n, t in net.state_dict().items() if n.endswith("bias") and n != "fc.bias")
    assert own + biases == 4_652_008


def test_other_crops_are_resized_and_stay_within_their_range() -> None:
    net = EfficientNetLite(EfficientNetLiteConfig(num_outputs=5, size=64)).eval()
    net.load_state_dict(folded_weights(published_weights(5)))
    seen: list[Tensor] = []
    net.stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    checks = (torch.arange(48) // 3 % 2).float()
    x = (checks[:, None] != checks[None]).float().expand(2, 3, 48, 48) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    with torch.inference_mode():
        net(x)
    assert seen[0].shape == (2, 3, 65, 65)
    assert seen[0].amax((1, 2, 3)).tolist() == [1.0, 3.0]
    assert float(seen[0].min()) == 0


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_gradient_of_a_frozen_depthwise_convolution(kernel: int, stride: int) -> None:
    layer = Depthwise(3, kernel, stride).double()
    torch.nn.init.normal_(layer.weight)
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert not list(layer.parameters())


def test_weights_of_another_network_are_refused() -> None:
    state = published_weights(5)
    del state["_blocks.7._bn1.running_var"]
    with pytest.raises(UserError, match=r"not the weights of EfficientNet-Lite0: '_blocks\.7\._bn1\.running_var'"):
        folded_weights(state)
