"""Networks in whole numbers: what a layer computes exactly, and how near a network stays to its float32 self."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_nets import CPU, MAPS, NET, member, multibox_head
from torch import nn

from detector.detection.ensemble import Ensemble, ImageView
from detector.detection.member import Member
from detector.detection.multibox_source import MultiBoxSource
from detector.detection.precision import detection_dtype
from detector.nets.googlenet import GoogLeNetConfig, Trunk
from detector.nets.int8 import Int8Conv, layers_with_ranges, record_ranges, to_int8
from detector.nets.region_net import SharedMaps
from proposals.boxes import iou
from proposals.errors import UserError

pytestmark = pytest.mark.int8
BOXES = np.array([[0, 0, 60, 48], [3, 5, 30, 40], [20, 2, 22, 3], [10, 10, 58, 46]], np.float32)


def image() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((8, 10, 1))).astype(np.uint8)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("channels", "stride"), [(5, 1), (48, 1), (64, 1), (5, 2)])
def test_a_layer_computes_exactly_with_whole_numbers(kernel: int, channels: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, channels, kernel, stride, kernel // 2)
    q = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    in_scale = torch.tensor([0.5, 0.01, 2.0])
    weight = conv.weight.detach() * in_scale.view(1, 3, 1, 1)
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    whole = (weight / scale).round()
    assert conv.bias is not None
    exact = F.conv2d(q.float(), whole * scale, conv.bias, conv.stride, conv.padding).relu()
    torch.testing.assert_close(Int8Conv(conv, in_scale, None, torch.float32)(q), exact, rtol=1e-4, atol=1e-3)
    found = Int8Conv(conv, in_scale, 1.5, torch.float32)(q)
    assert found.dtype == torch.uint8
    assert (found.float() - (exact / 1.5).clamp(max=255)).abs().max() <= 0.51


@pytest.mark.parametrize("config", [NET, GoogLeNetConfig(num_outputs=4, width=0.1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_stays_near_its_float32_self(config: GoogLeNetConfig, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    net = Trunk(config).eval().fold_normalization().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 3, 96, 80).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        (ranges,) = record_ranges([net], lambda: net(x))
        assert list(ranges) == layers_with_ranges(net)
        assert all(peak > 0 for peak in ranges.values())
        whole = copy.deepcopy(net)
        to_int8(whole, ranges, dtype)
        to_int8(whole, ranges, dtype)  # once is enough
        whole.conv1.to(dtype)
        exact, found = net.map_4e(x), whole.map_4e(x.to(dtype))
        regions, seen = net.after_4e(exact), whole.after_4e(found)
    assert found.dtype == seen.dtype == dtype
    assert (found.float() - exact).abs().max() < 0.04 * exact.max()
    assert (seen.float() - regions).abs().max() < 0.06 * regions.max()


def with_ranges(shared: SharedMaps | None = MAPS) -> Member:
    """A member that knows its ranges."""
    one = member(shared)
    (ranges,) = record_ranges([one.net], lambda: Ensemble([one], CPU).predict(image(), BOXES))
    return replace(member(shared), ranges=ranges)


@pytest.mark.parametrize("shared", [MAPS, None])
def test_a_member_says_nearly_the_same(shared: SharedMaps | None) -> None:
    exact = Ensemble([with_ranges(shared)], CPU, precision="float32")
    whole = Ensemble([with_ranges(shared)], CPU, precision="int8")
    assert (exact.precision, whole.precision) == ("float32", "int8")
    one, other = exact.predict(image(), BOXES), whole.predict(image(), BOXES)
    np.testing.assert_allclose(other.probs, one.probs, atol=0.02)
    assert one.boxes is not None
    assert other.boxes is not None
    np.testing.assert_allclose(other.boxes, one.boxes, atol=0.05 * np.abs(one.boxes).max())  # random heads throw far
    assert not np.array_equal(other.probs, one.probs)


def test_a_region_s_output_does_not_depend_on_the_others() -> None:
    whole = Ensemble([with_ranges()], CPU, precision="int8")
    together = whole.predict(image(), BOXES).probs
    alone = np.concatenate([whole.predict(image(), box[None]).probs for box in BOXES])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_networks_that_begin_alike_share_ranges_and_maps() -> None:
    """The greatest ranges of the layers that they have in common, their own of the others."""
    narrow, wide = with_ranges(), with_ranges()
    assert narrow.ranges is not None
    first = {name: (0.5 if "4" not in name and "5" not in name else 1.0) * most for name, most in narrow.ranges.items()}
    narrow = replace(narrow, ranges=first)
    both = Ensemble([narrow, wide], CPU, precision="int8")
    assert both.leaders == {1: 0}
    alone = Ensemble([with_ranges()], CPU, precision="int8")
    np.testing.assert_array_equal(both.predict(image(), BOXES).probs, alone.predict(image(), BOXES).probs)
    again = Ensemble(both.members, CPU, precision="int8")  # their layers cannot be compared any more
    assert again.leaders == {}
    np.testing.assert_array_equal(again.predict(image(), BOXES).probs, alone.predict(image(), BOXES).probs)


def test_multibox_proposes_nearly_the_same() -> None:
    found = []
    for precision in ("float32", "int8"):
        source = MultiBoxSource(multibox_head(), Ensemble([with_ranges()], CPU, precision=precision), MAPS)
        found.append(source.propose(ImageView(image())))
    exact, whole = found
    best = iou(exact.boxes[:20], whole.boxes).max(axis=1)
    assert np.median(best) > 0.9
    np.testing.assert_allclose(whole.scores[:20], exact.scores[:20], atol=0.01)


def test_int8_is_taken_where_the_processor_is_made_for_it_and_the_model_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.detection.precision.fast_int8", lambda: True)
    assert Ensemble([with_ranges()], CPU).precision == "int8"
    assert Ensemble([member()], CPU).precision == "float32"
    assert Ensemble([with_ranges()], CPU, precision="float32").precision == "float32"
    with pytest.raises(UserError, match="precision int8 needs the ranges of activations: detector calibrate"):
        Ensemble([with_ranges(), member()], CPU, precision="int8")
    with pytest.raises(UserError, match="precision int8 needs --device cpu"):
        detection_dtype("int8", torch.device("cuda"))


def test_layers_that_saw_nothing_have_no_range() -> None:
    one = member()
    with torch.inference_mode():
        (ranges,) = record_ranges([one.net], lambda: one.maps([image()], CPU)[0].level_maps)
    assert ranges["inception5b.branch1"] == 0 < ranges["inception4e.branch1"]
