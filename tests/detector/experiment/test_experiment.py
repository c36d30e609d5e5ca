"""The experiment: variants are changed models, and every variant finds what the detector of its changed model finds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import numpy as np
import pytest
import torch

import detector.detection.ensemble
from detector.crop import CropConfig, crop_regions
from detector.detection.pipeline import Detector
from detector.detection.suppression import PostprocessConfig, RefinementConfig
from detector.experiment.measure import Row, Study, rows_of
from detector.experiment.variants import Variant, merged, paper_variants
from detector.model.config import ProposalConfig, read_model_config
from detector.model.load import load_model, search_source
from detector.model.save import add_multibox, save_model, write_model_config
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Trunk
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import ImageMaps, SharedMaps, sizes_by_level
from detector.nets.weights import Normalization
from detector.recipes.export import join_members
from proposals.boxes import iou
from proposals.errors import UserError
from proposals.multibox import MultiBoxConfig, MultiBoxHead
from proposals.selective_search import SelectiveSearchConfig

CPU = torch.device("cpu")
NET = GoogLeNetConfig(num_outputs=4, norm="batch", width=0.1, stem="stride4", dropout=0.0)
SHARED = SharedMaps(image_side=64, levels=2, region_side=24)
SEARCH = SelectiveSearchConfig(k=(100.0,), color_spaces=("HSV",), superpixel_scale=2.0, min_box_side=6.0)
CLASSES = ("cat", "dog", "owl")
POWERFUL = PostprocessConfig(overlap_power=1.5, soft_sigma=0.3)
TWO_LOOKS = RefinementConfig(rounds=2, score_threshold=0.02, max_regions=9, every_round=True)


def picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 110, (48, 64, 3), dtype=np.uint8)
    image[8:30, 10:40], image[28:44, 44:60] = (220, 20, 20), (20, 20, 220)
    return image


def with_head(folder: Path, seed: int, shared: SharedMaps | None) -> Path:
    """A model of one network with box regression and predicted overlaps."""
    torch.manual_seed(seed)
    trunk = Trunk(NET)
    head = RegionHead(HeadShape(kind="softmax", grid=2, shared=True, overlap=2), 3, trunk.num_features)
    for layer in (head.classify, head.regress, head.judge):
        assert layer is not None
        torch.nn.init.normal_(layer.weight, std=1e-4)
    crop = CropConfig(size=32, context_pad=4)
    facts: dict[str, Any] = {"class_names": CLASSES, "class_keys": CLASSES, "licence": "MIT", "refinement": TWO_LOOKS}
    proposals = ProposalConfig(selective_search=SEARCH, search_side=None, max_proposals=25)
    facts |= {"proposals": proposals, "postprocess": POWERFUL, "name": "t"}
    nets = [(NET, trunk.state_dict(), crop, Normalization())]
    save_model(folder, nets, heads=[head], shared=shared, half=False, **facts)
    return folder


def some_multibox() -> MultiBoxHead:
    torch.manual_seed(5)
    config = MultiBoxConfig(channels=8, count=3)
    return MultiBoxHead(NET.inception("4e").out, sizes_by_level(config, SHARED), config)


@pytest.fixture(scope="module", params=[None, SHARED], ids=["crops", "shared maps"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three networks with heads, and MultiBox; the third crops in any case."""
    root = tmp_path_factory.mktemp("models")
    parts = [with_head(root / f"part-{n}", n, request.param if n < 2 else None) for n in range(3)]
    (root / "joined").mkdir()
    join_members(parts, root / "joined", "three")
    add_multibox(root / "joined", some_multibox(), SHARED, root / "model", {})
    return root / "model"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network that names crops and does nothing else."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("plain") / "model"
    net = (NET, GoogLeNet(NET).state_dict(), CropConfig(size=32, context_pad=4), Normalization())
    where = ProposalConfig(selective_search=SEARCH.model_copy(update={"superpixel_scale": 1.0}), search_side=None)
    save_model(folder, [net], name="p", class_names=CLASSES, class_keys=CLASSES, licence="MIT", proposals=where)
    return folder


def rows(model: Path, variants: list[Variant] | None = None, threshold: float = 0.001) -> list[Row]:
    change = {"postprocess": {"score_threshold": threshold}}
    return rows_of([("m", model, read_model_config(model))], variants or [], change)


def names(variants: list[Variant]) -> list[str]:
    return [variant.name for variant in variants]


# --- variants ----------


def test_a_change_takes_the_place_of_what_it_names_and_of_nothing_else() -> None:
    settings = {"a": {"b": 1, "c": {"d": 2}}, "e": {"f": 3}, "g": 4}
    change = {"a": {"c": {"d": 5}}, "e": None, "h": {"i": 6}}
    assert merged(settings, change) == {"a": {"b": 1, "c": {"d": 5}}, "e": None, "g": 4, "h": {"i": 6}}
    assert settings["a"] == {"b": 1, "c": {"d": 2}}


def test_a_variant_changes_the_model_and_its_members(model: Path) -> None:
    config = read_model_config(model)
    assert Variant(name="x").of(config) == config
    variant = Variant(
        name="x",
        members=(2, 0),
        change={"postprocess": {"soft_sigma": None}, "multibox": None, "refinement": {"rounds": 1}},
        member_change={"crop": {"context_pad": 0}},
    )
    found = variant.of(config)
    assert [member.file for member in found.members] == ["member-2.safetensors", "member-0.safetensors"]
    assert {member.crop for member in found.members} == {CropConfig(size=32, context_pad=0)}
    assert found.postprocess == config.postprocess.model_copy(update={"soft_sigma": None})
    assert found.refinement == TWO_LOOKS.model_copy(update={"rounds": 1})
    assert (found.multibox, found.proposals, found.class_names) == (None, config.proposals, CLASSES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": (3,)}, r"members \[3\] must be different, from 0 to 2"),
        ({"members": (1, 1)}, "must be different"),
        ({"members": (-1,)}, "must be different"),
        ({"change": {"postproces": {}}}, "postproces: unknown key"),
        ({"change": {"postprocess": {"soft_sigma": -1}}}, "soft_sigma"),
        ({"member_change": {"crop": {"size": 0}}}, "crop.size"),
    ],
)
def test_a_change_that_does_not_fit_is_one_line(model: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        rows(model, [Variant(name="odd", **fields)])
    assert str(caught.value).startswith("variant odd:")
    assert "\n" not in str(caught.value)


def test_the_paper_s_comparisons_of_a_whole_model(model: Path) -> None:
    config = read_model_config(model)
    found = paper_variants(config)
    alone = ("network 1 alone", "network 2 alone", "network 3 alone")
    whole = "3 networks"
    context = [("without context", (whole,))] if config.members[0].shared is None else []
    assert [(variant.name, variant.against) for variant in found] == [
        *((name, ()) for name in alone),
        ("2 networks", alone[:2]),
        (whole, alone),
        ("selective search alone", (whole,)),
        ("selective search alone, scale 1", ("selective search alone",)),
        *((f"at most {number} proposals", (whole,)) for number in (100, 300, 1000)),
        ("without refinement", (whole,)),
        ("without box regression", ("without refinement",)),
        ("without overlap", (whole,)),
        ("plain suppression", (whole,)),
        ("geometric mean", (whole,)),
        ("maximum", (whole,)),
        ("joined by NMS", ("plain suppression",)),
        *context,
    ]
    by_name = {variant.name: variant.of(config) for variant in found}
    assert [len(by_name[name].members) for name in (*alone, "2 networks", whole)] == [1, 1, 1, 2, 3]
    assert by_name[whole] == config
    searched = by_name["selective search alone, scale 1"]
    assert (searched.multibox, searched.proposals.selective_search.superpixel_scale) == (None, 1.0)
    assert by_name["without refinement"].refinement == TWO_LOOKS.model_copy(update={"rounds": 1})
    assert by_name["without box regression"].refinement is None
    # Each row differs from the one it is compared with in one entry of model.yaml, or in how networks are combined.
    for variant in found:
        if len(variant.against) == 1:
            before, after = (by_name[name].model_dump() for name in (variant.against[0], variant.name))
            assert sum(before[key] != after[key] for key in before) + (variant.combine != "mean") == 1


def test_a_cascade_is_compared_with_all_networks_everywhere(model: Path) -> None:
    config = read_model_config(model)
    assert config.refinement is not None
    looks = config.refinement.model_copy(update={"first_members": 1})
    cascade = config.model_copy(update={"refinement": looks})
    found = {variant.name: variant for variant in paper_variants(cascade)}
    assert found["without cascade"].of(cascade) == config
    assert found["without refinement"].of(cascade).refinement == looks.model_copy(update={"rounds": 1})
    for variant in found.values():
        variant.of(cascade)  # they fit the model, all of them


def test_a_model_s_comparisons_are_those_that_it_allows(plain: Path, model: Path) -> None:
    assert names(paper_variants(read_model_config(plain), prefix="p: ")) == [
        "p: 1 network", "p: selective search at scale 2", *(f"p: at most {n} proposals" for n in (100, 300, 1000)),
        "p: soft suppression", "p: without context",
    ]  # fmt: skip
    changes = {
        "refinement": TWO_LOOKS.model_copy(update={"rounds": 1}),
        "postprocess": PostprocessConfig(),
        "multibox": None,
    }
    simple = read_model_config(model).model_copy(update=changes)
    found = names(paper_variants(simple))
    assert (found[5], *found[9:13]) == (
        "selective search at scale 1", "with refinement", "without box regression", "with overlap", "soft suppression"
    )  # fmt: skip


def test_the_rows_of_several_models(plain: Path, model: Path) -> None:
    models = [(name, folder, read_model_config(folder)) for name, folder in (("a", model), ("b", plain))]
    found = rows_of(models, (), {})
    assert {row.variant.model: row.home for row in found} == {"a": model, "b": plain}
    assert len(set(names([row.variant for row in found]))) == len(found)
    first, second = rows_of(models, [Variant(name="x"), Variant(name="y", model="b")], {})
    assert (first.home, second.home) == (model, plain)


# --- measuring ----------


@pytest.mark.slow
def test_every_variant_finds_what_the_detector_of_its_changed_model_finds(model: Path, tmp_path: Path) -> None:
    mine = rows(model)
    looked = Study(mine, CLASSES, tmp_path, CPU).look("x", picture)
    different, compared = set(), 0
    first = read_model_config(model).members[0]
    for number, row in enumerate(mine):
        # A copy's MultiBox has the maps of its own first network; here it has those of the model's.
        if row.variant.combine != "mean" or row.config.members[0] != first:
            continue
        compared += 1
        copy = tmp_path / str(number)
        shutil.copytree(model, copy)
        (copy / "model.yaml").unlink()
        write_model_config(copy, row.config)
        expected, proposals = load_model(copy, device="cpu").detect(picture())
        found = looked.detections[row.variant.name]
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        assert len(found)
        different.add((found.boxes.tobytes(), found.scores.tobytes()))
        if row.variant.name in looked.proposals:
            np.testing.assert_array_equal(looked.proposals[row.variant.name], proposals.boxes)
    assert compared > 10
    assert len(different) == compared - 1  # at most 300 proposals are as many as at most 1000
    with_boxes = ["network 1 alone", "selective search alone", "selective search alone, scale 1"]
    assert list(looked.proposals)[:3] == with_boxes


@pytest.mark.parametrize("combine", ["geometric", "maximum"])
def test_networks_are_combined_by_what_each_says_of_a_region(model: Path, tmp_path: Path, combine: str) -> None:
    still = {"refinement": None, "postprocess": {"nms_threshold": 1.0, "max_detections": 9999, "soft_sigma": None}}
    row = Variant(name="x", combine=combine, change=still)
    [joint] = Study(rows(model, [row]), CLASSES, tmp_path, CPU).detectors.values()
    assert isinstance(joint, Detector)
    boxes = np.array([[8, 6, 42, 32], [44, 28, 60, 44]], np.float32)
    said = np.stack([each.probs for each in joint.classifier.predict_members(picture(), boxes)])
    expected = np.exp(np.log(said).mean(0)) if combine == "geometric" else said.max(0)
    found = joint.classifier.predict(picture(), boxes).probs
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), atol=1e-5)
    assert joint.classifier.predict(picture(), boxes[:0]).probs.shape == (0, 4)


def test_networks_are_joined_by_nms_of_what_each_finds(model: Path, tmp_path: Path) -> None:
    plain = {"postprocess": {"soft_sigma": None, "max_detections": 7}}
    joined = Variant(name="joined", combine="nms", change=plain)
    alone = [Variant(name=f"{n}", members=(n,), change=plain) for n in range(3)]
    found = Study(rows(model, [joined, *alone]), CLASSES, tmp_path, CPU).look("x", picture).detections
    every = [found[variant.name] for variant in alone]
    order = np.argsort(-np.concatenate([each.scores for each in every]), kind="stable")
    boxes, scores, labels = (
        np.concatenate([getattr(each, name) for each in every])[order] for name in ("boxes", "scores", "labels")
    )
    kept: list[int] = []
    for i in range(len(boxes)):
        if all(labels[i] != labels[j] or iou(boxes[i : i + 1], boxes[j : j + 1])[0, 0] <= 0.3 for j in kept):
            kept.append(i)
    np.testing.assert_allclose(found["joined"].scores, scores[kept][:7])
    np.testing.assert_allclose(np.sort(found["joined"].boxes, axis=0), np.sort(boxes[kept][:7], axis=0))


def test_what_several_variants_need_is_computed_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = Mock(side_effect=crop_regions)
    maps = create_autospec(ImageMaps.__init__, side_effect=ImageMaps.__init__)
    searches: list[Mock] = []

    def counted_search(*settings: Any) -> Mock:
        searches.append(Mock(wraps=search_source(*settings)))
        return searches[-1]

    monkeypatch.setattr(detector.detection.ensemble, "crop_regions", crops)
    monkeypatch.setattr(ImageMaps, "__init__", maps)
    monkeypatch.setattr("detector.experiment.measure.search_source", counted_search)
    fixed = {"refinement": {"rounds": 1}}
    variants = [
        Variant(name="one", members=(0,), change=fixed),
        Variant(name="all", change=fixed),
        Variant(name="still", change={"refinement": None}),
        Variant(name="plain", change={**fixed, "postprocess": {"soft_sigma": None, "overlap_power": 0}}),
        Variant(name="last", members=(2,), change=fixed),
    ]
    study = Study(rows(model, variants), CLASSES, tmp_path, CPU)
    count = len(study.look("x", picture).proposals["one"])
    # All regions once: those that crop alike share the crops, and each that pools, MultiBox too, has one set of maps.
    each = 1 if read_model_config(model).members[0].shared is None else 2
    for looks in (1, 2):
        assert [len(call.args[1]) for call in crops.call_args_list] == [count] * looks
        assert all(len(np.unique(call.args[1], axis=0)) == count for call in crops.call_args_list)
        assert maps.call_count == each * looks
        assert [source.propose.call_count for source in searches] == [looks]
        study.look("y", picture)  # an equal image, but another one


def test_an_image_is_looked_at_once_and_a_damaged_file_again(plain: Path, tmp_path: Path) -> None:
    study = Study(rows(plain), CLASSES, tmp_path, CPU)
    reads: list[int] = []

    def read() -> np.ndarray:
        reads.append(1)
        return picture(4)

    first = study.look("x", read)
    again = study.look("x", read)
    assert len(reads) == 1
    for name, detections in first.detections.items():
        np.testing.assert_array_equal(again.detections[name].boxes, detections.boxes)
        np.testing.assert_array_equal(again.detections[name].scores, detections.scores)
    assert again.proposals.keys() == first.proposals.keys()
    whole = study.path("x").read_bytes()
    for content in (whole[:-30], b"", whole[:100] + b"\0" * (len(whole) - 100)):
        study.path("x").write_bytes(content)
        study.look("x", read)
    assert len(reads) == 4
    # Other variants, thresholds, classes or seeds do not take the file for their own.
    others = [(rows(plain)[:2], CLASSES, 0), (rows(plain, threshold=0.2), CLASSES, 0)]
    others += [(rows(plain), CLASSES[::-1], 0), (rows(plain), CLASSES, 1)]
    for number, (mine, data, seed) in enumerate(others):
        Study(mine, data, tmp_path, CPU, seed).look("x", read)
        assert len(reads) == 5 + number
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_labels_are_the_data_s(plain: Path, tmp_path: Path) -> None:
    everything = {"postprocess": {"nms_threshold": 1.0, "max_detections": 1000}}
    variants = [Variant(name="x", change=everything)]
    found = []
    for number, data in enumerate((CLASSES, ("owl", "zebra", "Cat"))):
        (tmp_path / str(number)).mkdir()
        study = Study(rows(plain, variants, 0.0), data, tmp_path / str(number), CPU)
        found.append(study.look("x", picture).detections["x"])
    mine, other = found
    assert set(mine.labels.tolist()) == {0, 1, 2}
    assert set(other.labels.tolist()) == {0, 2}
    known = mine.labels != 1
    np.testing.assert_array_equal(other.boxes, mine.boxes[known])
    np.testing.assert_array_equal(other.labels, np.array([2, -1, 0])[mine.labels[known]])
    with pytest.raises(UserError, match="no class in common"):
        Study(rows(plain), ("zebra",), tmp_path, CPU)


def test_an_image_of_one_pixel_is_looked_at_as_any_other(model: Path, tmp_path: Path) -> None:
    found = Study(rows(model), CLASSES, tmp_path, CPU).look("x", lambda: np.zeros((1, 1, 3), np.uint8)).proposals
    assert len(found["selective search alone"]) == 1
    assert len(found["network 1 alone"]) > 1


def test_multibox_is_the_model_s_whichever_networks_a_variant_has(model: Path, tmp_path: Path) -> None:
    variants = [Variant(name=f"network {n}", members=(n,), change={"refinement": None}) for n in range(3)]
    study = Study(rows(model, variants), CLASSES, tmp_path, CPU)
    looked = study.look("x", picture)
    assert list(looked.proposals) == ["network 0"]  # the same regions for all
    _, found = load_model(model, device="cpu").detect(picture())
    np.testing.assert_array_equal(looked.proposals["network 0"], found.boxes)


def test_refinement_is_for_box_regression(plain: Path) -> None:
    with pytest.raises(UserError, match="refinement is for members that have box regression"):
        rows(plain, [Variant(name="x", change={"refinement": {"rounds": 2}})])
