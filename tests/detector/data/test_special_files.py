"""Pipes, devices and broken links in a data set are faults: opening them could last for ever."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from small_sets import PICTURES, make_small_set, put

from detector.data import dataset_splits, load_dataset
from detector.data.check import check_dataset
from detector.data.paths import read_bytes
from proposals.errors import UserError


def replace_by(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "nothing": path.parent / "none", "circle": path}[kind])


KINDS = pytest.mark.parametrize("kind", ["pipe", "device", "nothing", "circle"])


@KINDS
@pytest.mark.parametrize("name", ["voc", "kit", "coco", "yolo", "bare", "cvat", "ilsvrc", "folders"])
def test_pictures(tmp_path: Path, kind: str, name: str) -> None:
    make_small_set(tmp_path, name)
    picture = tmp_path / PICTURES.get(name, ("a.png",))[0]
    replace_by(kind, picture)
    if name == "folders":
        put(picture.parent, {"b.png": (4, 4)})
    try:
        dataset = load_dataset(tmp_path, next(iter(dataset_splits(tmp_path)), None))
    except UserError as error:  # it was the only one
        found = str(error)
    else:
        found = " ".join(str(fault) for fault in dataset.faults if fault.kind == "unreadable-image")
    assert "no regular file" in found


@KINDS
@pytest.mark.parametrize(
    ("name", "file"), [("voc", "a.xml"), ("kit", "Annotations/a.xml"), ("yolo", "a.txt"), ("bare", "a.txt")]
)
def test_annotations(tmp_path: Path, kind: str, name: str, file: str) -> None:
    make_small_set(tmp_path, name)
    replace_by(kind, tmp_path / file)
    try:
        found = " ".join(map(str, load_dataset(tmp_path).faults))
    except UserError as error:
        found = str(error)
    assert re.search("no regular file|does not exist|cannot be read", found)


OTHER_FILES = [
    ("coco", "other.json"),
    ("voc", "classes.txt"),
    ("yolo", "a.yaml"),
    ("yolo", "list.txt"),
    ("bare", "data.yaml"),
]


@KINDS
@pytest.mark.parametrize(("name", "file"), [*OTHER_FILES, ("cvat", "x.yaml"), ("ilsvrc", "devkit/data/map_det.txt")])
def test_other_files(tmp_path: Path, kind: str, name: str, file: str) -> None:
    make_small_set(tmp_path, name)
    replace_by(kind, tmp_path / file)
    assert len(load_dataset(tmp_path, next(iter(dataset_splits(tmp_path)), None))) == 1


@KINDS
def test_the_data_set_itself(tmp_path: Path, kind: str) -> None:
    for name in ("x.json", "data.yaml", "obj.data"):
        replace_by(kind, tmp_path / name)
        with pytest.raises(UserError):
            load_dataset(tmp_path / name)


def test_the_check_reads_none_of_them(tmp_path: Path) -> None:
    make_small_set(tmp_path, "kit")
    put(
        tmp_path,
        {"JPEGImages/b.png": (20, 10), "Annotations/b.xml": "<annotation/>", "ImageSets/Main/train.txt": "a\nb\n"},
    )
    replace_by("pipe", tmp_path / "JPEGImages" / "a.png")
    report = check_dataset(tmp_path)
    assert report.pictures == 1
    assert "unreadable-image" in {fault.kind for fault in report.faults}


def test_read_bytes(tmp_path: Path) -> None:
    for kind in ("pipe", "device"):
        replace_by(kind, tmp_path / kind)
        with pytest.raises(UserError, match="is no regular file"):
            read_bytes(tmp_path / kind)
