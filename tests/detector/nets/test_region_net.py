"""Shared maps: RoIAlign, levels, geometry, and that a region's output depends on nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.ops import roi_align

from detector.crop import CropConfig
from detector.detection.cores import when_asked
from detector.detection.ensemble import Ensemble, ImageView, RegionRequest
from detector.detection.member import Member
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Trunk
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import (
    LEAST_SIDE,
    CellGrid,
    ImageMaps,
    PooledMaps,
    RegionNet,
    SharedMaps,
    cell_grid,
    image_levels,
    level_zero_size,
    region_levels,
    resize_image,
)
from detector.nets.weights import Normalization

CPU = torch.device("cpu")
NET = GoogLeNetConfig(num_outputs=4, norm="batch", width=0.1, stem="stride4", dropout=0.0)
SHAPE = HeadShape(kind="softmax", grid=3, shared=True, overlap=3)
SHARED = SharedMaps(image_side=96, levels=2, region_side=40)
CROP = CropConfig(size=32, context_pad=0)


def member(shared: SharedMaps | None = SHARED, net: GoogLeNetConfig = NET, crop: CropConfig = CROP) -> Member:
    torch.manual_seed(0)
    trunk = Trunk(net)
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained: not the identity
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    head = RegionHead(SHAPE, 3, trunk.num_features)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.normal_(std=0.3 if name.startswith("classify") else 0.01)
    return Member(trunk.eval(), crop, Normalization(), head.eval(), shared)


def picture(height: int = 60, width: int = 80, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def aligned(found: torch.Tensor, boxes: torch.Tensor, cells: int, samples: int) -> torch.Tensor:
    """Regions of one map ``(C, h, w)``, ``boxes`` in its places, the first of which has its centre at 1/2."""
    maps = PooledMaps([found[None]], [torch.zeros(1, 3, *found.shape[1:])], CellGrid(1, 0.5))
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    return maps.cells(rois, torch.zeros(len(boxes), dtype=torch.int64), SharedMaps(resolution=cells, samples=samples))


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.lists(st.tuples(*[st.floats(-8, 20, width=32)] * 2, *[st.floats(0, 25, width=32)] * 2), min_size=1, max_size=6),
    st.sampled_from([(7, 2), (3, 1), (2, 4)]),
)
@settings(max_examples=60, deadline=None)
def test_regions_are_aligned_as_torchvision_aligns_them(
    height: int, width: int, boxes: list[tuple[float, float, float, float]], kind: tuple[int, int]
) -> None:
    found = torch.rand(5, height, width, generator=torch.Generator().manual_seed(height * 13 + width))
    placed = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes])
    rois = torch.cat([torch.zeros(len(placed), 1), placed], 1)
    expected = roi_align(found[None], rois, kind[0], 1.0, kind[1], aligned=True)
    torch.testing.assert_close(aligned(found, placed, *kind), expected, atol=2e-5, rtol=1e-4)


def test_the_gradient_of_aligned_regions_is_torchvisions() -> None:
    found = torch.rand(1, 6, 9, 11, requires_grad=True)
    boxes = torch.tensor([[0.5, 0.5, 6.0, 8.0], [-2.0, 3.0, 15.0, 4.0]])
    weight = torch.rand(2, 6, 7, 7)
    rois = torch.cat([torch.zeros(2, 1), boxes], 1)
    (theirs,) = torch.autograd.grad((roi_align(found, rois, 7, 1.0, 2, aligned=True) * weight).sum(), found)
    (ours,) = torch.autograd.grad((aligned(found[0], boxes, 7, 2) * weight).sum(), found)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stem", ["stride8", "stride4", "stride2"])
def test_cells_lie_where_the_stem_puts_them(stem: str) -> None:
    """The mean place, weighted by the gradient, of the pixels that one cell of an all-positive net depends on."""
    net = GoogLeNet(NET.model_copy(update={"stem": stem, "norm": "lrn"}))
    for name, parameter in net.named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    net.norm1, net.norm2 = torch.nn.Identity(), torch.nn.Identity()
    stem_of_it = torch.nn.Sequential(net.conv1, net.maxpool1, net.conv2, net.conv3, net.maxpool2)
    grid = cell_grid(net.config)
    pools = [m for m in (net.maxpool1, net.maxpool2, net.maxpool3) if isinstance(m, torch.nn.MaxPool2d)]
    x = torch.zeros(1, 3, 192, 192, requires_grad=True)
    y = torch.nn.functional.avg_pool2d(_with_mean_pools(stem_of_it)(x), 3, 2, ceil_mode=True)
    assert len(pools) == (3 if stem == "stride8" else 2)
    assert y.shape[-1] == 192 // grid.stride
    y[0, 0, 5, 4].backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    weight = x.grad[0].sum(0).double()
    places = torch.arange(192).double() + 0.5
    assert float((weight.sum(1) * places).sum() / weight.sum()) == pytest.approx(grid.first + 5 * grid.stride)
    assert float((weight.sum(0) * places).sum() / weight.sum()) == pytest.approx(grid.first + 4 * grid.stride)


def _with_mean_pools(stem: torch.nn.Sequential) -> torch.nn.Sequential:
    """``stem`` with mean pools in place of its max pools, whose gradient would be one place's, and without ReLU."""
    parts: list[torch.nn.Module] = []
    for part in stem:
        if isinstance(part, torch.nn.MaxPool2d):
            parts.append(torch.nn.AvgPool2d(3, 2, ceil_mode=True))
        elif isinstance(part, torch.nn.Identity):
            parts.append(part)
        else:
            parts.append(part.conv)  # type: ignore[arg-type]
    return torch.nn.Sequential(*parts)


def test_a_region_is_pooled_from_the_level_where_its_side_is_nearest() -> None:
    shared = SharedMaps(levels=3, region_side=64)
    sides = np.array([1e-9, 10, 64, 90, 91, 128, 181, 182, 5000], np.float32)
    boxes = np.stack([np.zeros_like(sides), np.zeros_like(sides), sides, sides], axis=1)
    assert region_levels(boxes, shared).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    thin = np.array([[0, 0, 256, 64]], np.float32)  # the root of its area is 128
    assert region_levels(thin, shared).tolist() == [1]


def test_one_region_that_is_the_whole_picture_is_the_crop() -> None:
    """Sampled at the centres of the map's own cells, a region of the network's size is what a crop would be."""
    net = NET.model_copy(update={"stem": "stride4"})
    shared = SharedMaps(image_side=48, levels=1, region_side=48, resolution=6, samples=1)
    image = picture(48, 48)
    whole = np.array([[0, 0, 48, 48]], np.float32)
    pooling, cropping = member(shared, net), member(None, net, CropConfig(size=48, context_pad=0))
    maps = pooling.maps([image], CPU)[0]
    # The grid begins at 6.5 and not at 4: shift the region by that, and the samples fall on the cells.
    off = cell_grid(net).first - cell_grid(net).stride / 2
    with torch.inference_mode():
        pooled = pooling.pooled_output([(maps, whole + off)])
    x = Normalization()(torch.from_numpy(image[None]).permute(0, 3, 1, 2))
    with torch.inference_mode():
        expected = cropping.output(x)
    assert pooled.deltas is not None
    assert expected.deltas is not None
    assert pooled.overlap is not None
    assert expected.overlap is not None
    torch.testing.assert_close(pooled.probs, expected.probs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooled.deltas, expected.deltas, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooled.overlap, expected.overlap, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stem", ["stride8", "stride4", "stride2"])
def test_the_thinnest_level_has_a_row_of_cells(stem: str) -> None:
    net = GoogLeNet(NET.model_copy(update={"stem": stem})).eval()
    with torch.inference_mode():
        assert net.map_4e(torch.zeros(1, 3, LEAST_SIDE, 64)).shape[2] >= 1


def test_a_regions_output_depends_on_nothing_else() -> None:
    rng = np.random.default_rng(1)
    image = picture(70, 90)
    corner = rng.uniform(0, 50, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (20, 2))], axis=1).astype(np.float32)
    ensemble = Ensemble([member()], CPU)
    together = ensemble.predict(image, boxes)
    alone = [ensemble.predict(image, boxes[i : i + 1]) for i in range(len(boxes))]
    np.testing.assert_allclose(together.probs, np.concatenate([one.probs for one in alone]), atol=1e-5)
    np.testing.assert_allclose(together.boxes, np.concatenate([one.boxes for one in alone]), atol=1e-3)
    backwards = Ensemble([member()], CPU, batch_size=3).predict(image, boxes[::-1])
    np.testing.assert_allclose(together.probs, backwards.probs[::-1], atol=1e-5)


def test_images_of_a_batch_do_not_touch_one_another() -> None:
    torch.manual_seed(0)
    net = RegionNet(NET, SHAPE, 3, SHARED).eval()
    x = torch.randn(3, 3, 64, 96)
    rois = torch.tensor([[0, 5, 5, 60, 50], [2, 0, 0, 96, 64], [1, 8, 8, 30, 30], [2, 10, 4, 20, 60]]).float()
    level = torch.from_numpy(region_levels(rois[:, 1:].numpy(), SHARED))
    with torch.inference_mode():
        together = net(image_levels(x, SHARED), rois, level)
        for row in range(4):
            image = int(rois[row, 0])
            own = rois[row : row + 1].clone()
            own[:, 0] = 0
            alone = net(image_levels(x[image : image + 1], SHARED), own, level[row : row + 1])
            torch.testing.assert_close(together.classes[row : row + 1], alone.classes, atol=1e-5, rtol=1e-4)


def test_a_mirrored_image_gives_mirrored_boxes() -> None:
    """With the member's mirror image averaged in, the results of an image and of its mirror image agree."""
    image = picture(64, 96)
    boxes = np.array([[3, 5, 40, 50], [20, 10, 90, 60], [0, 0, 96, 64]], np.float32)
    other = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [96, 0, 96, 0]
    ensemble = Ensemble([member()], CPU)
    one = ensemble.predict(image, boxes, mirror=True)
    two = ensemble.predict(np.ascontiguousarray(image[:, ::-1]), other.astype(np.float32), mirror=True)
    np.testing.assert_allclose(one.probs, two.probs, atol=1e-5)
    back = two.boxes[..., [2, 1, 0, 3]] * np.array([-1, 1, -1, 1]) + np.array([96, 0, 96, 0])
    np.testing.assert_allclose(one.boxes, back, atol=1e-3)


def test_a_view_is_looked_at_again_without_new_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = ImageMaps.__init__

    def counted(self: ImageMaps, *args: object) -> None:
        made.append(1)
        plain(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageMaps, "__init__", counted)
    ensemble, boxes = Ensemble([member()], CPU), np.array([[0, 0, 30, 30]], np.float32)
    view = ImageView(picture())
    first, again = ensemble.predict(view, boxes), ensemble.predict(view, boxes)
    assert len(made) == 1
    np.testing.assert_array_equal(first.probs, again.probs)
    ensemble.predict(picture(), boxes)
    assert len(made) == 2


def of_one_beginning() -> tuple[Member, Member]:
    """Two members with the same layers up to 3b, and others behind them."""
    one, two = member(), member()
    with torch.no_grad():
        two.net.inception4a.branch1.conv.weight.mul_(1.5)  # type: ignore[union-attr]
        assert two.head is not None
        two.head.classify.weight.neg_()
    return one, two


def test_members_on_maps_and_on_crops_are_averaged_the_first_of_them_when_asked() -> None:
    image, boxes = picture(), np.array([[0, 0, 60, 50], [10, 10, 40, 40]], np.float32)
    each = [Ensemble([one], CPU).predict(image, boxes).probs for one in (*of_one_beginning(), member(None))]
    assert float(np.abs(each[0] - each[1]).max()) > 0.01
    together = Ensemble([*of_one_beginning(), member(None)], CPU)
    for count in (1, 2, 3):
        alone = Ensemble([*of_one_beginning(), member(None)][:count], CPU).predict(image, boxes)
        np.testing.assert_allclose(alone.probs, np.mean(each[:count], axis=0), atol=1e-6)
        for table, expected in zip(together.predict(image, boxes, members=count), alone, strict=True):
            np.testing.assert_allclose(table, expected, atol=1e-6)
    for opinion, expected in zip(together.predict_members(image, boxes), each, strict=True):
        np.testing.assert_allclose(opinion.probs.numpy(), expected, atol=1e-6)


def assert_same(found: Any, expected: Any) -> None:
    for table, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(table, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", id="cpu"), pytest.param("cuda", id="gpu", marks=pytest.mark.gpu)]
)
@pytest.mark.parametrize("mirror", [False, True])
def test_an_image_is_the_same_among_others(device: str, mirror: bool) -> None:
    """Of several sizes, one without regions, more regions than a batch has; and again with others that some know."""
    sizes, counts = [(60, 80), (80, 60), (60, 80), (30, 40), (60, 80)], [3, 1, 0, 2, 2]
    images = [picture(*size, seed) for seed, size in enumerate(sizes)]
    boxes = [
        np.float32([[x, 2, x + 20, 25] for x in range(count)]).reshape(-1, 4) + np.float32(seed)
        for seed, count in enumerate(counts)
    ]
    members = [*of_one_beginning(), member(None)]
    ensemble = Ensemble(members, torch.device(device), batch_size=3, precision="float32")
    alone = [ensemble.predict(image, own, mirror=mirror) for image, own in zip(images, boxes, strict=True)]
    views = [ImageView(image, mirror) for image in images]
    first = [RegionRequest(view, own, mirror, 1) for view, own in zip(views[:3], boxes, strict=False)]
    assert len(ensemble.predict_each(first)) == 3  # the second network begins with the maps of another batch
    looks = [RegionRequest(view, own, mirror) for view, own in zip(views, boxes, strict=True)]
    for found, expected in zip(ensemble.predict_each(looks), alone, strict=True):
        assert_same(found, expected)
    ahead = [ImageView(image, mirror) for image in images]
    ensemble.start_maps(ahead)
    again = ensemble.predict_each([look._replace(view=view) for look, view in zip(looks, ahead, strict=True)][::-1])
    for found, expected in zip(again[::-1], alone, strict=True):
        assert_same(found, expected)


def test_images_go_through_a_network_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one size at level 0 make maps together, and all their regions are one batch."""
    seen: list[int] = []
    plain = GoogLeNet.map_3b, GoogLeNet.after_4e
    monkeypatch.setattr(GoogLeNet, "map_3b", lambda net, x: (seen.append(len(x)), plain[0](net, x))[1])
    monkeypatch.setattr(GoogLeNet, "after_4e", lambda net, x: (seen.append(len(x)), plain[1](net, x))[1])
    views = [ImageView(picture(*size)) for size in ((60, 80), (80, 60), (30, 40))]
    ensemble = Ensemble([member()], CPU)
    ensemble.start = when_asked
    ensemble.predict_each([RegionRequest(view, np.float32([[0, 0, 20, 20]])) for view in views])
    assert seen == [2, 2, 1, 1, 3]  # two levels of two images, of one image, and the regions


def changed(what: str) -> Member:
    """The second of :func:`of_one_beginning`, with another beginning."""
    _, two = of_one_beginning()
    if what == "weights":
        torch.nn.init.zeros_(two.net.conv2.conv.weight)
    elif what == "statistics":
        two.net.inception3b.branch1.bn.running_mean.add_(0.1)  # type: ignore[union-attr, operator]
    elif what == "normalization":
        return replace(two, normalization=Normalization(mean=(0, 0, 0)))
    elif what == "levels":
        return replace(two, shared=SHARED.model_copy(update={"image_side": 64}))
    return two


@pytest.mark.parametrize("what", ["nothing", "weights", "statistics", "normalization", "levels"])
def test_what_members_have_in_common_is_computed_once(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers up to 3b of two networks that begin alike, and only of those."""
    boxes = np.array([[0, 0, 60, 50]], np.float32)
    each = [Ensemble([one], CPU).predict(picture(), boxes, mirror=True).probs for one in (member(), changed(what))]
    begun: list[int] = []
    plain = GoogLeNet.map_3b

    def counted(self: GoogLeNet, x: torch.Tensor) -> torch.Tensor:
        begun.append(id(self))
        return plain(self, x)

    monkeypatch.setattr(GoogLeNet, "map_3b", counted)
    found = Ensemble([member(), changed(what)], CPU).predict(picture(), boxes, mirror=True).probs
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)
    assert len(set(begun)) == (1 if what == "nothing" else 2)
    assert len(begun) == len(set(begun)) * 2 * SHARED.levels


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 3), (33, 700)])
def test_strange_sizes(size: tuple[int, int]) -> None:
    height, width = size
    boxes = np.array([[0, 0, width, height], [0, 0, 1, 1], [width - 1, height - 1, width, height]], np.float32)
    found = Ensemble([member()], CPU).predict(picture(height, width), boxes)
    assert np.isfinite(found.probs).all()
    assert np.isfinite(found.boxes).all()
    np.testing.assert_allclose(found.probs.sum(1), 1, atol=1e-5)
    small = level_zero_size(size, SHARED)
    assert min(small) >= 16
    assert resize_image(picture(height, width), small).shape == (*small, 3)


def test_no_region() -> None:
    net = RegionNet(NET, SHAPE, 3, SHARED).eval()
    levels = image_levels(torch.randn(1, 3, 64, 64), SHARED)
    logits = net(levels, torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
    assert logits.classes.shape == (0, 4)


def test_a_member_that_pools_names_crops_by_the_same_weights() -> None:
    crops = torch.rand(3, 3, 32, 32) * 255
    pooling, cropping = Ensemble([member()], CPU), Ensemble([member(None)], CPU)
    torch.testing.assert_close(pooling.name_crops(crops), cropping.name_crops(crops))
    assert pooling.num_members == 1
