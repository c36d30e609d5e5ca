"""Overlaps that an experiment predicts: which regions are drawn, what is fitted, its files, and variants with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.crop import CropConfig
from detector.detection.ensemble import Ensemble, Member
from detector.detection.suppression import PostprocessConfig, postprocess, scored
from detector.experiment.headed_model import with_heads
from detector.experiment.measure import Sources, Study
from detector.experiment.overlap import (
    FittedOverlap,
    OverlapConfig,
    ProposedRegions,
    best_overlap,
    draw_proposed,
    fit_overlap,
    with_overlap,
)
from detector.experiment.overlap_files import TrainingRegions, ensure_overlap, overlap_path
from detector.experiment.recipe import read_experiment
from detector.experiment.regression import Fitted, with_box_regression
from detector.experiment.variants import Variant
from detector.model.config import read_model_config
from detector.model.load import load_model, read_member
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.weights import Normalization
from detector.training.common_ridge import RidgeSums
from detector.training.pool import ImagePool
from proposals.errors import ImageTooSmall, UserError
from proposals.merge import MergeConfig
from proposals.types import Proposals

NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
CROP = CropConfig(size=32, context_pad=2)
CPU = torch.device("cpu")
CONFIG = OverlapConfig(grid=2, pictures=4, regions=6, near=3, held_out=0.3, penalties=(1.0, 1000.0))
CONFIGS = Path(__file__).resolve().parents[3] / "configs"
LOW = PostprocessConfig(score_threshold=0.001, nms_threshold=0.5)


def small_member(seed: int = 0) -> Member:
    torch.manual_seed(seed)
    return Member(GoogLeNet(NET).eval(), CROP, Normalization())


def pool(count: int = 4) -> ImagePool:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 48, 3), dtype=np.uint8) for _ in range(count)]
    boxes = np.array([[4, 4, 24, 24], [20, 10, 44, 36]], np.float32)
    return ImagePool(
        images=images,
        sizes=np.tile(np.array([40, 48], np.float32), (count, 1)),
        boxes=np.tile(boxes, (count, 1)),
        labels=np.tile([0, 1], count),
        owner=np.repeat(np.arange(count), 2),
        first=np.arange(count + 1) * 2,
    )


class Shifts:
    """Proposes boxes at many places; refuses pictures with a side below ``smallest``."""

    def __init__(self, smallest: int = 1) -> None:
        self.smallest, self.calls = smallest, 0

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        self.calls += 1
        if min(image.shape[:2]) < self.smallest:
            raise ImageTooSmall("too small")
        x, y = np.meshgrid(np.arange(0, 28, 4), np.arange(0, 20, 4))
        corner = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
        boxes = np.concatenate([corner, corner + 20], 1)
        return Proposals(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.uint8), (40, 48))


# --- regions ----------


def test_the_best_overlap_is_with_any_object() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]], np.float32)
    objects = np.array([[0, 0, 10, 10], [4, 0, 14, 10]], np.float32)
    np.testing.assert_allclose(best_overlap(boxes, objects), [1, 9 / 11, 0], rtol=1e-6)
    np.testing.assert_array_equal(best_overlap(boxes, objects[:0]), [0, 0, 0])
    assert best_overlap(boxes[:0], objects).shape == (0,)


def test_regions_are_drawn_at_random_and_more_of_those_near_an_object() -> None:
    pictures = pool()
    every = Shifts().propose(pictures.images[0]).boxes
    truth = best_overlap(every, pictures.boxes[:2])
    found = draw_proposed(pictures, Shifts(), CONFIG)
    for number in range(4):
        rows = found.owner == number
        assert 6 <= rows.sum() <= 9
        for box, overlap in zip(found.boxes[rows], found.overlap[rows], strict=True):
            (at,) = np.flatnonzero((every == box).all(axis=1))
            assert overlap == pytest.approx(truth[at])
        assert (found.overlap[rows] >= 0.4).sum() >= 3
    assert (found.owner[:-1] <= found.owner[1:]).all()
    again = draw_proposed(pictures, Shifts(), CONFIG)
    np.testing.assert_array_equal(found.boxes, again.boxes)
    far = draw_proposed(pictures, Shifts(), CONFIG.model_copy(update={"near": 0}))
    assert len(far.boxes) == 24
    with pytest.raises(UserError, match="nothing is proposed"):
        draw_proposed(pictures, Shifts(smallest=100), CONFIG)


# --- the fit ----------


def learnable(n: int = 400, seed: int = 0) -> tuple[NDArray[np.float16], ProposedRegions]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, 8)).astype(np.float16)
    overlap = np.clip(0.4 + x[:, 0].astype(np.float32) * 0.1 - x[:, 3].astype(np.float32) * 0.05, 0, 1)
    return x, ProposedRegions(np.zeros((n, 4), np.float32), overlap, np.arange(n) // 10)


def test_what_can_be_learned_is_learned() -> None:
    features, regions = learnable()
    fitted = fit_overlap(features, regions, CONFIG)
    assert fitted.penalty == 1
    assert fitted.correlation > 0.99
    assert fitted.error < 0.01
    assert fitted.bias == pytest.approx(0.4, abs=0.01)
    np.testing.assert_allclose(fitted.weights, [0.1, 0, 0, -0.05, 0, 0, 0, 0], atol=0.01)


def test_what_cannot_be_learned_is_the_mean() -> None:
    rng = np.random.default_rng(1)
    features, regions = learnable()
    noise = regions._replace(overlap=rng.random(400).astype(np.float32))
    fitted = fit_overlap(features, noise, CONFIG)
    assert fitted.penalty == 1000
    assert abs(fitted.correlation) < 0.4
    assert fitted.bias == pytest.approx(float(noise.overlap.mean()), abs=0.05)


def test_one_picture_is_enough() -> None:
    features, regions = learnable(20)
    fitted = fit_overlap(features, regions._replace(owner=np.zeros(20, np.int64)), CONFIG)
    assert np.isfinite(fitted.weights).all()
    assert fitted.correlation > 0.5


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5))
def test_sums_of_two_parts_are_the_sums_of_the_whole(first: int, second: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(first + second, 3)), rng.normal(size=(first + second, 2))
    whole, parts = RidgeSums(3, 2), [RidgeSums(3, 2), RidgeSums(3, 2)]
    whole.add(x, y)
    for part, rows in zip(parts, (slice(first), slice(first, None)), strict=True):
        part.add(x[rows], y[rows])
    for a, b in zip(whole.solve(1.0), (parts[0] + parts[1]).solve(1.0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


# --- the head ----------


def fitted_to(value: float, features: int, seed: int = 0) -> FittedOverlap:
    weights = np.random.default_rng(seed).normal(0, 1e-5, features)
    return FittedOverlap(weights, value, 1.0, 0.5, 0.1)


def test_probabilities_and_boxes_stay_with_it_in_either_order() -> None:
    plain = small_member()
    features = plain.net.num_features
    move = Fitted(np.zeros((1, 4, features)), np.array([[0.1, 0, 0, 0]]), "shared", 1, 0.5, 0.6)
    judge = fitted_to(0.6, features * 4)
    both = [with_overlap(with_box_regression(plain, move, 1), judge, 2),
            with_box_regression(with_overlap(plain, judge, 2), move, 1)]  # fmt: skip
    boxes = pool().boxes
    expected = Ensemble([plain], CPU).predict(pool().images[0], boxes)
    found = [Ensemble([m], CPU).examine(pool().images[0], boxes) for m in both]
    for one in found:
        np.testing.assert_allclose(one.probs, expected, atol=1e-5)
        np.testing.assert_allclose(one.boxes[:, 0, 0], boxes[:, 0] + 0.1 * (boxes[:, 2] - boxes[:, 0]), atol=1e-3)
        assert one.overlap is not None
        assert one.overlap.min() > 0.1
        np.testing.assert_allclose(one.overlap, found[0].overlap, atol=1e-6)
    with pytest.raises(ValueError, match="has overlap already"):
        with_overlap(both[0], judge, 2)


# --- files ----------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nets = [(NET, m.net.state_dict(), CROP, m.normalization) for m in map(small_member, range(2))]
    facts: dict[str, Any] = {"name": "t", "class_names": ("cat", "dog"), "class_keys": ("1", "2"), "licence": "MIT"}
    save_model(tmp_path / "model", nets, **facts)
    return tmp_path / "model"


def fit(
    folder: Path, model: Path, source: Shifts, config: OverlapConfig = CONFIG, numbers: tuple[int, ...] = (0,)
) -> tuple[list[Member], list[str]]:
    said: list[str] = []

    def advance(total: int) -> Callable[[], None]:
        return lambda: None

    training = TrainingRegions(pool, source, advance)
    members = read_model_config(model).members
    return [
        ensure_overlap(
            folder, n, read_member(model, members[n]), members[n], training, config, CPU, said.append
        )
        for n in numbers
    ], said  # fmt: skip


def test_what_is_fitted_is_kept_and_pictures_are_searched_once(model: Path, tmp_path: Path) -> None:
    folder, source = tmp_path / "overlap", Shifts()
    first, said = fit(folder, model, source, numbers=(0, 1))
    assert source.calls == 4
    assert [line[:9] for line in said] == ["member 1:", "member 2:"]
    assert "predicted with a correlation of" in said[0]
    again, said = fit(folder, model, source, CONFIG.model_copy(update={"power": 3.0}), numbers=(0, 1))
    assert (source.calls, said) == (4, [])
    boxes = pool().boxes
    for one, other in zip(first, again, strict=True):
        results = [Ensemble([m], CPU).examine(pool().images[0], boxes).overlap for m in (one, other)]
        np.testing.assert_array_equal(results[0], results[1])
    for change in ("settings", "network", "file"):
        if change == "network":
            text = overlap_path(folder, 0).read_text()
            network = read_model_config(model).members[0].sha256
            overlap_path(folder, 0).write_text(text.replace(network, "f" * 64))
        if change == "file":
            (folder / "overlap-0.safetensors").write_bytes(b"")
        settings = CONFIG.model_copy(update={"regions": 5}) if change == "settings" else CONFIG
        assert len(fit(folder, model, Shifts(), settings)[1]) == 1


def test_the_model_with_heads_predicts_overlaps_as_its_members_did(model: Path, tmp_path: Path) -> None:
    members, _ = fit(tmp_path / "overlap", model, Shifts(), numbers=(0, 1))
    config = with_heads(model, [m.head for m in members], tmp_path / "judging", overlap_power=2.0)
    assert config == read_model_config(tmp_path / "judging")
    assert (config.refinement, config.postprocess.overlap_power) == (None, 2.0)
    assert [m.head is not None and m.head.overlap for m in config.members] == [2, 2]
    judging = load_model(tmp_path / "judging", device="cpu", score_threshold=0.0).classifier
    assert isinstance(judging, Ensemble)
    image, boxes = pool().images[0], pool().boxes
    found, expected = judging.examine(image, boxes), Ensemble(members, CPU).examine(image, boxes)
    assert found.overlap is not None
    assert expected.overlap is not None
    np.testing.assert_allclose(found.overlap, expected.overlap, atol=1e-5)
    np.testing.assert_allclose(found.probs, load_model(model, device="cpu").classifier.predict(image, boxes), atol=1e-5)
    assert read_model_config(model).postprocess.overlap_power == 0


# --- variants ----------


def test_variants_with_overlap_have_their_scores_weighed(tmp_path: Path) -> None:
    features = small_member().net.num_features * 4
    members = [with_overlap(small_member(s), fitted_to(v, features, s), 2) for s, v in ((0, 0.3), (1, 0.7))]
    variants = [
        Variant(name="plain", members=(0, 1), proposals="scale2"),
        Variant(name="weighed", members=(0, 1), proposals="scale2", overlap=True),
        Variant(name="joined", members=(0, 1), proposals="scale2", overlap=True, combine="nms"),
    ]
    sources = Sources(Shifts(), Shifts(), None, MergeConfig())
    squared = LOW.model_copy(update={"overlap_power": 2.0})

    def thresholds(variant: Variant) -> PostprocessConfig:
        return squared if variant.overlap else LOW

    image = pool().images[0]
    found = Study({"seeds": members}, variants, sources, thresholds, tmp_path, CPU).look("x", lambda: image)
    boxes = Shifts().propose(image).boxes
    both = Ensemble(members, CPU).examine(image, boxes)
    expected = postprocess(boxes, scored(both.probs, both.overlap, 2.0), (40, 48), LOW)
    np.testing.assert_allclose(found["weighed"].scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(found["plain"].scores, postprocess(boxes, both.probs, (40, 48), LOW).scores, atol=1e-6)
    tables = [scored(e.probs, e.overlap, 2.0) for m in members for e in [Ensemble([m], CPU).examine(image, boxes)]]
    assert found["joined"].scores[0] == pytest.approx(max(t[:, :-1].max() for t in tables), rel=1e-4)
    plain = [small_member(s) for s in (0, 1)]
    with pytest.raises(ValueError, match="none of its members predicts overlaps"):
        Study({"seeds": plain}, variants, sources, thresholds, tmp_path, CPU)
    with pytest.raises(ValueError, match="leave context on"):
        Variant(name="x", members=(0,), context=False, overlap=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overlap": None}, "overlaps are fitted to none"),
        ({"overlap": {"members": 9}}, "overlap.members"),
        ({"postprocess": {"overlap_power": 1.0}}, "leave it 0"),
        ({"overlap": {"members": 1}, "nms": True}, "every member needs overlaps"),
    ],
)
def test_overlaps_that_do_not_fit_are_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    recipe = read_experiment(CONFIGS / "tiny_imagenet_cpu.yaml").model_dump(mode="json")
    measurement = recipe["measurement"]
    for name in ("overlap", "postprocess"):
        if name in change:
            measurement[name] = None if change[name] is None else {**(measurement[name] or {}), **change[name]}
    if "nms" in change:
        (joined,) = (v for v in measurement["variants"] if v["combine"] == "nms")
        joined["overlap"] = True
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    with pytest.raises(UserError, match=message) as caught:
        read_experiment(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)
