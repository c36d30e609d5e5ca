"""Recognising formats, and saying what was looked for where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_sets import put

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
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError) as caught:
        load_dataset(put(tmp_path, {"a.png": (4, 4)}))
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(tmp_path), "PASCAL VOC", "COCO", "ILSVRC DET", "YOLO"):
        assert word in message


def test_the_yolo_export_of_label_studio(tmp_path: Path) -> None:
    notes = '{"categories": [{"id": 0, "name": "cat"}], "info": {"year": 2026}}'
    put(
        tmp_path,
        {"images/a.png": (20, 10), "labels/a.txt": "0 0.5 0.5 1 1\n", "classes.txt": "cat\n", "notes.json": notes},
    )
    dataset = load_dataset(tmp_path)
    assert (dataset.format, dataset.class_names, dataset.boxes.tolist()) == ("yolo", ("cat",), [[0, 0, 20, 10]])


def test_unknown_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"looked for: COCO .* YOLO"):
        load_dataset(put(tmp_path, {"a.zip": "x"}) / "a.zip")


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:  # root may read everything, so the refusal is played
        raise PermissionError(13, "Permission denied", os.fspath(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"cannot be read: Permission denied; check its name and permissions"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("split", ["", "train+", "+"])
def test_empty_parts_of_a_split(tmp_path: Path, split: str) -> None:
    with pytest.raises(UserError, match="empty part"):
        load_dataset(put(tmp_path, {"a.json": '{"images": []}'}) / "a.json", split)


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
    with pytest.raises(UserError, match=r"which split\? There are a, b; name one with --split"):
        training_split(["a", "b"])
