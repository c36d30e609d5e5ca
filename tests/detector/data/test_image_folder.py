"""Folders of pictures sorted by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_sets import put

from detector.data import dataset_splits, load_dataset
from proposals.errors import UserError


@pytest.fixture
def split_folder(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 1)):
        put(tmp_path / split, {f"{name}/{i}.jpg": (10 + i, 6) for name in ("dog", "cat") for i in range(count)})
    return tmp_path


def test_splits_and_classes(split_folder: Path) -> None:
    assert dataset_splits(split_folder) == ("train", "val")
    train, val = load_dataset(split_folder), load_dataset(split_folder, "val")
    assert (train.format, train.split, len(train), len(val)) == ("image_folder", "train", 6, 2)
    assert train.class_names == val.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.image_ids[0] == "train/cat/0"
    record = train[1]
    assert record.image_size == (6, 11)
    np.testing.assert_array_equal(record.ground_truth.boxes, [[0, 0, 11, 6]])
    assert len(load_dataset(split_folder, "train+val")) == 8


def test_without_splits(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}/x.png": (8, 6) for name in "ab"})
    assert dataset_splits(tmp_path) == ()
    assert load_dataset(tmp_path).image_ids == ("a/x", "b/x")
    assert load_dataset(tmp_path, classes=["b"]).labels.tolist() == [0]


def test_a_class_that_a_split_lacks_keeps_its_label(split_folder: Path) -> None:
    put(split_folder, {"train/ape/0.jpg": (8, 6)})
    assert load_dataset(split_folder, "val").class_names == ("ape", "cat", "dog")


def test_unreadable_pictures_are_counted(split_folder: Path) -> None:
    dataset = load_dataset(put(split_folder, {"train/dog/1.jpg": "no picture"}))
    assert len(dataset) == 5
    assert [fault.kind for fault in dataset.faults] == ["unreadable-image"]

    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        load_dataset(split_folder, "test")


def test_one_folder_of_pictures_is_no_data_set(tmp_path: Path) -> None:
    put(tmp_path, {"photos/a.jpg": (8, 6)})
    with pytest.raises(UserError, match="a folder of images for each class"):
        load_dataset(tmp_path)
    (tmp_path / "notes").mkdir()  # a folder without pictures is no class
    with pytest.raises(UserError, match="a folder of images for each class"):
        load_dataset(tmp_path)


def test_pictures_that_differ_in_their_ending_alone_are_two(tmp_path: Path) -> None:
    dataset = load_dataset(put(tmp_path, dict.fromkeys(("a/x.png", "a/x.jpg", "a/y.png", "b/x.png"), (8, 6))))
    assert list(dataset.image_ids) == ["a/x.jpg", "a/x.png", "a/y", "b/x"]
    assert not dataset.faults


def test_folders_whose_names_are_no_line_of_text(tmp_path: Path) -> None:
    dataset = load_dataset(put(tmp_path, {f"{name}/x.png": (8, 6) for name in ("cat\n", "cat", " dog ")}))
    assert dataset.class_names == ("dog", "cat (cat)", "cat (cat) 2")
    assert len(dataset) == 3
