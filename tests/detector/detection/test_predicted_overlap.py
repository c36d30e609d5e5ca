"""Predicted overlaps: in a head, in an ensemble, in scores and detections, and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble, ImageView, RegionClassifier, RegionPredictions
from detector.detection.member import Member
from detector.detection.pipeline import Detector
from detector.detection.suppression import LEAST_OVERLAP, PostprocessConfig, RefinementConfig, scored
from detector.model.config import MODEL_FILE, ModelConfig
from detector.model.load import load_model
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Trunk
from detector.nets.region_head import HeadShape, RegionHead, grid_features
from detector.nets.weights import Normalization, to_tensor
from proposals.errors import UserError
from proposals.types import Proposals

NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
CROP = CropConfig(size=32, context_pad=2)
CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
BOXES = np.array([[2, 3, 30, 40], [10, 0, 60, 20], [0, 0, 64, 48]], np.float32)


def judging_head(overlap: int = 2, grid: int = 0, seed: int = 0, std: float = 1e-4) -> RegionHead:
    torch.manual_seed(seed)
    head = RegionHead(HeadShape(kind="softmax", grid=grid, overlap=overlap), 2, GoogLeNet(NET).num_features)
    if head.judge is not None:
        torch.nn.init.normal_(head.judge.weight, std=std)
        torch.nn.init.constant_(head.judge.bias, 0.5)
    return head.eval()


def member(overlap: int = 2, seed: int = 0) -> Member:
    torch.manual_seed(seed)
    return Member(Trunk(NET).eval(), CROP, Normalization(), judging_head(overlap, seed=seed))


# --- the head and the ensemble ----------


def test_the_overlap_is_a_sigmoid_of_what_is_linear_in_the_grid() -> None:
    head, seen = judging_head(std=0.01), 50 * torch.randn(40, GoogLeNet(NET).num_features, 3, 3)
    with torch.inference_mode():
        output = head(seen)
        assert head.judge is not None
        raw = head.judge(grid_features(seen, 2))[:, 0]
    assert output.deltas is None
    assert output.overlap.shape == (40,)
    assert raw.min() < 0 < raw.max()
    np.testing.assert_array_equal(output.overlap, raw.sigmoid())
    assert head(seen[:0]).overlap.shape == (0,)


def test_overlaps_are_averaged_over_the_members_that_have_them() -> None:
    alone = [Ensemble([member(seed=s)], CPU).predict(IMAGE, BOXES).overlap for s in (0, 1)]
    three = Ensemble([member(seed=0), member(seed=1), member(overlap=0, seed=2)], CPU)
    found = three.predict(IMAGE, BOXES)
    assert alone[0] is not None
    assert alone[1] is not None
    assert found.overlap is not None
    np.testing.assert_allclose(found.overlap, (alone[0] + alone[1]) / 2, atol=1e-6)
    assert np.ptp(found.overlap) > 0.001
    assert found.boxes is None
    np.testing.assert_array_equal(found.probs, three.predict(IMAGE, BOXES).probs)
    own = three.predict_members(IMAGE, BOXES)
    assert [o.overlap is None for o in own] == [False, False, True]
    np.testing.assert_allclose(own[1].overlap, alone[1], atol=1e-6)
    assert Ensemble([member(overlap=0)], CPU).predict(IMAGE, BOXES).overlap is None


def test_a_mirror_image_is_averaged_in() -> None:
    one = member()
    found = Ensemble([one], CPU, batch_size=2).predict(IMAGE, BOXES, mirror=True)
    with torch.inference_mode():
        x = Normalization()(to_tensor(crop_regions(IMAGE, BOXES, CROP, Normalization().fill)))
        sides = [one.output(view).overlap for view in (x, x.flip(3))]
    assert sides[0] is not None
    assert sides[1] is not None
    np.testing.assert_allclose(found.overlap, (sides[0] + sides[1]) / 2, atol=1e-5)


# --- scores ----------

UNIT = st.floats(0, 1, width=32)


@given(arrays(np.float32, (7, 4), elements=UNIT), arrays(np.float32, 7, elements=UNIT), st.floats(0.1, 5))
def test_scores_keep_their_sum_and_the_order_within_a_region(
    probs: NDArray[np.float32], overlap: NDArray[np.float32], power: float
) -> None:
    found = scored(probs, overlap, power)
    np.testing.assert_allclose(found.sum(axis=1), probs.sum(axis=1), rtol=1e-5, atol=1e-6)
    expected = probs[:, :3] * np.maximum(overlap, LEAST_OVERLAP)[:, None].astype(np.float64) ** power
    np.testing.assert_allclose(found[:, :3], expected, rtol=1e-4, atol=1e-6)
    assert bool((found[:, 3] >= probs[:, 3] - 1e-6).all())


def test_without_power_scores_are_the_probabilities_and_with_it_overlaps_are_needed() -> None:
    probs = np.array([[0.2, 0.8]], np.float32)
    assert scored(probs, None, 0) is probs
    with pytest.raises(ValueError, match="does not predict"):
        scored(probs, None, 1.0)


class Judge(RegionClassifier):
    """Sure of everything; regions overlap their object by a hundredth of their width."""

    def predict(
        self, image: object, boxes: NDArray[np.float32], *, mirror: bool = False, members: int | None = None
    ) -> RegionPredictions:
        probs = np.tile(np.float32([0.9, 0.1]), (len(boxes), 1))
        return RegionPredictions(probs, None, (boxes[:, 2] - boxes[:, 0]) / 100)


def test_the_region_that_lies_better_wins() -> None:
    boxes = np.array([[0, 0, 50, 50], [0, 0, 60, 50]], np.float32)
    proposals = Proposals(boxes, np.ones(2, np.float32), np.zeros(2, np.uint8), (50, 100))
    for power, score, winner in ((0.0, 0.9, 0), (1.0, 0.54, 1), (2.0, 0.324, 1)):
        detector = Detector(None, Judge(), ("a",), PostprocessConfig(overlap_power=power))  # type: ignore[arg-type]
        found = detector.classify(np.zeros((50, 100, 3), np.uint8), proposals)
        np.testing.assert_allclose(found.scores, [score], rtol=1e-5)
        np.testing.assert_array_equal(found.boxes, boxes[[winner]])


def test_refinement_without_regression_is_refused() -> None:
    detector = Detector(None, Judge(), ("a",), PostprocessConfig(), None, RefinementConfig())  # type: ignore[arg-type]
    proposals = Proposals(BOXES, np.ones(3, np.float32), np.zeros(3, np.uint8), (48, 64))
    with pytest.raises(ValueError, match="no box regression"):
        detector.classify(IMAGE, proposals)


# --- on disk ----------


def write_model(folder: Path, head: RegionHead, **changes: Any) -> Path:
    torch.manual_seed(0)
    facts: dict[str, Any] = {
        "name": "t", "class_names": ("cat", "dog"), "class_keys": ("1", "2"), "licence": "MIT", **changes,
    }  # fmt: skip
    save_model(folder, [(NET, Trunk(NET).state_dict(), CROP, Normalization())], heads=[head], **facts)
    return folder


def test_a_model_directory_keeps_them(tmp_path: Path) -> None:
    power = PostprocessConfig(overlap_power=2.0, score_threshold=0.0)
    model = load_model(write_model(tmp_path / "m", judging_head(), postprocess=power), device="cpu")
    plain = load_model(
        write_model(tmp_path / "p", judging_head(overlap=0), postprocess=PostprocessConfig()), device="cpu"
    )
    assert isinstance(model.classifier, Ensemble)
    overlap = model.classifier.predict(IMAGE, BOXES).overlap
    assert overlap is not None
    np.testing.assert_allclose(
        model.classifier.predict(IMAGE, BOXES).probs, plain.classifier.predict(IMAGE, BOXES).probs, atol=1e-6
    )
    proposals = Proposals(BOXES, np.ones(3, np.float32), np.zeros(3, np.uint8), (48, 64))
    best = (model.classifier.predict(IMAGE, BOXES).probs[:, :2] * overlap[:, None] ** 2).max()
    np.testing.assert_allclose(model.classify(ImageView(IMAGE), proposals).scores[0], best, rtol=1e-5)


def test_a_power_without_overlaps_is_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", judging_head(), postprocess=PostprocessConfig(overlap_power=1.0))
    content = yaml.safe_load((folder / MODEL_FILE).read_text())
    content["members"][0]["head"]["overlap"] = 0
    (folder / MODEL_FILE).write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="overlap_power is for members that predict overlaps"):
        load_model(folder, device="cpu")


def test_if_any_member_has_them_the_first_one_must(tmp_path: Path) -> None:
    content = yaml.safe_load((write_model(tmp_path / "m", judging_head()) / MODEL_FILE).read_text())
    plain = {**content["members"][0], "file": "other.safetensors", "head": None}
    judging = content["members"][0]
    assert len(ModelConfig.model_validate({**content, "members": [judging, plain]}).members) == 2
    with pytest.raises(ValueError, match="predicted overlaps, the first one must"):
        ModelConfig.model_validate({**content, "members": [plain, judging]})
