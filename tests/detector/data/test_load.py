"""Recognising formats, and saying what was looked for where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.data import dataset_splits, load_dataset
from detector.data.load import training_split
from proposals.errors import UserError


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none does not exist; check the path"):
        load_dataset(tmp_path / "none")
    with pytest.raises(UserError, match="is an empty folder"):
        load_dataset(tmp_path)
    with pytest.raises(UserError, match="is an empty folder"):
        dataset_splits(tmp_path)


def test_unknown_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError) as caught:
        load_dataset(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(tmp_path), "PASCAL VOC", "COCO", "ILSVRC DET", "Tiny-ImageNet", "YOLO"):
        assert word in message


def test_unknown_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("x")
    with pytest.raises(UserError, match=r"looked for: COCO .* YOLO"):
        load_dataset(path)


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:  # root may read everything, so the refusal is played
        raise PermissionError(13, "Permission denied", os.fspath(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"cannot be read: Permission denied; check its name and permissions"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("split", ["", "train+", "+"])
def test_empty_parts_of_a_split(tmp_path: Path, split: str) -> None:
    (tmp_path / "a.json").write_text('{"images": []}')
    with pytest.raises(UserError, match="empty part"):
        load_dataset(tmp_path / "a.json", split)


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        (["test", "train", "trainval"], "train"),
        (["test", "trainval"], "trainval"),
        (["train2017", "val2017"], "train2017"),
        (["all"], "all"),
    ],
)
def test_training_split(available: list[str], chosen: str) -> None:
    assert training_split(available) == chosen


def test_no_training_split() -> None:
    with pytest.raises(UserError, match=r"which split\? There are a, b; name one with --split"):
        training_split(["a", "b"])


# --- damage -----------------------------------------------------------------------------------------------------------


def small_sets(root: Path) -> dict[Path, list[Path]]:
    """A set of each format, with the files that are damaged in it."""
    picture = Image.new("RGB", (20, 10))
    xml = (
        "<annotation><filename>a.png</filename><size><width>20</width><height>10</height></size><object><name>cat</name>"
        "<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
        "</annotation>"
    )
    coco = (
        '{"images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}], "annotations": [{"id": 1, "image_id":'
        ' 1, "category_id": 3, "bbox": [1, 2, 5, 5], "area": 25, "iscrowd": 0}], "categories": [{"id": 3,'
        ' "name": "cat"}]}'
    )
    files = {
        "voc": {"a.xml": xml},
        "kit": {"Annotations/a.xml": xml, "ImageSets/Main/train.txt": "a\n"},
        "coco": {"labels.json": coco},
        "yolo": {"data.yaml": "train: .\nnames: [cat, dog]\n", "a.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n"},
        "tiny": {
            "wnids.txt": "n01\n",
            "words.txt": "n01\tcat, tom\n",
            "train/n01/n01_boxes.txt": "a.png\t0\t1\t5\t6\n",
            "val/val_annotations.txt": "a.png\tn01\t0\t1\t5\t6\n",
        },
        "ilsvrc": {
            "Annotations/DET/val/a.xml": xml,
            "ImageSets/DET/val.txt": "a 1\n",
            "devkit/data/b_det_validation_blacklist.txt": "1 n02672831\n",
            "devkit/data/map_det.txt": "n02672831 1 accordion\n",
        },
    }
    pictures = {"kit": "JPEGImages", "tiny": "train/n01/images", "ilsvrc": "Data/DET/val"}
    for name, contents in files.items():
        for file, text in contents.items():
            (root / name / file).parent.mkdir(parents=True, exist_ok=True)
            (root / name / file).write_text(text)
        (root / name / pictures.get(name, "")).mkdir(parents=True, exist_ok=True)
        picture.save(root / name / pictures.get(name, "") / "a.png")
    return {root / name: [root / name / file for file in contents] for name, contents in files.items()}


def test_no_damage_of_an_annotation_escapes_as_another_exception(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pieces = [
        b"",
        b"\0",
        b"nan",
        b"-1",
        b"1e999",
        b"<",
        b">",
        b'"',
        b"[",
        b"{}",
        b"null",
        b"../",
        b"\xff",
        b"9" * 400,
        b"\n",
    ]
    outcomes = set()
    for root, files in small_sets(tmp_path).items():
        assert len(load_dataset(root, dataset_splits(root)[-1] if dataset_splits(root) else None)) <= 1
        for file in files:
            good = file.read_bytes()
            for _ in range(25):
                start = int(rng.integers(len(good)))
                stop = start + int(rng.integers(0, 12))
                file.write_bytes(good[:start] + pieces[rng.integers(len(pieces))] + good[stop:])
                try:
                    for split in dataset_splits(root) or (None,):
                        outcomes.add(len(load_dataset(root, split).faults) > 0)
                except UserError as error:
                    outcomes.add("error")
                    message = str(error)
                    assert_one_line(message)
            file.write_bytes(good)
    assert outcomes == {True, False, "error"}


def assert_one_line(message: str) -> None:
    assert message
    assert "\n" not in message
