"""Tiny-ImageNet: the official layout, inclusive corners from 0, words for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import detector.data.dataset
from detector.data import dataset_splits, load_dataset
from detector.data.faults import count_faults
from detector.data.tiny_imagenet import unique_names
from proposals.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    (tmp_path / "words.txt").write_text("n01\tcat, true cat\nn02\tdog\nn03\tunused, thing\n")
    for wnid in ("n01", "n02"):
        images = tmp_path / "train" / wnid / "images"
        images.mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (64, 64)).save(images / f"{wnid}_{i}.JPEG")
        lines = [f"{wnid}_{i}.JPEG\t0\t{i}\t63\t62" for i in range(2)]
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("\n".join(lines))
    images = tmp_path / "val" / "images"
    images.mkdir(parents=True)
    Image.new("L", (64, 48)).save(images / "val_0.JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn01\t5\t5\t5\t9\nval_1.JPEG\tn02\t0\t0\t63\t63\n"
    )
    return tmp_path


def test_training_split(root: Path) -> None:
    dataset = load_dataset(root)
    assert (dataset.format, dataset.split) == ("tiny_imagenet", "train")
    assert dataset.class_keys == ("n02", "n01")
    assert dataset.class_names == ("dog", "cat")
    assert list(dataset.image_ids) == ["n02_0", "n02_1", "n01_0", "n01_1"]
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.boxes[1].tolist() == [0, 1, 64, 63]
    assert dataset[3].path.is_file()
    assert not dataset.faults


def test_validation_split_reports_missing_pictures(root: Path) -> None:
    dataset = load_dataset(root, "val")
    assert list(dataset.image_ids) == ["val_0"]
    assert dataset.labels.tolist() == [1]
    assert dataset.boxes.tolist() == [[5, 5, 6, 10]]  # one pixel wide is a width of 1
    assert dataset[0].image_size == (48, 64)
    assert count_faults(dataset.faults) == {"missing-image": 1}
    assert [r.image_id for r in load_dataset(root, "train+val")][-1] == "val_0"


def test_no_picture_is_opened_until_a_size_is_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(detector.data.dataset, "read_image_size", refuse)
    dataset = load_dataset(root)
    assert dataset.ground_truth(0).boxes.shape == (1, 4)
    with pytest.raises(AssertionError, match="was opened"):
        dataset[0]


def test_splits(root: Path) -> None:
    (root / "test" / "images").mkdir(parents=True)
    assert dataset_splits(root) == ("train", "val")
    with pytest.raises(UserError, match="no annotated split 'test'; it has train, val"):
        load_dataset(root, "test")


def test_broken_lists_are_faults(root: Path) -> None:
    (root / "train" / "n01" / "n01_boxes.txt").write_text(
        "n01_0.JPEG 1 2 3\nn01_0.JPEG 1 2 x 4\n\n../n02/images/n02_0.JPEG 0 0 9 9\nn01_1.JPEG 9 0 2 9\n"
    )
    (root / "train" / "n02" / "n02_boxes.txt").unlink()
    dataset = load_dataset(root)
    assert list(dataset.image_ids) == ["n01_1"]
    assert len(dataset.boxes) == 0
    assert count_faults(dataset.faults) == {
        "missing-image": 1,
        "missing-annotation": 1,
        "bad-annotation": 2,
        "inverted-box": 1,
    }


def test_classes_by_word_or_wnid(root: Path) -> None:
    for wanted in (["cat"], ["n01"]):
        dataset = load_dataset(root, classes=wanted)
        assert (dataset.class_names, dataset.class_keys) == (("cat",), ("n01",))
        assert dataset.labels.tolist() == [0, 0]


@pytest.mark.parametrize("text", ["n01\n../n02\n", "n01\n/etc\n", "n01\n" + "n" * 400, "n01\nn01\n", "n01\na b\n"])
def test_wnids_are_no_paths(root: Path, text: str) -> None:
    (root / "wnids.txt").write_text(text)
    with pytest.raises(UserError, match="copy the file again"):
        load_dataset(root)


def test_names_without_a_word_list(root: Path) -> None:
    (root / "words.txt").unlink()
    assert load_dataset(root).class_names == ("n02", "n01")


def test_names_are_unique() -> None:
    words = {"a": ["crane", "wading bird"], "b": ["crane", "machine"], "c": ["bat"], "d": ["bat"], "e": ["cup"]}
    assert unique_names(list("abcdef"), words) == (
        "crane (wading bird)",
        "crane (machine)",
        "bat (c)",
        "bat (d)",
        "cup",
        "f",
    )
    same = {"a": ["x", "y"], "b": ["x", "y"]}
    assert unique_names(["a", "b"], same) == ("x (a)", "x (b)")
