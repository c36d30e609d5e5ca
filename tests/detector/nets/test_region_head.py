"""Heads on a trunk: in memory, on disk, in an ensemble, and what the pipeline does with the boxes they move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble, RegionClassifier, RegionPredictions
from detector.detection.member import Member
from detector.detection.pipeline import Detector
from detector.detection.suppression import PostprocessConfig, RefinementConfig, next_regions, postprocess
from detector.model.config import MODEL_FILE, ModelConfig, read_model_config
from detector.model.load import load_model, read_member
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Trunk
from detector.nets.region_head import HeadShape, RegionHead, grid_features, pooled_features
from detector.nets.weights import Normalization, load_into, read_weights, to_tensor
from detector.recipes.initialization import initialise
from detector.types import Detections
from proposals.boxes import decode
from proposals.errors import UserError
from proposals.types import Proposals

NET = GoogLeNetConfig(num_outputs=4, norm="batch", width=0.1, stem="stride4")
FEATURES = GoogLeNet(NET).num_features
CROP = CropConfig(size=32, context_pad=2)
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
BOXES = np.array([[2, 3, 30, 40], [10, 0, 60, 20], [0, 0, 64, 48]], np.float32)


def random_head(kind: Any = "softmax", grid: int = 2, seed: int = 0, classes: int = 2) -> RegionHead:
    torch.manual_seed(seed)
    head = RegionHead(HeadShape(kind=kind, grid=grid), classes, FEATURES)
    if head.regress is not None:
        torch.nn.init.normal_(head.regress.weight, std=1e-4)
    return head.eval()


def random_trunk(seed: int = 0) -> Trunk:
    torch.manual_seed(seed)
    return Trunk(NET).eval()


def write_model(folder: Path, head: RegionHead | None = None, **changes: Any) -> Path:
    head = head or random_head()
    facts: dict[str, Any] = {
        "name": "t", "class_names": ("cat", "dog"), "class_keys": ("1", "2"), "licence": "MIT",
        "refinement": RefinementConfig() if head.shape.grid else None, **changes,
    }  # fmt: skip
    save_model(folder, [(NET, random_trunk().state_dict(), CROP, Normalization())], heads=[head], **facts)
    return folder


# --- the head ----------


@pytest.mark.parametrize("shared", [False, True])
def test_softmax_probabilities_and_deltas_of_each_class_or_of_all(shared: bool) -> None:
    torch.manual_seed(0)
    head = RegionHead(HeadShape(kind="softmax", grid=2, shared=shared), 2, FEATURES).eval()
    seen = torch.randn(5, FEATURES, 3, 3)
    probs, deltas, overlap = head(seen)
    assert overlap is None
    np.testing.assert_allclose(probs.sum(1).detach(), np.ones(5), rtol=1e-5)
    assert head.regress is not None
    assert deltas is not None
    flat = head.regress(grid_features(seen, 2))
    assert flat.shape[1] == (4 if shared else 8)
    assert deltas.shape == (5, 2, 4)
    for label in range(2):
        np.testing.assert_array_equal(
            deltas[:, label].detach(), flat.view(5, -1, 4)[:, 0 if shared else label].detach()
        )
    assert head(seen[:0]).deltas.shape == (0, 2, 4)


def test_machines_keep_their_order_and_leave_the_rest_to_background() -> None:
    head, seen = random_head("svm", grid=0), torch.randn(40, FEATURES, 2, 2)
    with torch.no_grad():
        head.slope.copy_(torch.tensor([0.5, 3.0]))
        head.offset.copy_(torch.tensor([-1.0, 0.3]))
        probs, deltas, _ = head(seen)
        margins = head.classify(pooled_features(seen))
    assert deltas is None
    for label in range(2):
        by_margin = probs[:, label][torch.argsort(margins[:, label])]
        assert bool((by_margin[1:] >= by_margin[:-1]).all())
        assert len(by_margin.unique()) > 30
    np.testing.assert_allclose(probs[:, 2], 1 - probs[:, :2].max(1).values, rtol=1e-6)
    assert bool(((probs >= 0) & (probs <= 1)).all())


def test_grid_features_know_where_and_pooled_ones_do_not() -> None:
    left, right = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    left[..., 0], right[..., 3] = 1, 1
    np.testing.assert_array_equal(pooled_features(left), pooled_features(right))
    assert not torch.equal(grid_features(left, 2), grid_features(right, 2))


# --- the classifier ----------


def test_predictions_are_those_of_the_trunk_with_its_head() -> None:
    head, trunk = random_head(), random_trunk()
    ensemble = Ensemble([Member(trunk, CROP, Normalization(), head)], torch.device("cpu"), batch_size=2)
    probs, moved, _ = ensemble.predict(IMAGE, BOXES)
    assert probs.shape == (3, 3)
    assert moved.shape == (3, 2, 4)
    with torch.inference_mode():
        crops = crop_regions(IMAGE, BOXES, CROP, Normalization().fill)
        expected, deltas, _ = head(random_trunk().trunk(Normalization()(to_tensor(crops))))
    np.testing.assert_allclose(probs, expected, atol=1e-4)
    for label in range(2):
        np.testing.assert_allclose(moved[:, label], decode(BOXES, deltas[:, label].numpy()), rtol=1e-3, atol=0.05)


def test_members_are_averaged() -> None:
    members = [Member(random_trunk(s), CROP, Normalization(), random_head(seed=s)) for s in (0, 1)]
    alone = [Ensemble([m], torch.device("cpu")).predict(IMAGE, BOXES) for m in members]
    again = [Member(random_trunk(s), CROP, Normalization(), random_head(seed=s)) for s in (0, 1)]
    both = Ensemble(again, torch.device("cpu")).predict(IMAGE, BOXES)
    np.testing.assert_allclose(both[0], (alone[0][0] + alone[1][0]) / 2, atol=1e-5)
    # Centres average; sides average in their logarithms.
    centre = [(m[..., :2] + m[..., 2:]) / 2 for _, m, _ in (*alone, both)]
    np.testing.assert_allclose(centre[2], (centre[0] + centre[1]) / 2, rtol=1e-3, atol=0.02)


def test_mirror_images_are_averaged_with_their_objects_on_the_other_side() -> None:
    head = random_head()
    ensemble = Ensemble([Member(random_trunk(), CROP, Normalization(), head)], torch.device("cpu"))
    probs, moved, _ = ensemble.predict(IMAGE, BOXES, mirror=True)
    with torch.inference_mode():
        x = Normalization()(to_tensor(crop_regions(IMAGE, BOXES, CROP, Normalization().fill)))
        (p, d, _), (p_mirror, d_mirror, _) = (head(random_trunk().trunk(view)) for view in (x, x.flip(3)))
    np.testing.assert_allclose(probs, (p + p_mirror) / 2, atol=1e-4)
    deltas = ((d + d_mirror * torch.tensor([-1.0, 1, 1, 1])) / 2).numpy()
    for label in range(2):
        np.testing.assert_allclose(moved[:, label], decode(BOXES, deltas[:, label]), rtol=1e-3, atol=0.05)


def test_members_without_regression_have_a_say_in_the_class_alone() -> None:
    def members() -> list[Member]:
        return [
            Member(random_trunk(s), CROP, Normalization(), random_head(grid=g, seed=s)) for s, g in ((0, 0), (1, 2))
        ]

    plain, moving = (Ensemble([m], torch.device("cpu")) for m in members())
    assert plain.predict(IMAGE, BOXES).boxes is None
    both = Ensemble(members(), torch.device("cpu"))
    for mirror in (False, True):
        moved = both.predict(IMAGE, BOXES, mirror=mirror).boxes
        np.testing.assert_allclose(moved, moving.predict(IMAGE, BOXES, mirror=mirror).boxes, atol=1e-3)
    expected = (plain.predict(IMAGE, BOXES).probs + moving.predict(IMAGE, BOXES).probs) / 2
    np.testing.assert_allclose(both.predict(IMAGE, BOXES).probs, expected, atol=1e-5)
    (own, nothing, _), (others, deltas, _) = both.predict_members(IMAGE, BOXES)
    assert nothing is None
    np.testing.assert_allclose(own, plain.predict(IMAGE, BOXES).probs, atol=1e-6)
    np.testing.assert_allclose(others, moving.predict(IMAGE, BOXES).probs, atol=1e-6)
    assert deltas is not None
    assert deltas.shape == (3, 2, 4)


# --- what is detected with it ----------


def test_each_class_is_suppressed_by_its_own_boxes() -> None:
    """And the moved boxes are cut to the image, and lost outside of it."""
    apart, same = [0, 0, 10, 10], [30, 30, 40, 40]
    outside = [[-9, -9, 0, 0], [60, 60, 70, 70]]
    boxes = np.array([[[-5, 0, 10, 10], same], [[20, 0, 30, 10], same], outside], np.float32)  # (regions, classes, 4)
    probs = np.array([[0.9, 0.8, 0.0], [0.7, 0.6, 0.0], [0.9, 0.9, 0.0]], np.float32)
    found = postprocess(boxes, probs, (50, 50), PostprocessConfig(score_threshold=0.1))
    assert found.labels.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(found.boxes, [apart, same, [20, 0, 30, 10]])


def test_next_regions_are_the_best_moved_boxes_of_any_class() -> None:
    boxes = np.array(
        [[[0, 0, 10, 10], [0, 0, 10, 10.5]], [[20, 20, 40, 40], [0, 30, 10, 50]], [[5, 5, 9, 9], [1, 1, 3, 3]]],
        np.float32,
    )
    probs = np.array([[0.9, 0.8, 0.1], [0.05, 0.6, 0.3], [0.01, 0.3, 0.7]], np.float32)
    config = RefinementConfig(score_threshold=0.04, nms_threshold=0.8, max_regions=3)
    # 0.8 nearly repeats 0.9; of the others the three best stay, and 0.01 is below the threshold.
    expected = [[0, 0, 10, 10], [0, 30, 10, 50], [1, 1, 3, 3]]
    np.testing.assert_array_equal(next_regions(boxes, probs, (60, 60), config), expected)


class Walker(RegionClassifier):
    """Moves every region 10 pixels to the right, and is surer of those further right."""

    def __init__(self) -> None:
        self.seen: list[NDArray[np.float32]] = []
        self.mirrored: list[bool] = []
        self.members: list[int | None] = []

    def predict(
        self, image: object, boxes: NDArray[np.float32], *, mirror: bool = False, members: int | None = None
    ) -> RegionPredictions:
        self.seen.append(boxes)
        self.mirrored.append(mirror)
        self.members.append(members)
        score = boxes[:, :1] / 100
        moved = (boxes + np.float32([10, 0, 10, 0]))[:, None]
        return RegionPredictions(np.concatenate([score, 1 - score], axis=1), moved)


def walked(walker: Walker, boxes: NDArray[np.float32], looks: RefinementConfig, nms: float = 0.9) -> Detections:
    """What is found of ``boxes`` in an image of 100 pixels' width."""
    detector: Any = Detector(None, walker, ("a",), PostprocessConfig(score_threshold=0, nms_threshold=nms), None, looks)  # type: ignore[arg-type]
    proposals = Proposals(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.uint8), (50, 100))
    return detector.classify(np.zeros((50, 100, 3), np.uint8), proposals)


@pytest.mark.parametrize(("rounds", "every"), [(1, False), (2, False), (3, False), (3, True)])
def test_rounds_move_regions_on_and_each_counts_if_asked_for(rounds: int, every: bool) -> None:
    walker, box = Walker(), np.array([[20, 5, 30, 15]], np.float32)
    found = walked(walker, box, RefinementConfig(rounds=rounds, score_threshold=0, every_round=every))
    counted = np.arange(rounds, 0, -1)[: rounds if every else 1]
    np.testing.assert_allclose(found.boxes, box + np.array([10, 0, 10, 0]) * counted[:, None])
    np.testing.assert_allclose(found.scores, 0.1 + 0.1 * counted)
    assert [int(boxes[0, 0]) for boxes in walker.seen] == [20 + 10 * i for i in range(rounds)]
    assert walker.mirrored == [False] + [True] * (rounds - 1)
    assert walker.members == [None] * rounds


@pytest.mark.parametrize(
    ("score_threshold", "max_regions", "seen_by_all"),
    [(0, 100, [40, 30, 20, 0]), (0.25, 100, [40, 30]), (0, 3, [40, 30, 20]), (0.5, 100, [])],
)
def test_in_a_cascade_all_networks_look_at_the_best_regions_of_the_first(
    score_threshold: float, max_regions: int, seen_by_all: list[int]
) -> None:
    class Cascade(Walker):
        def predict(self, *args: Any, members: int | None = None, **given: Any) -> RegionPredictions:
            found = super().predict(*args, members=members, **given)
            return found if members is not None else found._replace(probs=found.probs * np.float32([0.5, 1]))

    walker = Cascade()
    looks = RefinementConfig(
        rounds=1, first_members=2, score_threshold=score_threshold, max_regions=max_regions, nms_threshold=1
    )
    found = walked(walker, np.float32([[x, 5, x + 10, 15] for x in (20, 40, 0, 30)]), looks, nms=1)
    assert walker.members == [2, None]
    assert walker.seen[1][:, 0].tolist() == seen_by_all
    lefts = (found.boxes[:, 0] - 10).round().astype(int)
    expected = {x: x / 100 * (0.5 if x in seen_by_all else 1) for x in (20, 40, 0, 30)}
    assert dict(zip(lefts.tolist(), found.scores.tolist(), strict=True)) == pytest.approx(expected)


# --- on disk ----------


@pytest.mark.parametrize(("kind", "grid"), [("softmax", 2), ("svm", 3), ("svm", 0)])
def test_round_trip(tmp_path: Path, kind: str, grid: int) -> None:
    head = random_head(kind, grid)
    folder = write_model(tmp_path / "m", head)
    config = read_model_config(folder)
    assert config.members[0].head == HeadShape(kind=kind, grid=grid)  # type: ignore[arg-type]
    model = load_model(folder, device="cpu", score_threshold=0.0, max_proposals=30)
    assert (model.refinement is None) == (grid == 0)
    trunk = Trunk(NET)  # as stored, in float16
    state = read_weights(folder / "member-0.safetensors")
    load_into(trunk, {n.removeprefix("trunk."): t for n, t in state.items() if n.startswith("trunk.")}, folder)
    expected = Ensemble([Member(trunk, CROP, Normalization(), head)], torch.device("cpu")).predict(IMAGE, BOXES).probs
    np.testing.assert_allclose(model.classifier.predict(IMAGE, BOXES).probs, expected, atol=1e-5)
    assert len(model(IMAGE)) > 0


@pytest.mark.parametrize(
    ("networks", "wanted", "cascade"),
    [(1, {}, None), (2, {}, 1), (2, {"exact": True}, None), (2, {"members": 1}, None)],
)
def test_a_cascade_needs_another_network_and_can_be_undone(
    tmp_path: Path, networks: int, wanted: dict[str, Any], cascade: int | None
) -> None:
    nets = [(NET, random_trunk(seed).state_dict(), CROP, Normalization()) for seed in range(networks)]
    names = ("cat", "dog")
    save_model(
        tmp_path, nets, heads=[random_head(seed=seed) for seed in range(networks)], name="t", class_names=names,
        class_keys=names, licence="MIT", refinement=RefinementConfig(first_members=1),
    )  # fmt: skip
    looks = load_model(tmp_path, device="cpu", **wanted).refinement
    assert looks is not None
    assert looks.first_members == cascade


def test_the_number_of_looks_is_the_model_s_or_one_s_own(tmp_path: Path) -> None:
    nets = [(NET, random_trunk().state_dict(), CROP, Normalization())]
    facts: dict[str, Any] = {"class_names": ("cat", "dog"), "class_keys": ("cat", "dog"), "licence": "MIT", "name": "t"}
    save_model(tmp_path / "two", nets, heads=[random_head()], refinement=RefinementConfig(rounds=2), **facts)
    save_model(tmp_path / "none", nets, heads=[random_head()], **facts)
    rounds = [load_model(tmp_path / "two", device="cpu", looks=looks).refinement for looks in (None, 1, 3)]
    assert [each.rounds for each in rounds if each is not None] == [2, 1, 3]
    assert load_model(tmp_path / "none", device="cpu", looks=1).refinement is None
    for folder, looks, words in (("none", 2, "looks once at each region"), ("two", 11, "rounds")):
        with pytest.raises(UserError, match=words):
            load_model(tmp_path / folder, device="cpu", looks=looks)


def test_a_threshold_of_ones_own_takes_soft_suppressions_place(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", postprocess=PostprocessConfig(soft_sigma=0.3))
    assert load_model(folder, device="cpu").config.soft_sigma == 0.3
    changed = load_model(folder, device="cpu", nms_threshold=0.4).config
    assert (changed.soft_sigma, changed.nms_threshold) == (None, 0.4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"head": None}, "refinement is for members that have", id="refinement without regression"),
        pytest.param({"head": {"kind": "tree", "grid": 2}}, "svm", id="unknown kind"),
        pytest.param({"head": {"kind": "softmax", "grid": 2, "colour": 1}}, "unknown key", id="unknown key"),
        pytest.param({"head": {"kind": "softmax", "grid": 3}}, "does not fit the network", id="another grid"),
        pytest.param({"head": None, "shared": {}}, "shared maps; that needs a head", id="shared maps without head"),
        pytest.param({"net": {"kind": "resnet"}}, "net.kind: Input should be 'googlenet'", id="unknown network"),
    ],
)
def test_a_wrong_model_yaml_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = write_model(tmp_path / "m")
    content = yaml.safe_load((folder / MODEL_FILE).read_text())
    content["members"][0].update(change)
    content["members"][0]["net"]["num_outputs"] = 3
    (folder / MODEL_FILE).write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        load_model(folder, device="cpu")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_softmax_head_is_the_last_layer_of_a_net_of_its_classes(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    member = read_member(folder, read_model_config(folder).members[0], 2)
    assert member.head is not None
    net = GoogLeNet(NET.model_copy(update={"num_outputs": 3}))
    initialise(net, str(folder), ("1", "2"))
    assert torch.equal(net.fc.weight, member.head.classify.weight)
    crops = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        member.net.eval()
        expected = member.output(crops).probs
        torch.testing.assert_close(torch.softmax(net.eval()(crops), 1), expected, atol=1e-4, rtol=1e-3)


def test_of_members_with_and_without_regression_the_first_must_have_it(tmp_path: Path) -> None:
    content = yaml.safe_load((write_model(tmp_path / "m") / MODEL_FILE).read_text())
    plain = {**content["members"][0], "file": "other.safetensors", "head": None}
    plain["net"] = {**plain["net"], "num_outputs": 3}
    with_it = content["members"][0]
    assert len(ModelConfig.model_validate({**content, "members": [with_it, plain]}).members) == 2
    with pytest.raises(ValueError, match="the first one must"):
        ModelConfig.model_validate({**content, "members": [plain, with_it]})


def test_machines_have_no_temperature(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", random_head("svm", 2), temperature=1.0)
    content = yaml.safe_load((folder / MODEL_FILE).read_text())
    with pytest.raises(ValueError, match="temperature is for softmaxes"):
        ModelConfig.model_validate({**content, "temperature": 2.0})
