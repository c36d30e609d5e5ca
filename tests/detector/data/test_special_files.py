"""Pipes, devices and broken links in a data set are faults: opening them could last for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from small_sets import PICTURES, make_small_set

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
        Image.new("RGB", (4, 4)).save(picture.with_name("b.png"))
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
    assert "no regular file" in found or "does not exist" in found or "cannot be read" in found


@KINDS
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("coco", "other.json"),
        ("voc", "classes.txt"),
        ("yolo", "a.yaml"),
        ("yolo", "list.txt"),
        ("bare", "data.yaml"),
        ("cvat", "x.yaml"),
        ("ilsvrc", "devkit/data/map_det.txt"),
    ],
)
def test_other_files(tmp_path: Path, kind: str, name: str, file: str) -> None:
    make_small_set(tmp_path, name)
    replace_by(kind, tmp_path / file)
    split = next(iter(dataset_splits(tmp_path)), None)
    assert len(load_dataset(tmp_path, split)) == 1


@KINDS
def test_the_data_set_itself(tmp_path: Path, kind: str) -> None:
    for name in ("x.json", "data.yaml", "obj.data"):
        replace_by(kind, tmp_path / name)
        with pytest.raises(UserError):
            load_dataset(tmp_path / name)


def test_the_check_reads_none_of_them(tmp_path: Path) -> None:
    make_small_set(tmp_path, "kit")
    Image.new("RGB", (20, 10)).save(tmp_path / "JPEGImages" / "b.png")
    (tmp_path / "Annotations" / "b.xml").write_text((tmp_path / "Annotations" / "a.xml").read_text())
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    replace_by("pipe", tmp_path / "JPEGImages" / "a.png")
    (tmp_path / "Annotations" / "b.xml").write_text("<annotation/>")
    report = check_dataset(tmp_path)
    assert report.pictures == 1
    assert "unreadable-image" in {fault.kind for fault in report.faults}


def test_read_bytes(tmp_path: Path) -> None:
    for kind in ("pipe", "device"):
        replace_by(kind, tmp_path / kind)
        with pytest.raises(UserError, match="is no regular file"):
            read_bytes(tmp_path / kind)
