"""Detections whose image ids are names of files find the data set's images; nothing is guessed without a word."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.image_names import joined_by_file
from detector.evaluation.tables import DetectionTable
from proposals.errors import UserError

COCO = {"397133": "000000397133.jpg", "37777": "000000037777.jpg"}
NAMED = {"1": "2.jpg", "2": "3.jpg", "3": "1.jpg"}  # each file is called like another image's id
TWICE = {"1": "x/a.jpg", "2": "y/a.jpg", "3": "b.jpg", "4": "b.png", "5": ""}
FOUND = "{} of its {} images were found by the names of their files, not by their ids"


def table(images: Mapping[str, str]) -> DetectionTable:
    """One detection of each image; ``images`` is the path of each id."""
    n = len(images)
    boxes = np.tile([0.0, 0, 5, 5], (n, 1))
    paths = tuple(images.values()) if any(images.values()) else ()
    return DetectionTable(
        tuple(images), np.arange(n), np.zeros(n, np.int64), np.ones(n), boxes, boxes[:, 2:], paths=paths
    )


@pytest.mark.parametrize(
    ("images", "files", "expected", "found"),
    [
        # No id is known, so all are looked for by name.
        ({"000000397133": "", "000000037777": ""}, COCO, ["397133", "37777"], 2),
        ({"000000397133.jpg": ""}, COCO, ["397133"], 1),
        ({"val2017/000000397133": ""}, COCO, ["397133"], 1),
        ({"x": "photos/000000397133.jpg", "y": "photos/other.jpg"}, COCO, ["397133", "y"], 1),
        ({"a": "", "a-2": ""}, {"1": "x/a.jpg"}, ["1", "a-2"], 1),
        ({"a": "p/a.png", "a-2": "p/a.jpg"}, {"1": "a.jpg"}, ["a", "1"], 1),  # the ending says which one it is
        ({"x/a": "", "y/a": ""}, {"1": "x/a.jpg", "2": "y/a.jpg"}, ["1", "2"], 2),
        ({"a": "C:\\p\\a.jpg"}, {"1": "p/a.jpg"}, ["1"], 1),
        ({"a.b": "p/a.b.jpg"}, {"1": "a.b.jpg"}, ["1"], 1),
        ({"a": "", "b": "", "": ""}, TWICE, ["a", "b", ""], 0),
        # Ids that are known stand; others fall back one by one.
        ({"397133": "elsewhere/000000397133.jpg", "37777": ""}, COCO, ["397133", "37777"], 0),
        ({"397133": "", "000000037777": ""}, COCO, ["397133", "37777"], 1),
        # A path says more than an id; the detections of a run that says both agree with themselves.
        ({"1": "p/1.jpg", "2": "p/2.jpg", "3": "p/3.jpg"}, NAMED, ["3", "1", "2"], 3),
        ({"1": "d/2.jpg", "3": "d/1.jpg"}, NAMED, ["1", "3"], 0),
        # An unknown name does not become an id.
        ({"1": "p/1.jpg", "2": "p/2.jpg", "9": "p/3.jpg", "3": "new.jpg"}, NAMED, ["3", "1", "2", "3 (not found)"], 3),
    ],
)  # fmt: skip
def test_images_are_found(images: dict[str, str], files: dict[str, str], expected: list[str], found: int) -> None:
    joined, line = joined_by_file(table(images), files, numbers_are_ids=False)
    assert list(joined.image_ids) == expected
    assert line == (FOUND.format(found, len(images)) if found else "")


def test_what_stays_unclear_is_told() -> None:
    joined, line = joined_by_file(table({"1": "", "2": ""}), NAMED, numbers_are_ids=False)
    assert joined.image_ids == ("1", "2")
    assert line == "2 of its image ids are also names of other images' files; they are taken for ids"
    for ids, files in (("12", NAMED), ("129", {"1": "a.jpg", "5": "9.jpg"})):  # a plain number is no name here
        joined, line = joined_by_file(table(dict.fromkeys(ids, "")), files, numbers_are_ids=True)
        assert (joined.image_ids, line) == (tuple(ids), "")
    with pytest.raises(UserError, match=r"image '1' are of 'p/1.jpg', which is image '3' of the data set"):
        joined_by_file(table({"1": "p/1.jpg", "2": "x", "3": "y"}), NAMED, numbers_are_ids=False)
    with pytest.raises(UserError, match=r"images 'x/a' and 'y/a' of the detections are both image '1'"):
        joined_by_file(table({"x/a": "", "y/a": ""}), {"1": "a.jpg"}, numbers_are_ids=False)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A COCO file of one image, as COCO's own."""
    content = {
        "images": [{"id": 397133, "file_name": "000000397133.png", "width": 60, "height": 40}],
        "categories": [{"id": 18, "name": "tomato"}, {"id": 3, "name": "sky"}],
        "annotations": [{"id": 1, "image_id": 397133, "category_id": 18, "bbox": [0, 0, 30, 40], "area": 1200}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


def test_detect_and_then_evaluate(
    run_cli: Callable[..., Any], fake_model: Any, picture: Callable[..., Path], truth: Path, tmp_path: Path
) -> None:
    picture("photos/000000397133.png", right=(20, 20, 220))
    assert run_cli("detect", "photos", "--out", "found", "--format", "coco", "--format", "csv").code == 0
    for source in ("found", "found/detections.jsonl", "found/detections.csv"):
        out = f"e{source.count('.')}{len(source)}"
        done = run_cli("evaluate", "--data", truth, "--detections", source, "--out", out, "--bootstrap", 0)
        assert done.code == 0, done.err
        assert done.error_lines == [
            f"{source}: 1 of its 1 images were found by the names of their files, not by their ids"
        ]
        assert Evaluation.load(tmp_path / out / "evaluation.json").result.mean_ap == pytest.approx(1)
    done = run_cli("compare", "e05", "e05", "--samples", 100)
    assert done.code == 0, done.err
    assert "A 100.0  B 100.0" in done.out
