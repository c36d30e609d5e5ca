"""Pre-labels: what labelling tools make of them reads back as the same boxes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from labelling_tools import cvat_voc, cvat_yolo, labelimg_voc, labelimg_yolo
from PIL import Image

from detector.commands.detection_files import SavedDetections
from detector.commands.formats import label_studio_task, voc_text, whole_pixels, yolo_text
from detector.data import load_dataset
from detector.types import Detections

pytestmark = pytest.mark.usefixtures("fake_model")

NAMES = ("tomato", "Käse & <b>")


def some() -> Detections:
    # Off whole pixels, at the image's edges, narrower than a pixel, and beyond the image.
    boxes = [[3.4, 5.6, 30.5, 39.7], [0, 0, 60, 40], [10.2, 7, 10.3, 20], [-4, 38.9, 9, 44]]
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    return Detections(np.array(boxes, np.float32), scores, np.array([0, 1, 0, 1]), (40, 60))


WHOLE = [[3, 6, 30, 40], [0, 0, 60, 40], [10, 7, 11, 20], [0, 39, 9, 40]]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A folder with one image of 60 x 40 pixels."""
    (tmp_path / "set").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "set" / "a.png")
    return tmp_path / "set"


def test_whole_pixels() -> None:
    assert whole_pixels(some()).tolist() == WHOLE
    assert whole_pixels(Detections.empty((4, 6))).shape == (0, 4)


def test_voc_counts_from_one_and_includes_the_last_pixel(labelled: Path) -> None:
    root = ElementTree.fromstring(voc_text(some(), NAMES, "a.png"))
    corners = [[int(corner.text or "") for corner in item] for item in root.iter("bndbox")]
    assert corners == [[x1 + 1, y1 + 1, x2, y2] for x1, y1, x2, y2 in WHOLE]
    assert root.findtext("filename") == "a.png"


@pytest.mark.parametrize("tool", [None, labelimg_voc, cvat_voc])
def test_voc_through_a_tool_and_back(labelled: Path, tool: Any) -> None:
    xml = voc_text(some(), NAMES, "a.png")
    (labelled / "a.xml").write_bytes(xml if tool is None else tool(xml))
    dataset = load_dataset(labelled, classes=NAMES)
    assert not dataset.faults
    assert dataset[0].ground_truth.boxes.tolist() == WHOLE
    assert dataset[0].ground_truth.labels.tolist() == some().labels.tolist()


@pytest.mark.parametrize(
    ("tool", "tolerance"),
    [(None, 1e-4), (cvat_yolo, 0.01), (labelimg_yolo, 1.0)],
    ids=["none", "CVAT, which keeps six digits", "LabelImg, which cuts to whole pixels"],
)
def test_yolo_through_a_tool_and_back(labelled: Path, tool: Any, tolerance: float) -> None:
    text = yolo_text(some(), confidence=False)
    (labelled / "a.txt").write_text(text if tool is None else tool(text, (40, 60)))
    (labelled / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    dataset = load_dataset(labelled)
    assert not dataset.faults
    assert dataset.class_names == NAMES
    np.testing.assert_allclose(dataset[0].ground_truth.boxes, WHOLE, atol=tolerance)
    assert dataset[0].ground_truth.labels.tolist() == some().labels.tolist()


def test_label_studio() -> None:
    task = label_studio_task(SavedDetections.of("a", "in/ä b.png", some(), NAMES))
    assert task["data"] == {"image": "/data/local-files/?d=in/%C3%A4%20b.png"}
    (prediction,) = task["predictions"]
    first = prediction["result"][0]
    value = first["value"]
    assert value["rectanglelabels"] == ["tomato"]
    assert [first["original_width"], first["original_height"], first["score"]] == [60, 40, pytest.approx(0.9)]
    corner = np.array([value["x"] * 60, value["y"] * 40]) / 100
    np.testing.assert_allclose(corner, some().boxes[0, :2], rtol=1e-6)
    side = np.array([value["width"] * 60, value["height"] * 40]) / 100
    np.testing.assert_allclose(side, some().boxes[0, 2:] - some().boxes[0, :2], rtol=1e-6)


def test_detect_writes_them(run_cli: Any, picture: Any, tmp_path: Path) -> None:
    picture("in/a.png", right=(20, 20, 220))
    picture("in/deep/b.png", left=(90, 90, 90))
    formats = [word for name in ("voc", "yolo", "labelstudio") for word in ("--format", name)]
    assert run_cli("detect", "in", "--out", "found", "--no-pictures", *formats).code == 0
    found = tmp_path / "found"
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == {
        "config.yaml", "detections.jsonl", "labelstudio.json",
        "voc/a.xml", "voc/deep/b.xml", "yolo/data.yaml", "yolo/labels/a.txt", "yolo/labels/deep/b.txt",
    }  # fmt: skip
    assert (found / "yolo/labels/a.txt").read_text().splitlines()[0].split() == [
        "0", "0.25000000", "0.50000000", "0.50000000", "1.00000000", "0.9412",
    ]  # fmt: skip
    assert (found / "yolo/labels/deep/b.txt").read_text() == ""
    tasks = json.loads((found / "labelstudio.json").read_text())
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [2, 0]
    shutil.copytree("in", found / "yolo" / "images")
    dataset = load_dataset(found / "yolo")
    assert dataset.class_names == ("tomato", "sky")
    assert [record.ground_truth.boxes.tolist() for record in dataset] == [[[0, 0, 30, 40], [30, 0, 60, 40]], []]
