"""The experiment: how members' opinions become one, one look per picture, and the tables."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import detector.detection.ensemble
from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble, Member
from detector.detection.suppression import PostprocessConfig, postprocess
from detector.evaluation.classification import evaluate_classification
from detector.experiment.measure import Sources, Study
from detector.experiment.naming import Naming, naming_csv, naming_markdown
from detector.experiment.regression import Fitted, with_box_regression
from detector.experiment.variants import Variant, combine, join_by_nms, judge
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.region_head import RegionOutput
from detector.nets.weights import Normalization
from detector.types import Detections, GroundTruth, ImageRecord
from proposals.merge import MergeConfig
from proposals.types import Proposals, Source

CPU = torch.device("cpu")
LOW = PostprocessConfig(score_threshold=0.01)
SIZE = (40, 48)


def low(variant: Variant) -> PostprocessConfig:
    return LOW


def probabilities(members: int, regions: int, classes: int = 3, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(classes + 1), regions).astype(np.float32) for _ in range(members)]


def some_boxes(count: int, seed: int = 0) -> np.ndarray:
    corner = np.random.default_rng(seed).uniform(0, 20, (count, 2))
    return np.concatenate([corner, corner + 12], axis=1).astype(np.float32)


@given(
    hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(2**-10, 1, width=32)),
    st.sampled_from(["mean", "geometric", "maximum"]),
)
def test_combined_probabilities_are_probabilities_and_one_member_stays_as_it_is(raw: np.ndarray, how: str) -> None:
    table = raw / raw.sum(axis=2, keepdims=True)
    joined = combine(list(table), how)  # type: ignore[arg-type]
    np.testing.assert_allclose(joined.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(combine([table[0]], how), table[0], atol=1e-5)  # type: ignore[arg-type]
    # The order of the members does not matter.
    np.testing.assert_allclose(combine(list(table[::-1]), how), joined, atol=1e-5)  # type: ignore[arg-type]


def test_the_three_combinations_by_hand() -> None:
    first, second = (np.array([row], np.float32) for row in ([0.8, 0.2], [0.2, 0.8]))
    np.testing.assert_allclose(combine([first, second], "mean"), [[0.5, 0.5]])
    third = np.array([[0.5, 0.5]], np.float32)
    np.testing.assert_allclose(combine([first, third], "mean"), [[0.65, 0.35]], rtol=1e-6)
    np.testing.assert_allclose(combine([first, third], "geometric"), [[2 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(combine([first, third], "maximum"), [[0.8 / 1.3, 0.5 / 1.3]], rtol=1e-6)
    sure = np.array([[1.0, 0.0]], np.float32)
    assert np.isfinite(combine([sure, sure], "geometric")).all()


def test_the_mean_is_what_the_ensemble_computes() -> None:
    torch.manual_seed(0)
    net = GoogLeNetConfig(num_outputs=4, norm="batch", width=0.1, stem="stride4")
    members = [Member(GoogLeNet(net), CropConfig(size=32, context_pad=2), Normalization()) for _ in range(3)]
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    boxes = some_boxes(5)
    apart = [Ensemble([m], CPU).predict(image, boxes) for m in members]
    np.testing.assert_allclose(combine(apart, "mean"), Ensemble(members, CPU).predict(image, boxes), atol=1e-6)


def test_joining_by_nms_of_equal_members_is_one_member() -> None:
    boxes, (probs,) = some_boxes(12), probabilities(1, 12)
    alone = postprocess(boxes, probs, SIZE, LOW)
    both = [RegionOutput(torch.from_numpy(probs))] * 2
    joined = judge(boxes, both, Variant(name="x", members=(0, 1), combine="nms"), SIZE, LOW)
    np.testing.assert_array_equal(joined.boxes, alone.boxes)
    np.testing.assert_array_equal(joined.scores, alone.scores)
    np.testing.assert_array_equal(joined.labels, alone.labels)
    few = join_by_nms([alone, alone], LOW.model_copy(update={"max_detections": 2}))
    assert len(few) == 2
    assert len(join_by_nms([Detections.empty(SIZE)] * 2, LOW)) == 0


class Fixed:
    """A proposal source that counts how often it is asked."""

    def __init__(self, boxes: np.ndarray, source: Source) -> None:
        self.boxes, self.source, self.asked = boxes, source, 0

    def propose(self, image: np.ndarray) -> Proposals:
        self.asked += 1
        count = len(self.boxes)
        scores = np.linspace(1, 0, count, dtype=np.float32)
        return Proposals(self.boxes, scores, np.full(count, self.source, np.uint8), image.shape[:2])


VARIANTS = [
    Variant(name="one", members=(0,)),
    Variant(name="two", members=(0, 1)),
    Variant(name="bare", members=(0,), context=False),
    Variant(name="plain search", members=(1,), proposals="scale1"),
    Variant(name="learned only", members=(0, 1), proposals="multibox", combine="nms"),
    Variant(name="others", ensemble="apart", members=(0,), proposals="scale2"),
]


@pytest.fixture
def parts() -> tuple[dict[str, list[Member]], Sources]:
    torch.manual_seed(0)
    net = GoogLeNetConfig(num_outputs=4, norm="batch", width=0.1, stem="stride4")

    def members(count: int) -> list[Member]:
        return [Member(GoogLeNet(net), CropConfig(size=32, context_pad=6), Normalization()) for _ in range(count)]

    searched = some_boxes(9, seed=1)
    sources = Sources(
        Fixed(np.concatenate([searched, some_boxes(6, seed=2)]), Source.SELECTIVE_SEARCH),
        Fixed(searched, Source.SELECTIVE_SEARCH),
        Fixed(some_boxes(4, seed=3), Source.MULTIBOX),
        MergeConfig(iou_threshold=1),
    )
    return {"seeds": members(2), "apart": members(1)}, sources


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def test_each_source_is_asked_once_and_each_variant_equals_a_detector_of_its_own(
    parts: tuple[dict[str, list[Member]], Sources], tmp_path: Path
) -> None:
    members, sources = parts
    image = picture(0)
    # Before the study folds the networks' normalisation, which changes nothing but rounding.
    padded = members["seeds"][0]
    bare = Member(padded.net, padded.crop.model_copy(update={"context_pad": 0}), padded.normalization)
    merged = sources.propose(image, {"scale2+multibox"})["scale2+multibox"]
    expected = {
        name: postprocess(merged.boxes, Ensemble([m], CPU).predict(image, merged.boxes), SIZE, LOW)
        for name, m in (("one", padded), ("bare", bare))
    }
    before = [source.asked for source in (sources.scale1, sources.scale2, sources.multibox)]  # type: ignore[union-attr]
    study = Study(members, VARIANTS, sources, low, tmp_path, CPU)
    found = study.look("a/b c", lambda: image)
    after = [source.asked for source in (sources.scale1, sources.scale2, sources.multibox)]  # type: ignore[union-attr]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    for name, detections in expected.items():
        np.testing.assert_array_equal(found[name].labels, detections.labels)
        np.testing.assert_allclose(found[name].scores, detections.scores, atol=1e-5)
    assert (found["one"].scores[:3] != found["bare"].scores[:3]).any()
    boxes = study.proposals("a/b c")
    assert {name: len(b) for name, b in boxes.items()} == {
        "scale1": 15, "scale2": 9, "multibox": 4, "scale2+multibox": 13
    }  # fmt: skip


def test_a_picture_is_looked_at_once_and_a_damaged_file_again(
    parts: tuple[dict[str, list[Member]], Sources], tmp_path: Path
) -> None:
    members, sources = parts
    study = Study(members, VARIANTS, sources, low, tmp_path, CPU)
    reads: list[int] = []

    def read() -> np.ndarray:
        reads.append(1)
        return picture(4)

    first = study.look("x", read)
    again = study.look("x", read)
    assert len(reads) == 1
    for name, detections in first.items():
        np.testing.assert_array_equal(again[name].boxes, detections.boxes)
        np.testing.assert_array_equal(again[name].scores, detections.scores)
    whole = study.path("x").read_bytes()
    for content in (whole[:-30], b"", whole[:100] + b"\0" * (len(whole) - 100)):
        study.path("x").write_bytes(content)
        study.look("x", read)
    assert len(reads) == 4
    # Another set of variants does not take the file for its own.
    Study(members, VARIANTS[:2], sources, low, tmp_path, CPU).look("x", read)
    assert len(reads) == 5
    assert [p.suffix for p in tmp_path.iterdir()] == [".npz"]


def test_variants_must_name_members_that_are_there(
    parts: tuple[dict[str, list[Member]], Sources], tmp_path: Path
) -> None:
    members, sources = parts
    for wrong in (Variant(name="x", members=(2,)), Variant(name="x", ensemble="none", members=(0,))):
        with pytest.raises(ValueError, match="no member"):
            Study(members, [wrong], sources, low, tmp_path, CPU)
    with pytest.raises(ValueError, match="different numbers"):
        Variant(name="x", members=(1, 1))
    alone = Sources(sources.scale1, sources.scale2, None, sources.merging)
    with pytest.raises(ValueError, match="no MultiBox network"):
        Study(members, VARIANTS, alone, low, tmp_path, CPU).look("x", lambda: picture(0))


def with_head(member: Member, strength: float) -> Member:
    """The member with a regression that moves every region to the right by ``strength`` of its width."""
    fitted = Fitted(np.zeros((1, 4, member.net.num_features)), np.array([[strength, 0, 0, 0]]), "shared", 1, 0, 0)
    return with_box_regression(member, fitted, grid=1)


def test_regression_moves_boxes_and_costs_no_second_look(
    parts: tuple[dict[str, list[Member]], Sources], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, sources = parts
    first, second = members["seeds"]
    heads = {"seeds": [with_head(first, 0.25), with_head(second, 0.5)], "apart": members["apart"]}
    variants = [
        Variant(name="stay", members=(0, 1), proposals="scale2"),
        Variant(name="move", members=(0, 1), proposals="scale2", regression=True),
        Variant(name="move less", members=(0,), proposals="scale2", regression=True),
        Variant(name="one", members=(1,), proposals="scale2"),
    ]
    crops: list[int] = []

    def counted(image: np.ndarray, boxes: np.ndarray, *rest: Any, **named: Any) -> np.ndarray:
        crops.append(len(boxes))
        return crop_regions(image, boxes, *rest, **named)

    monkeypatch.setattr(detector.detection.ensemble, "crop_regions", counted)
    everything = LOW.model_copy(update={"score_threshold": 0.0, "nms_threshold": 1.0, "max_detections": 1000})
    found = Study(heads, variants, sources, lambda v: everything, tmp_path, CPU).look("x", lambda: picture(1))
    # Both members see each of the 9 regions once, in crops that they share.
    assert crops == [9]
    boxes = sources.scale2.propose(picture(1)).boxes
    for name, shift in (("stay", 0.0), ("move", 12 * 0.375), ("move less", 12 * 0.25)):
        expected = np.clip(
            boxes + np.array([shift, 0, shift, 0], np.float32), 0, np.array([48, 40, 48, 40], np.float32)
        )
        assert len(found[name]) == 27
        rows = np.unique(found[name].boxes.round(2), axis=0)
        np.testing.assert_allclose(rows, np.unique(expected.round(2), axis=0), atol=0.02)
    np.testing.assert_allclose(np.sort(found["move"].scores), np.sort(found["stay"].scores), atol=1e-6)
    with pytest.raises(ValueError, match="none of its members has box regression"):
        Study(members, variants, sources, low, tmp_path, CPU)
    with pytest.raises(ValueError, match="leave context on"):
        Variant(name="x", members=(0,), context=False, regression=True)


def test_only_regions_that_a_variant_needs_are_looked_at(
    parts: tuple[dict[str, list[Member]], Sources], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, sources = parts
    seen: list[tuple[int, int]] = []

    def counted(image: np.ndarray, boxes: np.ndarray, crop: CropConfig, *rest: Any, **named: Any) -> np.ndarray:
        seen.append((crop.context_pad, len(boxes)))
        assert len(np.unique(boxes, axis=0)) == len(boxes)
        return crop_regions(image, boxes, crop, *rest, **named)

    monkeypatch.setattr(detector.detection.ensemble, "crop_regions", counted)
    Study(members, VARIANTS, sources, low, tmp_path, CPU).look("x", lambda: picture(1))
    # Member 0 looks at merged 13 (its MultiBox 4 are among them) with context and without; member 1 at scale 1 as well;
    # the other ensemble's at the 9 of scale 2.
    assert sorted(seen) == [(0, 13), (6, 9), (6, 13), (6, 19)]


# --- naming ----------


def test_naming_with_the_first_members_is_an_ensemble_of_them(
    parts: tuple[dict[str, list[Member]], Sources], tmp_path: Path
) -> None:
    members = parts[0]["seeds"]
    pictures = {f"p{i}": picture(i) for i in range(3)}
    boxes = np.array([[4, 4, 30, 30], [10, 0, 40, 36], [0, 0, 20, 20]], np.float32)
    ignore = np.array([False, False, True])
    truth = GroundTruth(boxes, np.array([0, 2, 1]), ignore, np.zeros(3, np.bool_), np.full(3, 400.0))
    records = [ImageRecord(name, Path(name), SIZE, truth) for name in pictures]
    naming = Naming(members, (1, 2), (1, 10), tmp_path, CPU)
    looks = [naming.look(r, lambda r=r: pictures[r.image_id]) for r in records]  # type: ignore[misc]
    rows = naming.rows(looks, ("a", "b", "c"), 10, 0)
    assert [(row.members, row.result.crops, row.result.count) for row in rows] == [
        (1, 1, 6), (1, 10, 6), (2, 1, 6), (2, 10, 6)
    ]  # fmt: skip
    for row in rows:
        ensemble = Ensemble(members[: row.members], CPU)
        expected = evaluate_classification(
            lambda image, windows, e=ensemble: np.log(e.predict(image, windows)),  # type: ignore[misc]
            [(image, boxes[:2], np.array([0, 2])) for image in pictures.values()],
            ("a", "b", "c"),
            crops=row.result.crops,
            bootstrap_samples=10,
        )
        assert (row.result.top1, row.result.top5) == (expected.top1, expected.top5)
        assert row.result.calibration_error == pytest.approx(expected.calibration_error, abs=1e-5)

    # From the files, and not from those of other rows.
    def unread() -> np.ndarray:
        raise AssertionError("read again")

    again = [naming.look(record, unread) for record in records]
    for one, other in zip(looks, again, strict=True):
        np.testing.assert_array_equal(one["answers"], other["answers"])
    with pytest.raises(AssertionError, match="read again"):
        Naming(members, (1,), (1, 10), tmp_path, CPU).look(records[0], unread)
    table = list(csv.DictReader(io.StringIO(naming_csv(rows))))
    assert [float(row["ece"]) for row in table] == [row.result.calibration_error for row in rows]
    lines = naming_markdown(rows).splitlines()
    assert lines[0].startswith("Naming 6 annotated objects")
    assert lines[-1].startswith("| 2 | 10 | ")
    none = GroundTruth.of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    nothing = ImageRecord("none", Path("none"), SIZE, none)
    assert naming.look(nothing, unread)["labels"].shape == (0,)
