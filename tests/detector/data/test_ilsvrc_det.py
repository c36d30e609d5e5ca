"""ILSVRC DET: lists, splits, the blacklist, and both ways the archives unpack."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detector.data import dataset_splits, load_dataset
from detector.data.faults import count_faults
from detector.data.ilsvrc_det_classes import NAMES, WNIDS
from proposals.errors import UserError

ACCORDION, AIRPLANE = "n02672831", "n02691156"


def xml(*objects: tuple[str, int, int, int, int]) -> str:
    items = "".join(
        f"<object><name>{n}</name><bndbox><xmin>{a}</xmin><xmax>{c}</xmax><ymin>{b}</ymin><ymax>{d}</ymax></bndbox></object>"
        for n, a, b, c, d in objects
    )
    return f"<annotation><size><width>50</width><height>40</height></size>{items}</annotation>"


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40)).save(path, "JPEG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "ILSVRC"
    for i in (1, 2, 3):
        picture(root / "Data" / "DET" / "val" / f"v{i}.JPEG")
    put(root / "Annotations" / "DET" / "val" / "v1.xml", xml((ACCORDION, 0, 0, 49, 39), (AIRPLANE, 5, 6, 7, 8)))
    put(root / "Annotations" / "DET" / "val" / "v2.xml", xml((AIRPLANE, 5, 6, 7, 8)))
    put(root / "ImageSets" / "DET" / "val.txt", "v1 1\nv2 2\nv3 3\n")
    put(root / "ImageSets" / "DET" / "val1.txt", "v2 2\nv3 3\n")
    put(root / "ImageSets" / "DET" / "test.txt", "t1 1\n")
    for stem in ("ILSVRC2013_train/n02672831/n02672831_5", "ILSVRC2014_train_0000/ILSVRC2014_train_7"):
        picture(root / "Data" / "DET" / "train" / f"{stem}.JPEG")
        put(
            root / "Annotations" / "DET" / "train" / f"{stem}.xml",
            xml((ACCORDION, 1, 1, 9, 9), ("n99999999", 1, 1, 9, 9)),
        )
    put(root / "ImageSets" / "DET" / "train_1.txt", "ILSVRC2013_train/n02672831/n02672831_5 1\nextra/neg -1\n")
    put(
        root / "ImageSets" / "DET" / "train_2.txt",
        "ILSVRC2014_train_0000/ILSVRC2014_train_7 1\nILSVRC2013_train/n02672831/n02672831_5 1\npartial 0\n",
    )
    put(
        root / "devkit" / "data" / "ILSVRC2015_det_validation_blacklist.txt",
        f"1 {AIRPLANE}\n3 {ACCORDION}\n9 {AIRPLANE}\n",
    )
    return root


def test_table_has_200_classes_in_the_kits_order() -> None:
    assert len(set(WNIDS)) == len(set(NAMES)) == 200
    assert list(NAMES) == sorted(NAMES, key=str.casefold) or NAMES.index("bow tie") + 1 == NAMES.index("bow")
    assert (NAMES[0], NAMES[-1]) == ("accordion", "zebra")
    assert dict(zip(WNIDS, NAMES, strict=True))["n02121808"] == "domestic cat"


def test_a_missing_image_loses_no_other(root: Path) -> None:
    put(root / "ImageSets" / "DET" / "val.txt", "val/v1 1\nval/none 2\nval/v2 3\n")
    dataset = load_dataset(root, "val")
    assert list(dataset.image_ids) == ["v1", "v2"]
    assert count_faults(dataset.faults) == {"missing-image": 1}


def test_validation_split(root: Path) -> None:
    dataset = load_dataset(root, "val")
    assert dataset.format == "ilsvrc_det"
    assert dataset.num_classes == 200
    assert dataset.class_names[:2] == ("accordion", "airplane")
    assert dataset.class_keys[:2] == (ACCORDION, AIRPLANE)
    assert list(dataset.image_ids) == ["v1", "v2", "v3"]
    assert dataset.boxes.tolist() == [[0, 0, 50, 40], [5, 6, 8, 9], [5, 6, 8, 9]]
    assert len(dataset[2].ground_truth) == 0  # no XML file: no objects
    assert dataset[2].image_size == (40, 50)
    assert not dataset.faults


def test_blacklist_follows_the_numbers_of_the_whole_list(root: Path) -> None:
    assert load_dataset(root, "val").blacklisted() == [("v1", 1), ("v3", 0)]
    assert load_dataset(root, "val1").blacklisted() == [("v3", 0)]


def test_training_split_is_the_positive_pictures_of_all_class_lists(root: Path) -> None:
    dataset = load_dataset(root)
    assert dataset.split == "train"
    assert list(dataset.image_ids) == ["n02672831_5", "ILSVRC2014_train_7"]
    assert dataset.labels.tolist() == [0, 0]
    assert count_faults(dataset.faults) == {"unknown-class": 1}
    assert list(load_dataset(root, "train_1").image_ids) == ["n02672831_5"]
    assert all(r.path.is_file() for r in dataset)


def test_splits(root: Path) -> None:
    assert dataset_splits(root) == ("test", "train", "val", "val1")
    with pytest.raises(UserError, match="no split 'val2'"):
        load_dataset(root, "val2")
    with pytest.raises(UserError, match="'test' has no annotations"):
        load_dataset(root, "test")


def test_folder_above(root: Path) -> None:
    assert len(load_dataset(root.parent, "val")) == 3


def test_class_table_of_the_kit(root: Path) -> None:
    put(root / "devkit" / "data" / "map_det.txt", f"{AIRPLANE} 2 flying_machine\n{ACCORDION} 1 squeeze_box\n")
    dataset = load_dataset(root, "val")
    assert dataset.class_names == ("squeeze box", "flying machine")
    assert dataset.labels.tolist() == [0, 1, 1]


def test_without_lists_the_folders_are_the_splits(root: Path) -> None:
    for path in (root / "ImageSets" / "DET").iterdir():
        path.unlink()
    (root / "ImageSets" / "DET").rmdir()
    assert dataset_splits(root) == ("train", "val")
    assert list(load_dataset(root, "val").image_ids) == ["v1", "v2"]
    assert len(load_dataset(root, "train")) == 2


def test_archives_of_2013(tmp_path: Path) -> None:
    picture(tmp_path / "ILSVRC2013_DET_val" / "v1.JPEG")
    put(tmp_path / "ILSVRC2013_DET_bbox_val" / "v1.xml", xml((ACCORDION, 1, 2, 3, 4)))
    picture(tmp_path / "ILSVRC2013_DET_train" / "n02672831" / "n02672831_5.JPEG")
    put(tmp_path / "ILSVRC2013_DET_bbox_train" / "n02672831" / "n02672831_5.xml", xml((ACCORDION, 1, 2, 3, 4)))
    lists = tmp_path / "ILSVRC2013_devkit" / "data" / "det_lists"
    put(lists / "val.txt", "v1 1\n")
    put(lists / "train_pos_1.txt", "n02672831_5\n")
    put(lists / "train_neg_1.txt", "n02672831_6\n")
    put(lists.parent / "ILSVRC2013_det_validation_blacklist.txt", f"1 {ACCORDION}\n")
    assert dataset_splits(tmp_path) == ("train", "val")
    for split in ("train", "val"):
        dataset = load_dataset(tmp_path, split)
        assert dataset.boxes.tolist() == [[1, 2, 4, 5]]
        assert dataset[0].path.is_file()
    assert load_dataset(tmp_path, "val").blacklisted() == [("v1", 0)]


def test_faults(root: Path) -> None:
    put(root / "Annotations" / "DET" / "val" / "v2.xml", "<annotation>")
    put(root / "ImageSets" / "DET" / "val.txt", "v1 1\nv2 2\ngone 3\n../../../x 4\n")
    dataset = load_dataset(root, "val")
    assert list(dataset.image_ids) == ["v1"]
    assert count_faults(dataset.faults) == {"missing-image": 1, "bad-annotation": 1, "escaping-path": 1}
    put(root / "ImageSets" / "DET" / "val.txt", "v3 3\n")
    with pytest.raises(UserError, match="none of the 1 images of split 'val' has an annotation"):
        load_dataset(root, "val")


def test_names_with_spaces_capitals_and_two_endings(root: Path) -> None:
    picture(root / "Data" / "DET" / "val" / "my cat.JPEG")
    picture(root / "Data" / "DET" / "val" / "v1.png")
    put(root / "Annotations" / "DET" / "val" / "MY CAT.XML", xml((AIRPLANE, 5, 6, 7, 8)))
    put(root / "ImageSets" / "DET" / "val1.txt", "my cat 1\nV2 2\nv1 3\n")
    dataset = load_dataset(root, "val1")
    assert list(dataset.paths) == [f"Data/DET/val/{name}.JPEG" for name in ("my cat", "v2", "v1")]
    assert len(dataset.boxes) == 4
    assert count_faults(dataset.faults) == {"same-stem": 1}


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", "x"])
def test_a_line_of_the_class_table_that_has_no_number(root: Path, number: str) -> None:
    put(root / "devkit" / "data" / "map_det.txt", f"{AIRPLANE} 1 airplane\n{ACCORDION} {number} accordion\n")
    assert load_dataset(root, "val").class_names == ("airplane",)


def test_names_that_several_classes_have(root: Path) -> None:
    put(root / "devkit" / "data" / "map_det.txt", f"{AIRPLANE} 1 crane\n{ACCORDION} 2 crane\n")
    assert load_dataset(root, "val").class_names == (f"crane ({AIRPLANE})", f"crane ({ACCORDION})")
    put(root / "devkit" / "data" / "map_det.txt", f"{AIRPLANE} 1 a\n{AIRPLANE} 2 b\n")
    with pytest.raises(UserError, match="a wnid stands there twice"):
        load_dataset(root, "val")
