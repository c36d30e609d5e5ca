"""The ensemble: means of softmaxes, shared crops, any batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import detector.detection.ensemble
from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble
from detector.detection.member import Member
from detector.detection.precision import detection_dtype
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.weights import Normalization, to_tensor
from proposals.errors import UserError

CPU = torch.device("cpu")
CROP = CropConfig(size=32, context_pad=2)
NORMALIZATION = Normalization()


def small_net(seed: int, outputs: int = 4) -> GoogLeNet:
    torch.manual_seed(seed)
    net = GoogLeNet(GoogLeNetConfig(num_outputs=outputs, norm="batch", width=0.1, stem="stride4"))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics are this batch's, so that activations stay small
    net(torch.randn(8, 3, 32, 32))
    torch.nn.init.normal_(net.fc.weight, std=0.5)  # so that the probabilities differ
    return net.eval()


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def boxes() -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 40, (13, 2))
    return np.concatenate([corner, corner + rng.uniform(4, 30, (13, 2))], axis=1).astype(np.float32)


def ensemble(*nets: GoogLeNet, device: torch.device = CPU, **settings: Any) -> Ensemble:
    return Ensemble([Member(net, CROP, NORMALIZATION) for net in nets], device, **settings)


def plain_probs(
    net: GoogLeNet, image: NDArray[np.uint8], boxes: NDArray[np.float32], crop: CropConfig = CROP
) -> NDArray[np.float32]:
    x = NORMALIZATION(to_tensor(crop_regions(image, boxes, crop, NORMALIZATION.fill)))
    with torch.inference_mode():
        return torch.softmax(net(x), 1).numpy()


def test_mean_of_the_members_softmaxes(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
    expected = np.mean([plain_probs(small_net(seed), image, boxes) for seed in range(3)], axis=0)
    probs = ensemble(*map(small_net, range(3))).predict(image, boxes).probs
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs, expected, atol=2e-5)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)


def test_members_with_other_crops(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
    larger = CropConfig(size=48, context_pad=0)
    expected = (plain_probs(small_net(0), image, boxes) + plain_probs(small_net(1), image, boxes, larger)) / 2
    members = [Member(small_net(0), CROP, NORMALIZATION), Member(small_net(1), larger, NORMALIZATION)]
    np.testing.assert_allclose(Ensemble(members, CPU).predict(image, boxes).probs, expected, atol=2e-5)


def test_members_that_crop_alike_share_the_crops(
    image: NDArray[np.uint8], boxes: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*args: object, **kwargs: object) -> NDArray[np.uint8]:
        calls.append(1)
        return crop_regions(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(detector.detection.ensemble, "crop_regions", counted)
    ensemble(*map(small_net, range(3))).predict(image, boxes)
    assert len(calls) == 1


@pytest.mark.parametrize("batch_size", [1, 5, 13, 100])
def test_batch_size_does_not_matter(image: NDArray[np.uint8], boxes: NDArray[np.float32], batch_size: int) -> None:
    probs = ensemble(small_net(0), batch_size=batch_size).predict(image, boxes).probs
    np.testing.assert_allclose(probs, plain_probs(small_net(0), image, boxes), atol=2e-5)


def test_wrong_members_and_settings() -> None:
    with pytest.raises(ValueError, match=r"\[4, 5\]"):
        ensemble(small_net(0), small_net(1, 5))
    with pytest.raises(ValueError, match="at least one"):
        ensemble()
    with pytest.raises(UserError, match="precision 'int4': choose auto, float32, bfloat16, float16, int8"):
        ensemble(small_net(0), precision="int4")


def test_the_temperature_is_of_the_mean(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
    def tempered(temperature: float) -> Ensemble:
        return ensemble(small_net(0), small_net(1), temperature=temperature)

    mean = tempered(1).predict(image, boxes).probs.astype(np.float64)
    for temperature in (0.5, 2.0):
        expected = mean ** (1 / temperature)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(tempered(temperature).predict(image, boxes).probs, expected, atol=1e-5)
    # Each member's own opinion is not cooled.
    own = [opinion.probs.numpy() for opinion in tempered(2.0).predict_members(image, boxes)]
    np.testing.assert_allclose(np.mean(own, axis=0), mean, atol=1e-6)
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            tempered(wrong)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("precision", "dtype", "tolerance"), [("float32", torch.float32, 1e-3), ("auto", torch.float16, 2e-2)]
)
def test_gpu_gives_the_cpus_probabilities(
    image: NDArray[np.uint8], boxes: NDArray[np.float32], precision: str, dtype: torch.dtype, tolerance: float
) -> None:
    on_gpu = ensemble(small_net(0), device=torch.device("cuda"), precision=precision)
    assert on_gpu.dtype == dtype
    np.testing.assert_allclose(
        on_gpu.predict(image, boxes).probs, plain_probs(small_net(0), image, boxes), atol=tolerance
    )


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("bfloat16", 0.15)])
def test_short_formats(image: NDArray[np.uint8], boxes: NDArray[np.float32], precision: str, tolerance: float) -> None:
    exact = ensemble(small_net(0)).predict(image, boxes).probs
    short = ensemble(small_net(0), precision=precision).predict(image, boxes).probs
    assert short.dtype == np.float32
    assert not np.array_equal(short, exact)
    np.testing.assert_allclose(short, exact, atol=tolerance)
    np.testing.assert_allclose(short.sum(axis=1), 1, atol=1e-5)


def test_what_overflows_a_short_format_is_computed_again(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
    def large() -> GoogLeNet:
        net = small_net(0)
        with torch.no_grad():
            net.fc.weight.mul_(1e7)  # float16 ends at 65,504
        return net

    exact = ensemble(large()).predict(image, boxes).probs
    np.testing.assert_array_equal(ensemble(large(), precision="float16").predict(image, boxes).probs, exact)


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "dtype"),
    [("cpu", False, torch.float32), ("cpu", True, torch.bfloat16), ("cuda:1", True, torch.float16)],
)
def test_auto_is_the_format_that_the_device_is_fastest_in(
    device: str, has_bfloat16: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.detection.precision.fast_bfloat16", lambda: has_bfloat16)
    assert detection_dtype("auto", torch.device(device)) == dtype
