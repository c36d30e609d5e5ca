"""The flat arrays: rows and subsets, pictures, and the judge of boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detector.data import Dataset, read_record
from detector.data.builder import EDGE_TOLERANCE, Builder, Object
from detector.data.classes import Classes
from detector.data.dataset import offsets_of, take_rows
from detector.data.faults import EFFECTS, Fault, count_faults, summarise_faults
from proposals.errors import UserError

CLASSES = Classes.of_names(["cat", "dog"])


def build(objects: list[list[Object]], size: tuple[int, int] = (100, 200), root: Path = Path("x")) -> Dataset:
    builder = Builder("set", "voc", root, "train")
    for i, items in enumerate(objects):
        builder.add(f"i{i}", f"i{i}.png", size, f"i{i}.xml", items)
    return builder.build(CLASSES)


def kinds(dataset: Dataset) -> dict[str, int]:
    return count_faults(dataset.faults)


# --- rows ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_take_rows_agrees_with_lists(counts: list[int], data: st.DataObject) -> None:
    offsets = offsets_of(np.array(counts, np.int64))
    rows = [list(range(offsets[i], offsets[i + 1])) for i in range(len(counts))]
    index = data.draw(st.lists(st.integers(0, len(counts) - 1)))
    taken, positions = take_rows(offsets, np.array(index, np.int64))
    assert positions.tolist() == [p for i in index for p in rows[i]]
    assert np.diff(taken).tolist() == [counts[i] for i in index]


# --- the data set -----------------------------------------------------------------------------------------------------


def three_images() -> Dataset:
    return build(
        [
            [Object("cat", 1, 2, 11, 22, ignore=True), Object("dog", 3, 4, 8, 9)],
            [],
            [Object("dog", 0, 0, 200, 100, crowd=True, area=55.0)],
        ]
    )


def test_records() -> None:
    dataset = three_images()
    assert len(dataset) == 3
    first, second, third = dataset
    assert (first.image_id, first.path, first.image_size) == ("i0", Path("x/i0.png"), (100, 200))
    assert first.ground_truth.boxes.tolist() == [[1, 2, 11, 22], [3, 4, 8, 9]]
    assert first.ground_truth.labels.tolist() == [0, 1]
    assert first.ground_truth.ignore.tolist() == [True, False]
    assert first.ground_truth.area.tolist() == [200, 25]
    assert len(second.ground_truth) == 0
    assert second.ground_truth.boxes.shape == (0, 4)
    assert third.ground_truth.crowd.tolist() == [True]
    assert third.ground_truth.area.tolist() == [55]
    assert dataset[-1].image_id == "i2"
    for beyond in (dataset.__getitem__, lambda i: dataset.subset([i])):
        with pytest.raises(IndexError):
            beyond(3)
    assert dataset.class_counts().tolist() == [1, 2]
    assert dataset.image_of_box().tolist() == [0, 0, 2]
    assert "3 images, 3 boxes, 2 classes, no faults" in repr(dataset)
    for column in (dataset.boxes, dataset.labels, dataset.offsets, dataset.area):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0


def test_empty_data_set() -> None:
    dataset = build([])
    assert len(dataset) == 0
    assert list(dataset) == []
    assert dataset.boxes.shape == (0, 4)
    assert dataset.class_counts().tolist() == [0, 0]
    assert len(dataset.subset([])) == 0


@pytest.mark.parametrize("index", [[2, 0], [1], [], [-1], np.array([True, False, True])])
def test_subset_has_the_records_at_the_indices(index: list[int] | np.ndarray) -> None:
    dataset = three_images()
    part = dataset.subset(index)
    wanted = np.arange(3)[index] if len(index) else []
    assert [r.image_id for r in part] == [f"i{i}" for i in wanted]
    for record, i in zip(part, wanted, strict=True):
        np.testing.assert_array_equal(record.ground_truth.boxes, dataset[int(i)].ground_truth.boxes)
        np.testing.assert_array_equal(record.ground_truth.labels, dataset[int(i)].ground_truth.labels)


def test_subset_keeps_its_share_of_the_blacklist() -> None:
    builder = Builder("set", "ilsvrc_det", Path("x"), "val")
    for i in range(3):
        builder.add(f"i{i}", f"i{i}.png", (5, 5), "x", ())
    dataset = builder.build(CLASSES, [("i0", "dog"), ("i2", "cat"), ("gone", "cat"), ("i1", "no class")])
    assert dataset.blacklisted() == [("i0", 1), ("i2", 0)]
    assert dataset.subset([2, 1]).blacklisted() == [("i2", 0)]


def test_mixed_lengths_are_refused() -> None:
    dataset = three_images()
    with pytest.raises(ValueError, match="lengths"):
        replace(dataset, labels=dataset.labels[:-1])
    with pytest.raises(ValueError, match="unique"):
        replace(dataset, class_names=("cat", "cat"))
    with pytest.raises(ValueError, match="offsets"):
        replace(dataset, offsets=np.array([0, 3, 2, 3], np.int64))


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_read_record_wants_the_annotated_size(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), (9, 8, 7)).save(tmp_path / "i0.png")
    same = build([[]], (100, 200), tmp_path)
    assert read_record(same[0])[0, 0].tolist() == same.read(0)[0, 0].tolist() == [9, 8, 7]
    with pytest.raises(UserError, match="200 x 100 pixels, its annotation says 50 x 50: it was resized"):
        read_record(build([[]], (50, 50), tmp_path)[0])
    with pytest.raises(UserError, match="turned upright"):
        read_record(build([[]], (200, 100), tmp_path)[0])


# --- the judge of boxes -----------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("corners", "kind", "kept"),
    [
        ((10, 10, 20, 20), None, (10, 10, 20, 20)),
        ((NAN, 10, 20, 20), "not-a-number", None),
        ((10, 10, INF, 20), "not-a-number", None),
        ((20, 10, 10, 20), "inverted-box", None),
        ((10, 20, 20, 10), "inverted-box", None),
        ((10, 10, 10, 20), "zero-area-box", None),
        ((10, 20, 20, 20), "zero-area-box", None),
        ((200, 10, 210, 20), "outside-box", None),
        ((10, 100, 20, 110), "outside-box", None),
        ((-20, 10, 0, 20), "outside-box", None),
        ((-20, 10, 20, 20), "clipped-box", (0, 10, 20, 20)),
        ((10, 10, 300, 300), "clipped-box", (10, 10, 200, 100)),
        ((0, 0, 200, 100), None, (0, 0, 200, 100)),
        # Rounding, and tools that count from 0: as the official evaluations see them.
        ((-EDGE_TOLERANCE, 0, 200 + EDGE_TOLERANCE, 100), None, (-EDGE_TOLERANCE, 0, 200 + EDGE_TOLERANCE, 100)),
        ((-1.01, 0, 200, 100), "clipped-box", (0, 0, 200, 100)),
    ],
)
def test_each_fault_of_a_box(corners: tuple[float, ...], kind: str | None, kept: tuple[float, ...] | None) -> None:
    good = Object("dog", 1, 1, 5, 5)
    dataset = build([[good, Object("cat", *corners), good]])
    assert kinds(dataset) == ({kind: 1} if kind else {})
    boxes = dataset.boxes[dataset.labels == 0]
    assert boxes.tolist() == ([] if kept is None else [list(np.float32(kept).tolist())])
    assert (dataset.labels == 1).sum() == 2
    if kind:
        assert dataset.faults[0].file == "i0.xml"
        assert "(cat) of image i0 of 200 x 100" in dataset.faults[0].message
        assert (EFFECTS[kind] == "kept") == (kept is not None)


@given(
    st.lists(st.tuples(*[st.one_of(st.integers(-5, 12).map(float), st.sampled_from([NAN, INF, -INF]))] * 4), max_size=8)
)
def test_what_is_kept_is_always_usable(corners: list[tuple[float, float, float, float]]) -> None:
    dataset = build([[Object("cat", *c) for c in corners]], (8, 6))
    x1, y1, x2, y2 = dataset.boxes.T
    assert np.isfinite(dataset.boxes).all()
    assert (x2 > x1).all()
    assert (y2 > y1).all()
    assert (dataset.boxes[:, :2] >= -EDGE_TOLERANCE).all()
    assert (x2 <= 6 + EDGE_TOLERANCE).all()
    assert (y2 <= 8 + EDGE_TOLERANCE).all()
    left_out = sum(f.effect == "box left out" for f in dataset.faults)
    assert len(dataset.boxes) + left_out == len(corners)


def test_area_that_is_no_area_is_the_boxs() -> None:
    dataset = build([[Object("cat", 0, 0, 4, 5, area=a) for a in (NAN, -1.0, INF, 7.0, 0.0)]])
    assert dataset.area.tolist() == [20, 20, 20, 7, 0]


def test_duplicate_ids_keep_the_first() -> None:
    builder = Builder("set", "voc", Path("x"), "")
    builder.add("a", "a.png", (9, 9), "first.xml", [Object("cat", 1, 1, 2, 2)])
    builder.add("a", "b.png", (9, 9), "second.xml", [Object("cat", 3, 3, 4, 4)])
    dataset = builder.build(CLASSES)
    assert list(dataset.paths) == ["a.png"]
    assert dataset.boxes.tolist() == [[1, 1, 2, 2]]
    assert [(f.kind, f.file) for f in dataset.faults] == [("duplicate-image", "second.xml")]


# --- classes ----------------------------------------------------------------------------------------------------------


def test_unwanted_classes_are_counted_once_each_and_their_boxes_not_judged() -> None:
    dataset = build([[Object("cow", NAN, 0, 0, 0), Object("cat", 1, 1, 2, 2)], [Object("cow", 1, 1, 2, 2)]])
    assert dataset.labels.tolist() == [0]
    assert [str(f) for f in dataset.faults] == [
        "i0.xml: class 'cow' is not in the class list (2 boxes in all, first seen here) [unknown-class; box left out]"
    ]


# --- faults -----------------------------------------------------------------------------------------------------------


def test_fault_summaries() -> None:
    faults = [Fault("missing-image", "a", "m"), Fault("zero-area-box", "b", "m"), Fault("missing-image", "c", "m")]
    assert count_faults(faults) == {"missing-image": 2, "zero-area-box": 1}
    assert summarise_faults(faults) == "3 faults: 2 missing-image, 1 zero-area-box"
    assert summarise_faults(faults[:1]) == "1 fault: 1 missing-image"
    assert summarise_faults([]) == "no faults"
    with pytest.raises(ValueError, match="unknown kind"):
        Fault("mystery", "a", "m")


def test_every_kind_of_fault_is_documented_with_its_effect() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    documented = {kind.strip(" `"): effect.strip() for kinds, effect in rows for kind in kinds.split(",")}
    assert documented == EFFECTS
