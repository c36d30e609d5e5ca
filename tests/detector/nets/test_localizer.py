"""A localizer at work: on regions, in an ensemble, in a model directory, in an experiment's variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble, Member
from detector.detection.localize import RegionLocalizer, joint_overlap
from detector.detection.suppression import PostprocessConfig, calibrated, postprocess, scored
from detector.experiment.headed_model import with_heads
from detector.experiment.measure import Sources, Study
from detector.experiment.recipe import MeasurementConfig
from detector.experiment.variants import Variant
from detector.model.config import MODEL_FILE, read_model_config
from detector.model.load import load_model
from detector.model.save import join_localizer, save_model, take_localizer
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.localizer import Localizer, read_localizer, read_localizer_facts, save_localizer
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, to_tensor
from proposals.boxes import decode
from proposals.calibration import Calibration
from proposals.errors import UserError
from proposals.merge import MergeConfig
from proposals.types import Proposals, Source

NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
CROP = CropConfig(size=32, context_pad=6)
CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
BOXES = np.array([[2, 3, 30, 40], [10, 0, 60, 20], [0, 0, 64, 48]], np.float32)


def localizer(seed: int = 0) -> Localizer:
    torch.manual_seed(seed)
    net = Localizer(NET, 2)
    torch.nn.init.normal_(net.fc.weight, std=0.002)
    return net.eval()


def ready(seed: int = 0, **options: int) -> RegionLocalizer:
    return RegionLocalizer(localizer(seed), CROP, Normalization(), CPU, **options)


def members(count: int = 2) -> list[Member]:
    nets = []
    for seed in range(count):
        torch.manual_seed(seed)
        nets.append(Member(GoogLeNet(NET).eval(), CropConfig(size=32, context_pad=2), Normalization()))
    return nets


# --- on regions ----------


def test_it_says_what_the_network_says() -> None:
    found = ready().predict(IMAGE, BOXES)
    crops = crop_regions(IMAGE, BOXES, CROP, Normalization().fill)
    with torch.inference_mode():
        logits, deltas = localizer()(Normalization()(to_tensor(crops)))
    np.testing.assert_allclose(found.overlap, logits.sigmoid(), atol=1e-5)
    np.testing.assert_allclose(found.boxes, decode(BOXES, deltas.numpy()), rtol=1e-4, atol=1e-3)
    assert found.overlap.dtype == found.boxes.dtype == np.float32
    assert ((found.overlap > 0) & (found.overlap < 1)).all()


def test_parts_of_the_regions_and_none_of_them() -> None:
    whole, parts = ready().predict(IMAGE, BOXES), ready(batch_size=2).predict(IMAGE, BOXES)
    np.testing.assert_allclose(whole.overlap, parts.overlap, atol=1e-6)
    np.testing.assert_allclose(whole.boxes, parts.boxes, atol=1e-3)
    nothing = ready().predict(IMAGE, np.zeros((0, 4), np.float32))
    assert nothing.overlap.shape == (0,)
    assert nothing.boxes.shape == (0, 4)


def test_with_mirror_images_it_is_the_mean_of_both() -> None:
    found = ready().predict(IMAGE, BOXES, mirror=True)
    x = Normalization()(to_tensor(crop_regions(IMAGE, BOXES, CROP, Normalization().fill)))
    with torch.inference_mode():
        here, there = localizer()(x), localizer()(x.flip(3))
    other = there.deltas * torch.tensor([-1.0, 1, 1, 1])  # what lies to the right is to the left in the mirror
    overlap, deltas = (here.logits.sigmoid() + there.logits.sigmoid()) / 2, (here.deltas + other) / 2
    np.testing.assert_allclose(found.overlap, overlap, atol=1e-5)
    np.testing.assert_allclose(found.boxes, decode(BOXES, deltas.numpy()), rtol=1e-4, atol=1e-3)


def test_what_overflows_a_short_format_is_computed_again() -> None:
    net = localizer()
    with torch.no_grad():
        net.fc.weight *= 1e6
    short = RegionLocalizer(net, CROP, Normalization(), CPU, precision="float16").predict(IMAGE, BOXES)
    assert np.isfinite(short.overlap).all()
    assert not np.isnan(short.boxes).any()


# --- in an ensemble ----------


def test_it_takes_the_members_place_in_boxes_and_overlaps() -> None:
    plain, with_it = Ensemble(members(), CPU), Ensemble(members(), CPU, localizer=ready())
    seen, located = with_it.examine(IMAGE, BOXES), ready().predict(IMAGE, BOXES)
    np.testing.assert_array_equal(seen.probs, plain.examine(IMAGE, BOXES).probs)
    assert seen.boxes.shape == (3, 2, 4)
    for label in range(2):
        np.testing.assert_array_equal(seen.boxes[:, label], located.boxes)
    np.testing.assert_array_equal(seen.overlap, located.overlap)


def test_beside_members_that_predict_overlaps_it_counts_as_much_as_all_of_them() -> None:
    torch.manual_seed(0)
    shape = HeadShape(kind="softmax", grid=2, shared=True, overlap=2)
    features = GoogLeNet(NET).num_features
    judging = [
        Member(Trunk(NET).eval(), CROP, Normalization(), RegionHead(shape, 2, features).eval()) for _ in range(2)
    ]
    alone = Ensemble(judging, CPU).examine(IMAGE, BOXES)
    both = Ensemble(judging, CPU, localizer=ready()).examine(IMAGE, BOXES)
    located = ready().predict(IMAGE, BOXES)
    np.testing.assert_allclose(both.overlap, (alone.overlap + located.overlap) / 2, atol=1e-6)
    np.testing.assert_array_equal(both.boxes[:, 0], located.boxes)  # not the members' box regression
    mean = Ensemble(judging, CPU, localizer=ready(), localizer_boxes="mean").examine(IMAGE, BOXES)
    np.testing.assert_allclose(mean.boxes, (alone.boxes + located.boxes[:, None]) / 2, atol=1e-4)
    assert not np.allclose(mean.boxes, both.boxes, atol=0.01)
    np.testing.assert_array_equal(mean.overlap, both.overlap)
    # Members without box regression leave the localizer's.
    plain = Ensemble(members(), CPU, localizer=ready(), localizer_boxes="mean").examine(IMAGE, BOXES)
    np.testing.assert_array_equal(plain.boxes[:, 1], located.boxes)
    assert joint_overlap(None, None) is None
    np.testing.assert_array_equal(joint_overlap(alone.overlap, None), alone.overlap)


# --- on disk ----------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A model directory of two members and a localizer's folder."""
    nets = [(NET, m.net.state_dict(), m.crop, m.normalization) for m in members()]
    names = ("a", "b")
    thresholds = PostprocessConfig(score_threshold=0.0)
    save_model(
        tmp_path / "model", nets, name="m", class_names=names, class_keys=names, licence="MIT", half=False,
        postprocess=thresholds,
    )  # fmt: skip
    save_localizer(tmp_path / "localizer", localizer(), CROP, Normalization(), name="l", licence="MIT", half=False,
                   provenance={"data": "noise"}, scores={"val_correlation": 0.5})  # fmt: skip
    return tmp_path / "model", tmp_path / "localizer"


def test_a_model_with_it_weighs_scores_and_moves_boxes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = folders
    config = join_localizer(model, folder, tmp_path / "both", power=3.0)
    assert config == read_model_config(tmp_path / "both")
    assert config.provenance["localizer data"] == "noise"
    assert set(config.files) == {path.name for path in (tmp_path / "both").iterdir()} - {MODEL_FILE}
    detector = load_model(tmp_path / "both", device="cpu")
    found, proposals = detector.detect(IMAGE)
    seen = Ensemble(members(), CPU, localizer=ready()).examine(IMAGE, proposals.boxes)
    thresholds = PostprocessConfig(score_threshold=0.0)
    expected = postprocess(seen.boxes, scored(seen.probs, seen.overlap, 3.0), (48, 64), thresholds)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
    one = load_model(tmp_path / "both", device="cpu", members=1)
    assert one.classifier.localizer is not None  # type: ignore[attr-defined]


def test_joining_leaves_no_old_calibration(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = folders
    settings = yaml.safe_load((model / MODEL_FILE).read_text())
    settings["postprocess"] |= {"score_threshold": 0.3, "calibration": {"slope": 2.0, "offset": 1.0}}
    settings["provenance"] = {"data": "squares", "detections calibrated": "once"}
    settings["scores"] = {"val_top1": 0.4, "detection_calibration_error": 0.1}
    (model / MODEL_FILE).write_text(yaml.safe_dump(settings))
    before, after = read_model_config(model), join_localizer(model, folder, tmp_path / "both")
    assert after.postprocess.calibration == Calibration()
    # The same raw score is the least that is shown.
    plain = np.array([after.postprocess.score_threshold], np.float32)
    assert calibrated(plain, before.postprocess.calibration)[0] == pytest.approx(0.3, abs=1e-6)
    assert after.scores == {"val_top1": 0.4, "localizer_val_correlation": 0.5}
    assert after.provenance == {"data": "squares", "localizer data": "noise"}


@pytest.mark.parametrize(("heads", "expected"), [(2, "mean"), (1, "alone")])
def test_boxes_are_the_mean_where_all_members_regress_them(
    folders: tuple[Path, Path], tmp_path: Path, heads: int, expected: str
) -> None:
    model, folder = folders
    torch.manual_seed(0)
    shape = HeadShape(kind="softmax", grid=2, shared=True)
    own = [RegionHead(shape, 2, GoogLeNet(NET).num_features) for _ in range(heads)]
    with_heads(model, [*own, *[None] * (2 - heads)], tmp_path / "heads")
    assert join_localizer(tmp_path / "heads", folder, tmp_path / "both").localizer_boxes == expected
    assert join_localizer(tmp_path / "heads", folder, tmp_path / "own", boxes="alone").localizer_boxes == "alone"
    classifier = load_model(tmp_path / "both", device="cpu").classifier
    assert classifier.localizer_boxes == expected  # type: ignore[attr-defined]
    # Taken out by hand, the members' own boxes are left.
    settings = yaml.safe_load((tmp_path / "both" / MODEL_FILE).read_text())
    settings["postprocess"]["overlap_power"] = 0.0  # nothing else predicts overlaps
    (tmp_path / "both" / MODEL_FILE).write_text(yaml.safe_dump({**settings, "localizer": None}))
    assert load_model(tmp_path / "both", device="cpu").classifier.localizer is None  # type: ignore[attr-defined]


def test_a_mean_with_nothing_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = folders
    join_localizer(model, folder, tmp_path / "both")
    settings = yaml.safe_load((tmp_path / "both" / MODEL_FILE).read_text())
    (tmp_path / "both" / MODEL_FILE).write_text(yaml.safe_dump({**settings, "localizer_boxes": "mean"}))
    with pytest.raises(UserError, match="mean is for members that have box regression"):
        load_model(tmp_path / "both", device="cpu")


def test_what_was_joined_can_be_taken_out_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = folders
    join_localizer(model, folder, tmp_path / "both")
    taken = take_localizer(tmp_path / "both", tmp_path / "taken")
    before = read_localizer_facts(folder)
    assert taken == read_localizer_facts(tmp_path / "taken")
    assert taken == before.model_copy(update={"name": "m"})  # a model directory holds no other name
    again = join_localizer(model, tmp_path / "taken", tmp_path / "again")
    assert again == read_model_config(tmp_path / "both")
    load_model(tmp_path / "again", device="cpu")
    with pytest.raises(UserError, match="has no localizer that could be taken"):
        take_localizer(model, tmp_path / "none")


def test_it_may_be_joined_into_its_own_folder_and_replaced(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = folders
    join_localizer(model, folder, folder)
    assert load_model(folder, device="cpu").class_names == ("a", "b")
    save_localizer(tmp_path / "other", localizer(1), CROP, Normalization(), name="o", licence="MIT")
    again = join_localizer(folder, tmp_path / "other", tmp_path / "again")
    assert again.localizer == read_localizer_facts(tmp_path / "other").localizer
    load_model(tmp_path / "again", device="cpu")
    with pytest.raises(UserError, match="is a model directory already"):
        join_localizer(model, folder, model)
    with pytest.raises(UserError, match=r"not a localizer folder: it has no localizer\.yaml"):
        join_localizer(model, model, tmp_path / "out")
    with pytest.raises(UserError, match="no such localizer folder"):
        read_localizer_facts(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a localizer folder already"):
        save_localizer(folder, localizer(), CROP, Normalization(), name="l", licence="MIT")


def test_what_is_saved_is_what_is_read(folders: tuple[Path, Path]) -> None:
    facts = read_localizer_facts(folders[1])
    assert facts.scores == {"val_correlation": 0.5}
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        for a, b in zip(localizer()(x), read_localizer(folders[1], facts.localizer)(x), strict=True):
            torch.testing.assert_close(a, b)


def test_damaged_and_foreign_files_are_one_line(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = folders
    join_localizer(model, folder, tmp_path / "both")
    weights, settings = tmp_path / "both" / "localizer.safetensors", tmp_path / "both" / MODEL_FILE
    whole, text = weights.read_bytes(), settings.read_text()
    weights.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="SHA-256 differs"):
        load_model(tmp_path / "both")
    weights.unlink()
    with pytest.raises(UserError, match=r"localizer's localizer\.safetensors is missing"):
        load_model(tmp_path / "both")
    weights.write_bytes(whole)
    for change, message in (
        ({"localizer": {"file": "../localizer.safetensors"}}, "name of a .safetensors file"),
        ({"localizer": {"grid": 3}}, "fc.weight"),
        ({"refinement": None}, "refinement goes with"),
    ):
        content = yaml.safe_load(text)
        for key, value in change.items():
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
        settings.write_text(yaml.safe_dump(content))
        with pytest.raises(UserError, match=message):
            load_model(tmp_path / "both")


# --- in an experiment ----------


class Shifts:
    """Nine boxes of 20 pixels."""

    def propose(self, image: np.ndarray) -> Proposals:
        corners = np.array([(x, y) for x in (0, 8, 16) for y in (0, 8, 16)], np.float32)
        boxes = np.concatenate([corners, corners + 20], axis=1)
        sources = np.full(9, Source.GIVEN, np.uint8)
        return Proposals(boxes, np.zeros(9, np.float32), sources, (image.shape[0], image.shape[1]))


VARIANTS = (
    Variant(name="plain", members=(0, 1), proposals="scale2"),
    Variant(name="located", members=(0, 1), proposals="scale2", localizer=True),
    Variant(name="joined", members=(0, 1), proposals="scale2", localizer=True, combine="nms"),
)


def test_variants_have_the_localizer_s_scores_and_boxes(tmp_path: Path) -> None:
    settings = MeasurementConfig(variants=VARIANTS, localizer_power=2.0)
    sources = Sources(Shifts(), Shifts(), None, MergeConfig())
    study = Study({"seeds": members()}, VARIANTS, sources, settings.postprocess_of, tmp_path, CPU, ready())
    found = study.look("x", lambda: IMAGE)
    boxes = Shifts().propose(IMAGE).boxes
    seen, low = Ensemble(members(), CPU, localizer=ready()).examine(IMAGE, boxes), settings.postprocess
    weighed = scored(seen.probs, seen.overlap, 2.0)
    located = postprocess(seen.boxes, weighed, (48, 64), low)
    for name, expected in (
        ("located", located),
        ("plain", postprocess(boxes, seen.probs, (48, 64), low)),
    ):
        np.testing.assert_allclose(found[name].scores, expected.scores, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(found[name].boxes, expected.boxes, atol=0.02, err_msg=name)
    each = [scored(Ensemble([m], CPU).predict(IMAGE, boxes), seen.overlap, 2.0)[:, :-1] for m in members()]
    assert found["joined"].scores[0] == pytest.approx(max(float(table.max()) for table in each), rel=1e-3)
    assert study.look("x", _unread)["located"].scores.tolist() == found["located"].scores.tolist()
    other = MeasurementConfig(variants=VARIANTS, localizer_power=1.0)
    again = Study({"seeds": members()}, VARIANTS, sources, other.postprocess_of, tmp_path, CPU, ready())
    assert again.look("x", lambda: IMAGE)["located"].scores[0] > found["located"].scores[0]


def _unread() -> np.ndarray:
    raise AssertionError("the picture's file is there")


def test_variants_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes the place of regression"):
        Variant(name="x", members=(0,), localizer=True, regression=True)
    sources = Sources(Shifts(), Shifts(), None, MergeConfig())
    with pytest.raises(ValueError, match="there is no localizer"):
        Study({"seeds": members()}, VARIANTS, sources, lambda v: PostprocessConfig(), tmp_path, CPU)
