"""Names and ids of classes are different keys in every format, and a clash is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detector.evaluation.class_index import ClassIndex, id_text
from detector.evaluation.read_files import read_detections
from detector.evaluation.tables import canonical_order
from proposals.errors import UserError

# Every name is another class's id.
NAMES, IDS = ("0", "1", "2"), (1, 2, 3)
BOX = [1.0, 2.0, 21.0, 22.0]


@pytest.fixture
def of_each_class(tmp_path: Path) -> dict[str, Path]:
    """The same detection of each class, in this order, in every format."""
    jsonl, csv, kit = tmp_path / "d.jsonl", tmp_path / "d.csv", tmp_path / "kit"
    entries = [{"box": BOX, "score": 0.9, "class_name": name} for name in NAMES]
    jsonl.write_text(json.dumps({"image_id": "1", "detections": entries}))
    lines = ["image_id,class_name,score,x1,y1,x2,y2", *(f"1,{name},0.9,1,2,21,22" for name in NAMES)]
    csv.write_text("\n".join(lines))
    kit.mkdir()
    for name in NAMES:
        (kit / f"comp3_det_test_{name}.txt").write_text("1 0.9 2 3 21 22\n")
    rows = [{"image_id": 1, "category_id": key, "bbox": [1, 2, 20, 20], "score": 0.9} for key in IDS]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    return {"jsonl": jsonl, "csv": csv, "voc": kit, "coco": tmp_path / "d.json"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "voc", "coco"])
def test_digits_as_names(kind: str, of_each_class: dict[str, Path]) -> None:
    found = read_detections(of_each_class[kind], NAMES, class_keys=IDS)
    assert found.labels.tolist() == [0, 1, 2]
    assert found.boxes.tolist() == [BOX] * 3


@pytest.mark.parametrize("kind", ["jsonl", "csv", "voc"])
def test_an_id_is_no_name(kind: str, of_each_class: dict[str, Path]) -> None:
    # The files name 0, 1 and 2; of these only 0 is a class, and the others are ids of others.
    with pytest.raises(
        UserError, match=r"class '1' is not in the data set \(there it is the id of 'cat'; this file names"
    ):
        read_detections(of_each_class[kind], ("0", "cat", "dog"), class_keys=(7, 1, 2))


def test_a_name_is_no_id(of_each_class: dict[str, Path]) -> None:
    with pytest.raises(
        UserError, match=r"class '3' is not in the data set \(there it is the name of id 9; this file has"
    ):
        read_detections(of_each_class["coco"], ("a", "b", "3"), class_keys=(1, 2, 9))


def test_ids_are_names_where_a_data_set_has_no_others(of_each_class: dict[str, Path]) -> None:
    assert read_detections(of_each_class["coco"], ("1", "2", "3")).labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"), (7.0, "7"), (-0.0, "0"), ("7", "7"), ("007", "007"), (1.5, "1.5"), (2.0**60, str(2**60)), ("", ""),
        (True, None), (None, None), ([7], None), ({}, None), (float("nan"), None), (float("inf"), None),
    ],
)  # fmt: skip
def test_ids(value: Any, text: str | None) -> None:
    assert id_text(value) == text


def test_two_classes_with_one_word_are_refused_when_it_is_used() -> None:
    classes = ClassIndex((1, "1", "cat"))
    assert classes.find("cat") == 2
    with pytest.raises(UserError, match="'1' is the name or id of 2 classes"):
        classes.find("1")


def test_two_words_for_one_class_are_refused() -> None:
    classes = ClassIndex(("traffic light", "cat"))
    assert [classes.find(word) for word in ("Traffic_Light", "Traffic_Light", "CAT", "lion")] == [0, 0, 1, -1]
    with pytest.raises(
        UserError, match="'Traffic_Light' and 'traffic light' are both taken for the class 'traffic light'"
    ):
        classes.find("traffic light")
    assert ClassIndex(("a b", "A_B")).find("a_B") == -1  # two would do


def test_numbers_of_any_length_have_an_order() -> None:
    ids = ("9" * 5000, "10", "9", "010", "0")
    assert [ids[i] for i in canonical_order(ids)] == ["0", "9", "010", "10", "9" * 5000]
