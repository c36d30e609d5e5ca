"""Box regression of the experiment: the ridge's sums, what held-out pictures choose, files, and the model with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble, Member
from detector.experiment.headed_model import with_heads
from detector.experiment.regression import (
    BoxRegressionConfig,
    Fitted,
    Regions,
    draw_regions,
    fit_boxes,
    moved_overlap,
    region_features,
    with_box_regression,
)
from detector.experiment.regression_files import ensure_regression, fitted_path
from detector.model.config import read_model_config
from detector.model.load import load_model, read_member
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.region_head import grid_features
from detector.nets.weights import Normalization, to_tensor
from detector.training.box_regression import fit_ridge
from detector.training.common_ridge import RidgeSums
from detector.training.pool import ImagePool
from detector.training.sampling import SamplingConfig, paired_iou
from proposals.boxes import decode, encode
from proposals.errors import UserError

CPU = torch.device("cpu")
NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
CROP = CropConfig(size=32, context_pad=2)
SIZE = (48.0, 64.0)
CONFIG = BoxRegressionConfig(pictures=20, penalties=(1.0, 100.0), grid=2)


# --- sums ----------


@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 300.0]), st.integers(1, 40), st.integers(1, 7))
def test_sums_give_the_ridge_of_all_samples_at_once(seed: int, penalty: float, count: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(3, 2, (count, 5)).astype(np.float32), rng.normal(1, 0.5, (count, 4))
    sums = RidgeSums(5, 4)
    sums.add(x[: count // 2], y[: count // 2], block)
    sums.add(x[count // 2 :], y[count // 2 :], block)
    weights, bias = sums.solve(penalty)
    expected, expected_bias = fit_ridge(x, y, penalty)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    np.testing.assert_allclose(bias, expected_bias, atol=1e-6)
    assert sums.mean_square == pytest.approx((x.astype(np.float64) ** 2).sum(axis=1).mean())


def test_sums_without_samples_or_penalty_are_refused() -> None:
    sums = RidgeSums(2, 4)
    with pytest.raises(ValueError, match="needs samples"):
        sums.solve(1.0)
    sums.add(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(ValueError, match="positive penalty"):
        sums.solve(0.0)


# --- fitting ----------


def known_regions(count: int, shift: dict[int, float], noise: float = 0.0) -> tuple[Regions, np.ndarray]:
    """Regions of one picture each that lie too far left by a share of their width that their features tell."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    told = rng.uniform(-0.2, 0.2, count)
    corner = rng.uniform(12, 20, (count, 2))
    boxes = np.concatenate([corner, corner + 20], axis=1).astype(np.float32)
    factor = np.array([shift[label] for label in labels.tolist()])
    deltas = np.stack([factor * told, *np.zeros((3, count))], axis=1)
    features = np.stack([told, rng.normal(0, 0.1, count)], axis=1) + noise * rng.normal(size=(count, 2))
    truth = decode(boxes, deltas).astype(np.float32)
    return Regions(boxes, truth, labels.astype(np.int64), np.arange(count)), features.astype(np.float16)


def sizes(count: int) -> np.ndarray:
    return np.tile(np.array(SIZE, np.float32), (count, 1))


@pytest.mark.parametrize(
    ("shift", "kind"),
    [
        pytest.param({0: 1.0, 1: 1.0}, "shared", id="classes alike"),
        pytest.param({0: 1.0, 1: -1.0}, "class", id="classes against each other"),
        pytest.param({0: 0.0, 1: 0.0}, "none", id="nothing to learn"),
    ],
)
def test_held_out_pictures_choose(shift: dict[int, float], kind: str) -> None:
    regions, features = known_regions(400, shift)
    config = CONFIG.model_copy(update={"penalties": (0.001, 1e6), "minimum_regions": 10})
    fitted = fit_boxes(features, regions, sizes(400), 2, config)
    assert fitted.kind == kind
    assert fitted.weights.shape == (2 if kind == "class" else 1, 4, 2)
    if kind == "none":
        assert not fitted.weights.any()
        assert fitted.before == fitted.after == 1.0
        return
    assert fitted.penalty == 0.001
    assert fitted.before < 0.9 < 0.98 < fitted.after
    # What it says of the held-out ones holds for all, and by hand.
    everything = moved_overlap(fitted, features, regions, sizes(400))
    assert everything == pytest.approx(fitted.after, abs=0.02)
    own = fitted.weights[regions.labels if kind == "class" else np.zeros(400, np.int64)]
    deltas = np.einsum("ntd,nd->nt", own, features.astype(np.float64))
    deltas += fitted.biases[regions.labels if kind == "class" else 0]
    moved = np.clip(decode(regions.boxes, deltas), 0, [64, 48, 64, 48]).astype(np.float32)
    assert everything == pytest.approx(float(paired_iou(moved, regions.truth).mean()), abs=1e-6)


def test_a_kind_that_is_asked_for_is_not_chosen() -> None:
    regions, features = known_regions(300, {0: 1.0, 1: -1.0})
    config = CONFIG.model_copy(update={"kind": "shared", "penalties": (0.001,)})
    assert fit_boxes(features, regions, sizes(300), 2, config).kind in ("shared", "none")
    one = regions.at(np.arange(3))._replace(owner=np.zeros(3, np.int64))
    assert fit_boxes(features[:3], one, sizes(1), 2, config).weights.shape == (1, 4, 2)  # a single picture


# --- from pictures to a model ----------


def pool(count: int = 8) -> ImagePool:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(count)]
    corner = rng.uniform(2, 16, (count, 2))
    return ImagePool(
        images=images,
        sizes=sizes(count),
        boxes=np.concatenate([corner, corner + 28], axis=1).astype(np.float32),
        labels=np.arange(count) % 2,
        owner=np.arange(count),
        first=np.arange(count + 1),
    )


def small_member(seed: int = 0) -> Member:
    torch.manual_seed(seed)
    net = GoogLeNet(NET)
    torch.nn.init.normal_(net.fc.weight, std=0.3)
    net(torch.randn(8, 3, 32, 32))
    return Member(net.eval(), CROP, Normalization())


def test_drawn_regions_show_their_objects() -> None:
    regions = draw_regions(pool(), SamplingConfig(iou_foreground=0.1), CONFIG)
    assert len(regions.boxes) == 32
    assert (paired_iou(regions.boxes, regions.truth) >= 0.6).all()
    assert (np.diff(regions.owner) >= 0).all()
    assert len(np.unique(regions.boxes, axis=0)) > 20
    np.testing.assert_array_equal(regions.labels, regions.owner % 2)
    again = draw_regions(pool(), SamplingConfig(iou_foreground=0.1), CONFIG)
    np.testing.assert_array_equal(again.boxes, regions.boxes)
    few = draw_regions(pool(), SamplingConfig(), CONFIG.model_copy(update={"regions": 5}))
    assert len(few.boxes) == 5
    empty = pool(0)
    with pytest.raises(UserError, match="no object"):
        draw_regions(empty, SamplingConfig(), CONFIG)


@pytest.mark.parametrize("batch", [3, 8, 1000])
def test_features_are_the_last_map_of_each_region_whatever_the_batch(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.experiment.regression.CPU_BATCH", batch)
    pictures = pool(4)
    regions = draw_regions(pictures, SamplingConfig(), CONFIG)
    found = region_features(small_member(), pictures, regions, 2, CPU)
    net = small_member().net
    with torch.inference_mode():
        for row in (0, 5, 15):
            image = pictures.images[int(regions.owner[row])]
            x = to_tensor(crop_regions(image, regions.boxes[row : row + 1], CROP, Normalization().fill))
            expected = grid_features(net.trunk(Normalization()(x)), 2)[0]
            np.testing.assert_allclose(found[row], expected, rtol=5e-3, atol=5e-3)


def fit(folder: Path, model: Path, number: int = 0, **changes: Any) -> tuple[Member, list[str], list[int]]:
    said: list[str] = []
    read: list[int] = []
    config = read_model_config(model).members[number]

    def training() -> tuple[ImagePool, SamplingConfig]:
        read.append(1)
        return pool(), SamplingConfig()

    settings = CONFIG.model_copy(update=changes)
    member = ensure_regression(folder, number, read_member(model, config), config, training, settings, CPU, said.append)
    return member, said, read


@pytest.fixture
def model(tmp_path: Path) -> Path:
    members = [small_member(seed) for seed in range(2)]
    nets = [(NET, m.net.state_dict(), CROP, m.normalization) for m in members]
    facts: dict[str, Any] = {"name": "t", "class_names": ("cat", "dog"), "class_keys": ("1", "2"), "licence": "MIT"}
    save_model(tmp_path / "model", nets, **facts)
    return tmp_path / "model"


def test_a_fitted_regression_is_not_fitted_again_but_for_another_network(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "regression"
    member, said, read = fit(folder, model)
    assert member.has_box_head
    assert len(read) == 1
    assert "held-out regions overlap their objects by" in said[0]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again, said, read = fit(folder, model)
    assert (said, read) == ([], [])
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    for name, tensor in member.head.state_dict().items():  # type: ignore[union-attr]
        np.testing.assert_array_equal(tensor, again.head.state_dict()[name])  # type: ignore[union-attr]
    text = fitted_path(folder, 0).read_text()
    network = read_model_config(model).members[0].sha256
    fitted_path(folder, 0).write_text(text.replace(network, "f" * 64))
    assert len(fit(folder, model)[2]) == 1
    (folder / "head-0.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"head-0\.safetensors"):
        fit(folder, model)


@pytest.mark.parametrize("kind", ["shared", "class"])
def test_the_model_with_regression_names_as_before_and_moves_as_fitted(
    model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    features = small_member().net.num_features * 4

    def known(*_: Any) -> Fitted:
        count = 1 if kind == "shared" else 2
        weights = rng.normal(0, 0.01, (count, 4, features))
        return Fitted(weights, rng.normal(0, 0.05, (count, 4)), kind, 1.0, 0.5, 0.6)  # type: ignore[arg-type]

    monkeypatch.setattr("detector.experiment.regression_files.fit_boxes", known)
    member, _, _ = fit(tmp_path / "regression", model)
    config = with_heads(model, [member.head, None], tmp_path / "moving")
    assert [m.head is not None for m in config.members] == [True, False]
    assert config == read_model_config(tmp_path / "moving")
    plain = load_model(model, device="cpu").classifier
    moving = load_model(tmp_path / "moving", device="cpu", score_threshold=0.0)
    image, boxes = pool().images[0], pool().boxes
    assert isinstance(moving.classifier, Ensemble)
    probs, moved, _ = moving.classifier.examine(image, boxes)
    np.testing.assert_allclose(probs, plain.predict(image, boxes), atol=1e-5)
    np.testing.assert_allclose(moved, Ensemble([member], CPU).examine(image, boxes).boxes, atol=1e-3)
    assert np.abs(encode(boxes, moved[:, 0])).max() > 0.01
    assert (kind == "shared") == bool((moved[:, 0] == moved[:, 1]).all())
    first_only = load_model(tmp_path / "moving", device="cpu", members=1, score_threshold=0.0)
    assert len(first_only(image)) > 0
    with pytest.raises(UserError, match="is a model directory already"):
        with_heads(model, [member.head], tmp_path / "moving")


def test_a_member_has_one_head() -> None:
    member = small_member()
    none = Fitted(np.zeros((1, 4, member.net.num_features)), np.zeros((1, 4)), "none", 1.0, 0.5, 0.5)
    headed = with_box_regression(member, none, 1)
    with pytest.raises(ValueError, match="has grid and shared already"):
        with_box_regression(headed, none, 1)
    image, boxes = pool().images[0], pool().boxes
    moved = Ensemble([headed], CPU).examine(image, boxes).boxes
    np.testing.assert_allclose(moved[:, 0], boxes, atol=1e-4)
