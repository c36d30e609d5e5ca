"""The networks against Table 1 of the paper and against torchvision's class."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from detector.nets.googlenet import (
    TABLE_1,
    GoogLeNet,
    GoogLeNetConfig,
    Logits,
    ResponseNorm,
    paper_config,
    torchvision_config,
)

# Weights without biases and millions of multiply-adds at 224 pixels, from the filter counts of Table 1.
LAYERS = (
    ("conv1", 9_408, 118.0), ("conv2", 4_096, 12.8), ("conv3", 110_592, 346.8), ("inception3a", 163_328, 128.0),
    ("inception3b", 388_096, 304.3), ("inception4a", 375_552, 73.6), ("inception4b", 448_512, 87.9),
    ("inception4c", 509_440, 99.9), ("inception4d", 604_672, 118.5), ("inception4e", 867_328, 170.0),
    ("inception5a", 1_042_432, 51.1), ("inception5b", 1_442_816, 70.7), ("fc", 1_024_000, 1.0),
)  # fmt: skip
WEIGHTS = {name: count for name, count, _ in LAYERS}
MULTIPLY_ADDS = {name: millions for name, _, millions in LAYERS}
SIDES = {"conv1": 112, "conv2": 56, "conv3": 56, "3a": 28, "3b": 28, "4a": 14, "4e": 14, "5a": 7, "5b": 7}


@pytest.fixture(scope="module")
def paper() -> GoogLeNet:
    return GoogLeNet(paper_config()).eval()


def weights_of(module: nn.Module) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if name.endswith("weight"))


def parameters_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def count_multiply_adds(net: GoogLeNet, side: int) -> tuple[dict[str, float], dict[str, tuple[int, ...]]]:
    """Multiply-adds in millions and output shapes of each child of ``net`` for one image."""
    work = dict.fromkeys((name for name, _ in net.named_children()), 0.0)
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for child_name, child in net.named_children():
        handles.append(child.register_forward_hook(lambda m, i, o, n=child_name: shapes.__setitem__(n, tuple(o.shape))))
        for module in child.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):

                def add(m: nn.Module, i: tuple[Tensor], o: Tensor, n: str = child_name) -> None:
                    per_output = m.weight[0].numel()  # type: ignore[index]
                    work[n] += per_output * o.numel() / 1e6

                handles.append(module.register_forward_hook(add))
    with torch.inference_mode():
        net(torch.zeros(1, 3, side, side))
    for handle in handles:
        handle.remove()
    return work, shapes


def test_paper_parameters_per_module(paper: GoogLeNet) -> None:
    assert {name: weights_of(paper.get_submodule(name)) for name in WEIGHTS} == WEIGHTS


def test_paper_parameters_in_total(paper: GoogLeNet) -> None:
    heads = [parameters_of(paper.aux1), parameters_of(paper.aux2)]  # type: ignore[arg-type]
    assert heads == [3_188_840, 3_190_888]
    assert parameters_of(paper) - sum(heads) == 6_998_552
    assert sum(WEIGHTS.values()) == 6_990_272


def test_paper_multiply_adds(paper: GoogLeNet) -> None:
    work, shapes = count_multiply_adds(paper, 224)
    assert {name: round(work[name], 1) for name in MULTIPLY_ADDS} == MULTIPLY_ADDS
    assert round(sum(work.values()), 1) == 1_582.7
    for name, side in SIDES.items():
        assert shapes[name if name.startswith("conv") else f"inception{name}"][2:] == (side, side)
    assert shapes["inception5b"][1] == 1024


def test_paper_has_true_5x5_lrn_and_dropout(paper: GoogLeNet) -> None:
    for name in TABLE_1:
        assert paper.get_submodule(f"inception{name}.branch3.1.conv").kernel_size == (5, 5)  # type: ignore[comparison-overlap]
    assert isinstance(paper.norm1, ResponseNorm)
    assert isinstance(paper.norm2, ResponseNorm)
    assert (paper.dropout.p, paper.aux1.dropout.p) == (0.4, 0.7)  # type: ignore[union-attr]


@pytest.mark.parametrize("channels", [3, 64, 192])
def test_response_normalisation_is_pytorchs(channels: int) -> None:
    x = torch.randn(2, channels, 5, 7, generator=torch.Generator().manual_seed(1)) * 300
    theirs = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)  # it divides alpha by the size, as Caffe does
    torch.testing.assert_close(ResponseNorm(channels)(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert not ResponseNorm(channels).state_dict()


def test_response_normalisation_in_half_precision() -> None:
    x = torch.rand(1, 64, 3, 3, generator=torch.Generator().manual_seed(1)) * 5000  # its squares are beyond float16
    torch.testing.assert_close(ResponseNorm(64).half()(x.half()).float(), ResponseNorm(64)(x), rtol=5e-3, atol=0)


def test_paper_trains_with_auxiliary_heads(paper: GoogLeNet) -> None:
    net = GoogLeNet(paper_config(21))
    output = net(torch.randn(2, 3, 224, 224))
    assert isinstance(output, Logits)
    assert [tuple(o.shape) for o in output] == [(2, 21)] * 3
    assert net.eval()(torch.randn(1, 3, 224, 224)).shape == (1, 21)


def test_auxiliary_heads_say_what_they_need() -> None:
    net = GoogLeNet(paper_config(5))
    with pytest.raises(ValueError, match="aux_pool: adaptive"):
        net(torch.randn(1, 3, 160, 160))
    adaptive = GoogLeNet(GoogLeNetConfig(num_outputs=5, norm="batch", width=0.25, aux=True, aux_pool="adaptive"))
    assert isinstance(adaptive(torch.randn(2, 3, 64, 64)), Logits)


@pytest.fixture(scope="module")
def torchvision_net() -> nn.Module:
    import torchvision

    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces that a default of its own will change
        net = torchvision.models.googlenet(num_classes=37, aux_logits=True, init_weights=False)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that a fresh net lacks
            module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    return net.eval()


@pytest.mark.parametrize("transform_input", [False, True])
@pytest.mark.parametrize("side", [224, 163])
def test_torchvisions_weights_give_torchvisions_outputs(
    torchvision_net: nn.Module, transform_input: bool, side: int
) -> None:
    torchvision_net.transform_input = transform_input
    ours = GoogLeNet(torchvision_config(37, aux=True, transform_input=transform_input)).eval()
    ours.load_state_dict(torchvision_net.state_dict())
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), torchvision_net(x), atol=1e-5, rtol=1e-5)


def test_torchvisions_auxiliary_heads_agree(torchvision_net: nn.Module) -> None:
    ours = GoogLeNet(torchvision_config(37, aux=True)).eval()
    ours.load_state_dict(torchvision_net.state_dict())
    x = torch.randn(2, 512, 14, 14, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        torch.testing.assert_close(ours.aux1(x), torchvision_net.aux1(x), atol=1e-5, rtol=1e-5)  # type: ignore[misc, operator]


@pytest.mark.parametrize(
    ("stem", "side"),
    [("stride8", 2), ("stride4", 4), ("stride2", 8)],
    ids=["the paper's", "no first pooling", "no first stride either"],
)
def test_stems_set_the_size_of_the_last_map(stem: str, side: int) -> None:
    net = GoogLeNet(GoogLeNetConfig(num_outputs=11, norm="batch", width=0.25, stem=stem)).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        assert net.trunk(torch.zeros(1, 3, 64, 64)).shape == (1, net.num_features, side, side)
        assert net(torch.zeros(3, 3, 64, 64)).shape == (3, 11)


def test_width_scales_channels_in_steps_of_8() -> None:
    config = GoogLeNetConfig(width=0.5)
    assert config.inception("3a") == (32, 48, 64, 8, 16, 16)
    assert GoogLeNetConfig(width=1.0).inception("4d") == TABLE_1["4d"]
    assert GoogLeNetConfig(width=0.01).channels(192) == 8


@pytest.mark.parametrize("channels_last", [False, True])
def test_folding_keeps_the_outputs(channels_last: bool) -> None:
    torch.manual_seed(6)
    net = GoogLeNet(GoogLeNetConfig(num_outputs=9, norm="batch", width=0.25, stem="stride4"))
    net(torch.randn(16, 3, 32, 32))  # moves the running statistics away from their start
    net.eval()
    x = torch.randn(4, 3, 32, 32)
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        before = net(x)
        folded = net.fold_normalization()
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
        torch.testing.assert_close(folded(x), before, atol=1e-4, rtol=1e-4)


def test_folding_refuses_a_net_in_training() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        GoogLeNet(GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1)).train().fold_normalization()


def test_features_feed_the_last_layer() -> None:
    net = GoogLeNet(GoogLeNetConfig(num_outputs=7, norm="batch", width=0.25)).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(net.fc(net.features(x)), net(x))
