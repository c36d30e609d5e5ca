"""ILSVRC DET: lists, splits, the blacklist, and both ways the archives unpack."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_sets import put, voc_annotation, voc_object

from detector.data import dataset_splits, load_dataset
from detector.data.faults import count_faults
from detector.data.ilsvrc_det import read_class_table
from proposals.errors import UserError

ACCORDION, AIRPLANE = "n02672831", "n02691156"


def xml(*objects: tuple[str, int, int, int, int]) -> str:
    return voc_annotation(*(voc_object(*item) for item in objects), size=(50, 40))


SIZE = (50, 40)
LISTS, VAL = "ImageSets/DET", "Annotations/DET/val"
FIRST, SECOND = "ILSVRC2013_train/n02672831/n02672831_5", "ILSVRC2014_train_0000/ILSVRC2014_train_7"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root, kit = tmp_path / "ILSVRC", "devkit/data"
    twice = xml((ACCORDION, 1, 1, 9, 9), ("n99999999", 1, 1, 9, 9))
    put(root, {
        **{f"Data/DET/val/v{i}.JPEG": SIZE for i in (1, 2, 3)},
        f"{VAL}/v1.xml": xml((ACCORDION, 0, 0, 49, 39), (AIRPLANE, 5, 6, 7, 8)),
        f"{VAL}/v2.xml": xml((AIRPLANE, 5, 6, 7, 8)),
        f"{LISTS}/val.txt": "v1 1\nv2 2\nv3 3\n",
        f"{LISTS}/val1.txt": "v2 2\nv3 3\n",
        f"{LISTS}/test.txt": "t1 1\n",
        f"{LISTS}/train_1.txt": f"{FIRST} 1\nextra/neg -1\n",
        f"{LISTS}/train_2.txt": f"{SECOND} 1\n{FIRST} 1\npartial 0\n",
        f"{kit}/ILSVRC2015_det_validation_blacklist.txt": f"1 {AIRPLANE}\n3 {ACCORDION}\n9 {AIRPLANE}\n",
        **{f"Data/DET/train/{stem}.JPEG": SIZE for stem in (FIRST, SECOND)},
        **{f"Annotations/DET/train/{stem}.xml": twice for stem in (FIRST, SECOND)},
    })  # fmt: skip
    return root


def test_table_has_200_classes_in_the_kits_order() -> None:
    table = read_class_table()
    assert len(set(table.keys)) == len(set(table.names)) == 200
    inorder = sorted(table.names, key=str.casefold)
    inorder[inorder.index("bow") : inorder.index("bow tie") + 1] = ["bow tie", "bow"]
    assert list(table.names) == inorder
    assert dict(zip(table.keys, table.names, strict=True))["n02121808"] == "domestic cat"


def test_validation_split(root: Path) -> None:
    dataset = load_dataset(root, "val")
    assert (dataset.format, dataset.num_classes, len(load_dataset(root.parent, "val"))) == ("ilsvrc_det", 200, 3)
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


def test_class_table_of_the_kit(root: Path) -> None:
    put(root, {"devkit/data/map_det.txt": f"{AIRPLANE} 2 flying_machine\n{ACCORDION} 1 squeeze_box\n"})
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
    lists, box = "ILSVRC2013_devkit/data/det_lists", xml((ACCORDION, 1, 2, 3, 4))
    put(tmp_path, {
        "ILSVRC2013_DET_val/v1.JPEG": SIZE,
        "ILSVRC2013_DET_bbox_val/v1.xml": box,
        "ILSVRC2013_DET_train/n02672831/n02672831_5.JPEG": SIZE,
        "ILSVRC2013_DET_bbox_train/n02672831/n02672831_5.xml": box,
        f"{lists}/val.txt": "v1 1\n",
        f"{lists}/train_pos_1.txt": "n02672831_5\n",
        f"{lists}/train_neg_1.txt": "n02672831_6\n",
        f"{lists}/../ILSVRC2013_det_validation_blacklist.txt": f"1 {ACCORDION}\n",
    })  # fmt: skip
    assert dataset_splits(tmp_path) == ("train", "val")
    for split in ("train", "val"):
        dataset = load_dataset(tmp_path, split)
        assert dataset.boxes.tolist() == [[1, 2, 4, 5]]
        assert dataset[0].path.is_file()
    assert load_dataset(tmp_path, "val").blacklisted() == [("v1", 0)]


def test_faults(root: Path) -> None:
    put(root, {f"{VAL}/v2.xml": "<annotation>"})
    put(root, {f"{LISTS}/val.txt": "val/v1 1\nv2 2\nval/gone 3\n../../../x 4\nval/v3 5\n"})
    dataset = load_dataset(root, "val")
    assert list(dataset.image_ids) == ["v1", "v3"]
    assert count_faults(dataset.faults) == {"missing-image": 1, "bad-annotation": 1, "escaping-path": 1}
    put(root, {f"{LISTS}/val.txt": "v3 3\n"})
    with pytest.raises(UserError, match="none of the 1 images of split 'val' has an annotation"):
        load_dataset(root, "val")


def test_names_with_spaces_capitals_and_two_endings(root: Path) -> None:
    put(root, {"Data/DET/val/my cat.JPEG": SIZE})
    put(root, {"Data/DET/val/v1.png": SIZE})
    put(root, {f"{VAL}/MY CAT.XML": xml((AIRPLANE, 5, 6, 7, 8))})
    put(root, {f"{LISTS}/val1.txt": "my cat 1\nV2 2\nv1 3\n"})
    dataset = load_dataset(root, "val1")
    assert list(dataset.paths) == [f"Data/DET/val/{name}.JPEG" for name in ("my cat", "v2", "v1")]
    assert len(dataset.boxes) == 4
    assert count_faults(dataset.faults) == {"same-stem": 1}


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", "x"])
def test_a_line_of_the_class_table_that_has_no_number(root: Path, number: str) -> None:
    put(root, {"devkit/data/map_det.txt": f"{AIRPLANE} 1 airplane\n{ACCORDION} {number} accordion\n"})
    assert load_dataset(root, "val").class_names == ("airplane",)


def test_names_that_several_classes_have(root: Path) -> None:
    put(root, {"devkit/data/map_det.txt": f"{AIRPLANE} 1 crane\n{ACCORDION} 2 crane\n"})
    assert load_dataset(root, "val").class_names == (f"crane ({AIRPLANE})", f"crane ({ACCORDION})")
    put(root, {"devkit/data/map_det.txt": f"{AIRPLANE} 1 a\n{AIRPLANE} 2 b\n"})
    with pytest.raises(UserError, match="a wnid stands there twice"):
        load_dataset(root, "val")
