"""Inference in whole numbers: activations in eight bits, weights in eight bits, sums in 32 (Jacob et al., CVPR 2018).

Everything behind a ReLU is zero or more, so that a byte q stands for ``scale * q``, with one scale for each layer's
output: the greatest value that it had on some images, its range, over 255. Each output channel's weights have a scale
of their own. The scales of a layer's inputs go into its weights, so that branches of different scales are concatenated
as they are. The first layer, which sees pixels, and the heads stay as they were.

The products are oneDNN's; processors with VNNI instructions make four times as many in a second as of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.nets.googlenet import FIRST_LAYERS, TABLE_1, GoogLeNet
from detector.nets.inception import ConvUnit, Inception
from detector.nets.kernels import to_bytes

_USUAL_SIDE = 36  # of a map that oneDNN lays weights out for; others fit too, but some are slower

Ranges = Mapping[str, float]
"""The greatest output of each layer, by the name of its module."""


def layers_with_ranges(net: GoogLeNet) -> list[str]:
    """The modules of ``net`` that :func:`record_ranges` watches, in their order."""
    return [name for name, layer in net.named_modules() if isinstance(layer, ConvUnit) or name in ("norm1", "norm2")]


def record_ranges(nets: Sequence[GoogLeNet], run: Callable[[], object]) -> list[dict[str, float]]:
    """The greatest output of each layer of each of ``nets`` while ``run`` runs them, in evaluation mode."""
    found = [dict.fromkeys(layers_with_ranges(net), 0.0) for net in nets]
    one_at_a_time = Lock()  # levels may run in several threads

    def watch(ranges: dict[str, float], name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def note(layer: nn.Module, inputs: object, output: Tensor) -> None:
            if output.numel():
                most = float(output.max())
                with one_at_a_time:
                    ranges[name] = max(ranges[name], most)

        return note

    hooks = [
        net.get_submodule(name).register_forward_hook(watch(ranges, name))
        for net, ranges in zip(nets, found, strict=True)
        for name in ranges
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def ranges_of_first_layers(ranges: Sequence[Ranges]) -> dict[str, float]:
    """Of the layers up to 3b, the greatest of the ``ranges`` of several networks."""
    first = (name for name in ranges[0] if name.split(".")[0] in (*FIRST_LAYERS, "norm1", "norm2"))
    return {name: max(own[name] for own in ranges) for name in first}


def peaks(ranges: Ranges) -> Tensor:
    """The ranges as :class:`ActivationRanges` holds them."""
    return torch.tensor(list(ranges.values()), dtype=torch.float32)


class ActivationRanges(nn.Module):
    """Ranges of a network as a part of its file: ``peaks`` ``(layers,)``, of :func:`layers_with_ranges`."""

    peaks: Tensor

    def __init__(self, net: GoogLeNet) -> None:
        super().__init__()
        self.names = layers_with_ranges(net)
        self.register_buffer("peaks", torch.zeros(len(self.names)))

    @property
    def ranges(self) -> dict[str, float]:
        """By name."""
        return dict(zip(self.names, self.peaks.tolist(), strict=True))


class Quantize(nn.Module):
    """Values to the bytes that stand for them, ``(N, C, H, W)``; ``scale`` ``(C,)``."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.inverse = 1 / scale

    def forward(self, x: Tensor) -> Tensor:
        return to_bytes(x, self.inverse)


class Int8Conv(nn.Module):
    """A convolution of bytes ``(N, in, H, W)``, channels last.

    Args:
        conv: the convolution. in_scale: ``(in,)``. out_scale: of the bytes that it gives; ``None`` gives ``dtype``.
        relu: whether one follows. side: of the maps that it will see.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        in_scale: Tensor,
        out_scale: float | None,
        dtype: torch.dtype,
        *,
        relu: bool = True,
        side: int = _USUAL_SIDE,
    ) -> None:
        super().__init__()
        weight = conv.weight.detach().float() * in_scale.view(1, -1, 1, 1)
        scale = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / 127
        whole = (weight / scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach().float()
        self.pointwise = conv.kernel_size == (1, 1) and conv.stride == (1, 1)
        self.channels = len(weight)
        if not self.pointwise and self.channels % 48 == 0:
            # oneDNN takes them 48 or 64 at a time, by the width of the map, and would lay the weights out anew.
            more = -self.channels % 64
            whole, bias = F.pad(whole, (0, 0) * 3 + (0, more)), F.pad(bias, (0, more))
            scale = F.pad(scale, (0, more), value=1.0)
        out = 1.0 if out_scale is None else out_scale
        self.dtype = dtype if out_scale is None else torch.uint8
        self.scale, self.bias, self.zero = scale / out, bias / out, torch.zeros(len(bias), dtype=torch.int32)
        self.after = "relu" if relu else "none"
        self.stride, self.padding = list(conv.stride), list(conv.padding)
        ops = torch.ops.onednn
        if self.pointwise:  # a product of matrices, whose layout does not depend on the size of the map
            self.weight = ops.qlinear_prepack(whole[:, :, 0, 0], None)
        else:
            shape = [1, whole.shape[1], side, side]
            self.weight = ops.qconv_prepack(whole, self.scale, 1.0, 0, self.stride, self.padding, [1, 1], 1, shape)

    def forward(self, x: Tensor) -> Tensor:
        ops, given = torch.ops.onednn, (x, 1.0, 0, self.weight, self.scale, self.zero, self.bias)
        asked: tuple[Any, ...] = (1.0, 0, self.dtype, self.after, [], "")
        if not self.pointwise:
            found = ops.qconv_pointwise(*given, self.stride, self.padding, [1, 1], 1, *asked)
            return found[:, : self.channels]  # type: ignore[no-any-return]
        count, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        found = ops.qlinear_pointwise(rows, *given[1:], *asked)
        return found.view(count, height, width, -1).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class Int8Inception(nn.Module):
    """An Inception module on bytes; the last one of a stage gives values of ``dtype`` in place of bytes."""

    def __init__(
        self, module: Inception, in_scale: Tensor, scales: Ranges, last: bool, dtype: torch.dtype, side: int
    ) -> None:
        super().__init__()

        def unit(name: str, x: Tensor, ends: bool) -> tuple[Int8Conv, Tensor]:
            conv = module.get_submodule(name).conv
            assert isinstance(conv, nn.Conv2d)
            made = Int8Conv(conv, x, None if ends and last else scales[name], dtype, side=side)
            return made, torch.full((conv.out_channels,), scales[name])

        self.branch1, one = unit("branch1", in_scale, True)
        reduce3, few = unit("branch2.0", in_scale, False)
        conv3, three = unit("branch2.1", few, True)
        reduce5, few = unit("branch3.0", in_scale, False)
        conv5, five = unit("branch3.1", few, True)
        project, pooled = unit("branch4.1", in_scale, True)
        self.branch2, self.branch3 = nn.Sequential(reduce3, conv3), nn.Sequential(reduce5, conv5)
        self.branch4 = nn.Sequential(module.branch4[0], project)
        self.out_scale = torch.cat([one, three, five, pooled])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


def to_int8(net: GoogLeNet, ranges: Ranges, dtype: torch.dtype, side: int = _USUAL_SIDE) -> None:
    """Put whole numbers in place of the convolutions of ``net``, all but the first; batch normalisation is folded.

    The maps that it takes and gives, those of 4e included, are values of ``dtype`` as before.

    Args:
        ranges: as :func:`record_ranges` found them. dtype: of everything else. side: of the maps of stage 4.
    """
    if net.map_scale is not None:  # it is in int8 already
        return
    scales = {name: max(peak, 1e-6) / 255 for name, peak in ranges.items()}
    second, third = net.conv2.conv, net.conv3.conv

    def everywhere(name: str, channels: int) -> Tensor:
        return torch.full((channels,), scales[name])

    layers: dict[str, nn.Module] = {}
    scale = everywhere("norm1", second.in_channels)
    layers["conv2"] = nn.Sequential(Quantize(scale), Int8Conv(second, scale, scales["conv2"], dtype, side=4 * side))
    scale = everywhere("conv2", third.in_channels)
    layers["conv3"] = Int8Conv(third, scale, None, dtype, side=4 * side)
    scale = everywhere("norm2", third.out_channels)
    layers["maxpool2"] = nn.Sequential(net.maxpool2, Quantize(scale))
    for name in TABLE_1:
        part, own_side = f"inception{name}", 2 * side if name in ("3a", "3b") else side
        own = {layer.removeprefix(f"{part}."): s for layer, s in scales.items() if layer.startswith(f"{part}.")}
        module = net.get_submodule(part)
        assert isinstance(module, Inception)
        made = Int8Inception(module, scale, own, name in ("4e", "5b"), dtype, own_side)
        layers[part], scale = made, made.out_scale
        if name == "4e":
            layers["maxpool4"], net.map_scale = nn.Sequential(net.maxpool4, Quantize(scale)), scale
    for name, layer in layers.items():
        setattr(net, name, layer)
