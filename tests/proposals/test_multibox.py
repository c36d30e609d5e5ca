"""MultiBox's network and source: shapes, trunks of any stride, windows, suppression, batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proposals.boxes import iou, is_valid
from proposals.calibration import Calibration
from proposals.errors import ImageTooSmall, UserError
from proposals.multibox import (
    CONVOLUTIONAL_PRIORS,
    ConvolutionalHead,
    MultiBoxConfig,
    MultiBoxNet,
    MultiBoxOutput,
    input_size_for,
    map_shape,
)
from proposals.multibox_source import (
    MultiBoxProposalConfig,
    MultiBoxSource,
    WindowConfig,
    pixels,
    squash,
    windows_of,
)
from proposals.priors import Priors, fit, grid_priors
from proposals.types import Source

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def trunk(stride: int = 8, channels: int = 12) -> nn.Sequential:
    """Convolutions that halve the map until it is ``stride`` times smaller."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(int(math.log2(stride))):
        layers += [nn.Conv2d(3 if i == 0 else channels, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


def some_priors(k: int = 20) -> Priors:
    rng = np.random.default_rng(3)
    corner, side = rng.uniform(0, 0.6, (200, 2)), rng.uniform(0.05, 0.4, (200, 2))
    return fit(np.concatenate([corner, corner + side], axis=1), k)


def net(head: str = "global", size: int = 64, k: int = 20) -> MultiBoxNet:
    priors = grid_priors() if head == "convolutional" else some_priors(k)
    config = MultiBoxConfig.model_validate({"head": head, "input_size": size, "reduced": 4, "hidden": 16})
    torch.manual_seed(1)
    return MultiBoxNet(trunk(), priors, config)


def scale(images: Tensor) -> Tensor:
    return images.float() / 255 - 0.5


# --- the network ----------


@pytest.mark.parametrize(("head", "k"), [("global", 20), ("convolutional", 1420)])
def test_outputs_start_at_the_priors_with_one_object_expected(head: str, k: int) -> None:
    model = net(head).eval()
    with torch.inference_mode():
        output = model(torch.randn(3, 3, 64, 64))
    assert output.locations.shape == (3, k, 4)
    assert output.logits.shape == (3, k)
    assert (output.locations - model.priors).abs().max() < 0.1
    assert torch.sigmoid(output.logits).sum(1).mean() == pytest.approx(1.0, rel=0.3)


@pytest.mark.parametrize("head", ["global", "convolutional"])
def test_every_parameter_learns(head: str) -> None:
    model = net(head).train()
    output = model(torch.randn(4, 3, 64, 64))
    (output.locations.square().sum() + output.logits.square().sum()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # A bias before batch normalisation has no effect: the made-up trunk has them.
    assert [name for name in without if name.startswith("head")] == []


@pytest.mark.parametrize(("stride", "size"), [(4, 32), (8, 64), (16, 128)])
def test_the_convolutional_head_takes_any_trunk_at_the_input_that_gives_8x8(stride: int, size: int) -> None:
    body = trunk(stride)
    assert input_size_for(body, 8) == size
    model = MultiBoxNet(body, grid_priors(), MultiBoxConfig(head="convolutional", input_size=size))
    assert model.eval()(torch.randn(1, 3, size, size)).logits.shape == (1, CONVOLUTIONAL_PRIORS)
    with pytest.raises(UserError, match=rf"map of 8x8 but the trunk gives 4x4 .*: set it to {size}"):
        MultiBoxNet(body, grid_priors(), MultiBoxConfig(head="convolutional", input_size=size // 2))


def test_an_output_of_the_convolutional_head_sees_what_its_prior_lies_on() -> None:
    # The same order in net and priors: light in one corner must change the 8x8 grid's outputs there and not far away.
    torch.manual_seed(0)
    head = ConvolutionalHead(5, 16).eval()
    dark, light = torch.zeros(1, 5, 8, 8), torch.zeros(1, 5, 8, 8)
    light[..., 1, 6] = 5.0  # row 1, column 6
    with torch.inference_mode():
        changed = (head(light)[1] - head(dark)[1]).abs()[0]
    centre = grid_priors().boxes.reshape(-1, 2, 2).mean(axis=1)
    for start, stop, cells in ((0, 704, 8), (704, 1100, 6)):
        where = centre[start:stop][changed[start:stop].numpy() > 1e-6]
        assert len(where)
        assert np.abs(where - [6.5 / 8, 1.5 / 8]).max() < 2.6 / cells


def test_priors_must_fit_the_convolutional_head() -> None:
    with pytest.raises(UserError, match="has 1420 priors, not 20"):
        MultiBoxNet(trunk(), some_priors(), MultiBoxConfig(head="convolutional", input_size=64))


def test_a_trunk_must_give_a_map() -> None:
    with pytest.raises(UserError, match="should give a square map"):
        MultiBoxNet(nn.Flatten(), some_priors(), MultiBoxConfig())
    with pytest.raises(UserError, match="does not take an input of 8 pixels"):
        MultiBoxNet(nn.Conv2d(3, 4, 11), some_priors(), MultiBoxConfig(input_size=8))


def test_looking_at_a_trunk_leaves_it_as_it_was() -> None:
    body = trunk().train()
    body[1].eval()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    assert map_shape(body, 64) == (12, 8, 8)
    assert body.training
    assert not body[1].training
    for name, value in body.state_dict().items():
        assert torch.equal(value, before[name])


def test_locations_are_prior_plus_deviation_times_output() -> None:
    model = net()
    outputs = torch.randn(2, 20, 4)
    expected = some_priors().boxes + some_priors().deviation * outputs.numpy()
    np.testing.assert_allclose(model.decode(outputs).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_priors_are_not_in_the_state_dict() -> None:
    assert not [name for name in net().state_dict() if "prior" in name or "deviation" in name]


# --- windows and pixels ----------


def test_windows_cover_the_image_and_the_whole_comes_first() -> None:
    config = MultiBoxProposalConfig(keep=200, windows=(WindowConfig(side=0.5, stride=0.4, keep=50),))
    windows, keep = windows_of((60, 100), config, smallest=8)
    assert windows[0].tolist() == [0, 0, 100, 60]
    assert keep.tolist() == [200] + [50] * (len(keep) - 1)
    assert (windows[1:, 2:] - windows[1:, :2] == 30).all()
    covered = np.zeros((60, 100), int)
    for x1, y1, x2, y2 in windows[1:].tolist():
        assert 0 <= x1 < x2 <= 100
        assert 0 <= y1 < y2 <= 60
        covered[y1:y2, x1:x2] += 1
    assert covered.min() >= 1
    steps = np.diff(np.unique(windows[1:, 0]))
    assert steps.max() <= 12


def test_no_window_twice_and_none_below_the_grid() -> None:
    config = MultiBoxProposalConfig(windows=(WindowConfig(side=1.0), WindowConfig(side=0.1)))
    windows, _ = windows_of((40, 40), config, smallest=8)
    assert windows.tolist() == [[0, 0, 40, 40]]  # the square window is the image; 4 pixels are too few


def test_pixels_of_a_window() -> None:
    relative = np.array([[0, 0, 1, 1], [0.5, 0.25, 1.5, 0.75], [0.2, -3, 0.4, 0.5]], np.float32)
    boxes = pixels(relative, np.array([10, 20, 30, 60]), (100, 35))
    np.testing.assert_allclose(boxes, [[10, 20, 30, 60], [20, 30, 35, 50], [14, 0, 18, 40]], rtol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (300, 20), (9, 900), (500, 700), (10, 12)])
def test_squash_keeps_place_and_brightness(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2] = 200
    small = squash(image, 64)
    assert small.shape == (64, 64, 3)
    assert small[:, :28].min() >= 195
    assert small[:, 36:].max() <= 5
    assert (squash(np.full((*size, 3), 77, np.uint8), 64) == 77).all()


# --- the source ----------


class Told(nn.Module):
    """A stand-in for the network that gives the same boxes for whatever it sees."""

    grid = 8

    def __init__(self, boxes: list[list[float]], logits: list[float], size: int = 32) -> None:
        super().__init__()
        self.config = MultiBoxConfig(input_size=size)
        self.priors = torch.tensor(boxes)
        self.told = torch.tensor(logits)

    def forward(self, x: Tensor) -> MultiBoxOutput:
        return MultiBoxOutput(self.priors.expand(len(x), -1, -1), self.told.expand(len(x), -1))


def told_source(boxes: list[list[float]], logits: list[float], **settings: object) -> MultiBoxSource:
    config = MultiBoxProposalConfig.model_validate(settings)
    return MultiBoxSource(Told(boxes, logits), scale, config)  # type: ignore[arg-type]


def test_boxes_come_back_in_pixels_by_calibrated_score() -> None:
    boxes = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.25, 1.2, 1.0], [0.9, 0.9, 0.8, 1.0]]
    found = told_source(boxes, [-1.0, 2.0, 9.0], calibration=Calibration(slope=0.5, offset=-1)).propose(IMAGE)
    np.testing.assert_allclose(found.boxes, [[32, 12, 64, 48], [0, 0, 32, 24]])  # the inverted one is gone
    np.testing.assert_allclose(found.scores, [0.5, 1 / (1 + math.exp(1.5))], rtol=1e-6)
    assert set(found.source) == {Source.MULTIBOX}
    assert found.image_size == (48, 64)


def test_its_own_duplicates_are_suppressed() -> None:
    boxes = [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.45], [0.5, 0.5, 1.0, 1.0]]
    assert len(told_source(boxes, [1.0, 2.0, 0.0], nms_threshold=0.8).propose(IMAGE)) == 2
    assert told_source(boxes, [1.0, 2.0, 0.0], nms_threshold=0.8).propose(IMAGE).boxes[0, 3] == pytest.approx(21.6)
    assert len(told_source(boxes, [1.0, 2.0, 0.0], nms_threshold=1.0).propose(IMAGE)) == 3
    assert len(told_source(boxes, [1.0, 2.0, 0.0], nms_threshold=1.0, max_proposals=1).propose(IMAGE)) == 1


def test_windows_give_boxes_of_their_own_and_keep_their_number() -> None:
    boxes = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.4, 0.4]]
    windows = [{"side": 0.5, "stride": 1.0, "keep": 1}]
    found = told_source(boxes, [1.0, 0.0], windows=windows, nms_threshold=1.0).propose(IMAGE)
    places = {tuple(box) for box in found.boxes.tolist()}
    assert {(0, 0, 64, 48), (0, 0, 24, 24), (40, 24, 64, 48)} <= places
    assert len(found) == 2 + 3 * 2  # 3 columns and 2 rows of windows of 24 pixels, one box each


@pytest.mark.parametrize("head", ["global", "convolutional"])
def test_a_batch_is_what_its_images_are_alone(head: str) -> None:
    windows = (WindowConfig(side=0.8),)
    config = MultiBoxProposalConfig(keep=30, windows=windows, batch_size=4)
    source = MultiBoxSource(net(head), scale, config)
    images = [IMAGE, IMAGE[:30, :20], np.repeat(IMAGE, 2, axis=0)]
    for found, image in zip(source.propose_batch(images), images, strict=True):
        alone = source.propose(image)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
        assert is_valid(found.boxes).all()
        assert (np.diff(found.scores) <= 0).all()
        overlap = iou(found.boxes, found.boxes)
        assert np.triu(overlap, 1).max() <= config.nms_threshold
    assert source.propose_batch([]) == []


@pytest.mark.parametrize("shape", [(7, 64), (64, 7), (1, 1)])
def test_an_image_smaller_than_the_grid_is_one_clear_error(shape: tuple[int, int]) -> None:
    source = MultiBoxSource(net(), scale)
    with pytest.raises(ImageTooSmall, match=rf"{shape[1]}x{shape[0]} pixels is smaller than MultiBox's grid of 8x8"):
        source.propose(np.zeros((*shape, 3), np.uint8))
    assert source.propose(np.zeros((8, 8, 3), np.uint8)).image_size == (8, 8)


def test_grey_images_are_taken_as_everywhere() -> None:
    grey = IMAGE[:, :, 0]
    source = MultiBoxSource(net(), scale)
    np.testing.assert_array_equal(source.propose(grey).boxes, source.propose(np.stack([grey] * 3, axis=2)).boxes)


@pytest.mark.gpu
@pytest.mark.parametrize("head", ["global", "convolutional"])
def test_gpu_and_cpu_give_the_same_boxes(head: str) -> None:
    config = MultiBoxProposalConfig(nms_threshold=1.0)
    found = [MultiBoxSource(net(head), scale, config, torch.device(d)).propose(IMAGE) for d in ("cpu", "cuda")]
    # Boxes of nearly equal score may change places: each must have its twin.
    assert len(found[0]) == len(found[1])
    distance = np.abs(found[0].boxes[:, None] - found[1].boxes[None]).max(axis=2)
    assert (distance.min(axis=1) < 1e-3 * 64).mean() > 0.98
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=1e-3)
