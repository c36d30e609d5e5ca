"""Detections survive their files unchanged, and faults in the files are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detector.commands.detection_files import SavedDetections, coco_ids, read_detections, write_coco, write_csv
from detector.types import Detections
from proposals.errors import UserError

NAMES = ("cat", "Kaffee, schwarz", 'the "cup"')


def some(n: int = 3) -> Detections:
    boxes = np.array([[0.1, 0.2, 30.7, 40], [1 / 3, 2, 3, 4], [5, 6, 7e3, 8]], np.float32)[:n]
    return Detections(boxes, np.array([0.9, 0.5, 0.1], np.float32)[:n], np.array([0, 2, 1])[:n], (50, 60))


def written(path: Path, *images: SavedDetections) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for image in images:
            file.write(image.to_json() + "\n")
    return path


def assert_equal(a: Detections, b: Detections) -> None:
    np.testing.assert_array_equal(a.boxes, b.boxes)
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.image_size == b.image_size


def test_there_and_back(tmp_path: Path) -> None:
    images = [
        SavedDetections.of("a/b", "in/a b.png", some(), NAMES),
        SavedDetections.of("näive", "ä\u2028.png", some(0), NAMES),
    ]
    again = list(read_detections(written(tmp_path / "d.jsonl", *images)))
    assert [(image.image_id, image.path, image.class_names) for image in again] == [
        ("a/b", "in/a b.png", ("cat", 'the "cup"', "Kaffee, schwarz")),
        ("näive", "ä\u2028.png", ()),
    ]
    for before, after in zip(images, again, strict=True):
        assert_equal(before.detections, after.detections)


@given(
    hnp.arrays(np.float32, (4,), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.floats(0, 1, width=32),
)
def test_every_float32_comes_back(box: np.ndarray, score: float) -> None:
    found = Detections(box[None], np.array([score], np.float32), np.array([0]), (5, 5))
    line = SavedDetections.of("a", "a", found, NAMES).to_json()
    entry = json.loads(line)["detections"][0]
    np.testing.assert_array_equal(np.array(entry["box"], np.float32), box)
    assert np.float32(entry["score"]) == np.float32(score)


def test_numbers_are_short() -> None:
    assert '"box": [0.1, 0.2, 30.7, 40.0], "score": 0.9' in SavedDetections.of("a", "a", some(1), NAMES).to_json()


def entry(text: str, width: int = 1) -> str:
    """A line with these detections."""
    return f'{{"image_id": "a", "path": "a", "width": {width}, "height": 1, "detections": [{text}]}}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "not a line"),
        ("[]", "not a line"),
        ("{}", "'detections' is missing"),
        (entry('{"box": [0, 0, 1, 1]}'), "'score'"),
        (entry('{"box": [0, 0, 1], "score": 1, "label": 0, "class_name": "a"}'), "not a line"),
        (entry('{"box": [0, 0, 1, NaN], "score": 1, "label": 0, "class_name": "a"}'), "finite"),
        (entry("", width=0), "image_size"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path / "d.jsonl", SavedDetections.of("a", "a", some(), NAMES))
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError) as raised:
        list(read_detections(path))
    assert f"{path}, line 2" in str(raised.value)
    assert said in str(raised.value)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read: No such file"):
        list(read_detections(tmp_path / "none.jsonl"))
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        list(read_detections(tmp_path / "d.jsonl"))


@pytest.mark.parametrize(
    ("image_ids", "expected"),
    [
        (["000000000139", "7"], [139, 7]),
        (["1", "01"], [1, 2]),
        (["5", "cat"], [1, 2]),
        (["²"], [1]),
        ([], []),
    ],
    ids=["numbers", "two names of one number", "one is no number", "a digit that is no number", "none"],
)
def test_coco_ids(image_ids: list[str], expected: list[int]) -> None:
    assert coco_ids(image_ids).tolist() == expected


def test_coco_files_of_no_images(tmp_path: Path) -> None:
    written(tmp_path / "detections.jsonl")
    write_coco(tmp_path, NAMES)
    assert json.loads((tmp_path / "detections.coco.json").read_text()) == []
    assert [c["name"] for c in json.loads((tmp_path / "images.coco.json").read_text())["categories"]] == list(NAMES)


def test_categories_are_those_of_the_training_data(tmp_path: Path) -> None:
    """A model of COCO names COCO's categories, whose ids are not label + 1."""
    images = [SavedDetections.of("7", "7.jpg", some(), NAMES)]
    keys = [str(10 * (label + 1)) for label in range(len(NAMES))]
    written(tmp_path / "detections.jsonl", *images)
    write_coco(tmp_path, NAMES, keys)
    results = json.loads((tmp_path / "detections.coco.json").read_text())
    categories = {c["id"]: c["name"] for c in json.loads((tmp_path / "images.coco.json").read_text())["categories"]}
    assert [categories[result["category_id"]] for result in results] == list(images[0].class_names)
    assert {result["category_id"] % 10 for result in results} == {0}
    write_coco(tmp_path, NAMES, [f"n{key}" for key in keys])
    results = json.loads((tmp_path / "detections.coco.json").read_text())
    assert [result["category_id"] for result in results] == (some().labels + 1).tolist()


def test_csv_quotes_what_needs_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "d.csv", [SavedDetections.of("a", 'p,"q".png', some(), NAMES)])
    with (tmp_path / "d.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class_name"] for row in rows] == ["cat", 'the "cup"', "Kaffee, schwarz"]
    assert rows[0]["path"] == 'p,"q".png'
    assert [float(rows[0][key]) for key in ("x1", "y1", "x2", "y2", "score")] == [0.1, 0.2, 30.7, 40.0, 0.9]


def test_a_name_for_each_detection() -> None:
    with pytest.raises(ValueError, match="1 class names for 3"):
        SavedDetections("a", "a", some(), ("cat",))
