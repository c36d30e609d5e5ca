"""YOLO text folders: data files, label lines, polygons, backgrounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_sets import put

from detector.data import Dataset, dataset_splits, load_dataset
from detector.data.faults import count_faults
from proposals.errors import UserError

SIZE = (200, 100)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, {f"images/{name}.png": SIZE for name in ("train/a", "train/b", "train/c", "val/d")})
    put(tmp_path, {"labels/train/a.txt": "1 0.5 0.5 0.1 0.2\n\n0 0.25 0.5 0.5 1\n", "labels/train/b.txt": ""})
    put(tmp_path, {"labels/val/d.txt": "0 0.5 0.5 1 1"})
    return put(tmp_path, {"data.yaml": "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"})


def data_file(root: Path, text: str) -> None:
    put(root, {"data.yaml": f"{text}\nnames: [cat, dog]\n"})


def ids(dataset: Dataset) -> list[str]:
    """Without the folders of the training images."""
    assert all(record.path.is_file() for record in dataset)
    return [image_id.removeprefix("images/train/") for image_id in dataset.image_ids]


def kinds(dataset: Dataset) -> dict[str, int]:
    return count_faults(dataset.faults)


def test_boxes_are_shares_of_the_picture(root: Path) -> None:
    dataset = load_dataset(root)
    assert (dataset.format, dataset.split) == ("yolo", "train")
    assert (dataset.class_names, dataset.class_keys) == (("cat", "dog"), (0, 1))
    assert list(dataset.image_ids) == [f"images/train/{name}" for name in "abc"]
    np.testing.assert_allclose(dataset.boxes, [[90, 40, 110, 60], [0, 0, 100, 100]], atol=1e-4)
    assert dataset.labels.tolist() == [1, 0]
    assert dataset[0].image_size == (100, 200)
    assert len(dataset[1].ground_truth) == len(dataset[2].ground_truth) == 0  # backgrounds
    assert not dataset.faults
    put(root, {"data.yaml": "train: images/train\nnames: [cat, cat]\n"})
    assert load_dataset(root).class_names == ("cat (0)", "cat (1)")


def test_hidden_folders_are_left_out(root: Path) -> None:
    put(root / "images" / "train", {".ipynb_checkpoints/deep/a-checkpoint.png": SIZE, "more/e.png": SIZE})
    put(root, {"labels/train/more/e.txt": "0 0.5 0.5 1 1"})
    assert ids(load_dataset(root, "train")) == ["a", "b", "c", "more/e"]


def test_splits_and_the_data_file_itself(root: Path) -> None:
    assert dataset_splits(root) == dataset_splits(root / "data.yaml") == ("train", "val")
    assert len(load_dataset(root / "data.yaml", "train+val")) == 4
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        load_dataset(root, "test")


@pytest.mark.parametrize(
    "entry", ["{root}/images/train", "images/train", "../images/train", "list.txt", "[images/train]"]
)
def test_where_pictures_may_be_named(root: Path, entry: str) -> None:
    (root / "list.txt").write_text("./images/train/a.png\nimages/train/b.png\nimages/train/c.png\n")
    (root / "data.yaml").write_text(f"train: {entry.format(root=root)}\nnames: {{0: cat, 1: dog}}\n")
    dataset = load_dataset(root)
    assert [i.rpartition("/")[2] for i in dataset.image_ids] == ["a", "b", "c"]
    assert len(dataset.boxes) == 2


def test_absolute_base_elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other, rest = tmp_path_factory.mktemp("configs"), "train: images/train\nnames: [cat, dog]\n"
    assert len(load_dataset(put(other, {"my.yaml": f"path: {root}\n{rest}"}) / "my.yaml").boxes) == 2
    with pytest.raises(UserError, match="`path` /no/such/folder does not exist"):
        load_dataset(put(other, {"my.yaml": f"path: /no/such/folder\n{rest}"}) / "my.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: ../../images\nnames: [a]", "neither a folder of images nor a list of them within"),
        ("train: nowhere\nnames: [a]", "neither a folder"),
        ("train: images/train\nnames:", "no `names`"),
        ("train: images/train\nnames: {a: b}", "no `names`"),
        ("names: [a]\ntrain:", "names no train"),
        ("train: [\nnames", "not valid YAML"),
        ("!!python/object/apply:os.system ['true'] # names train", "should hold settings"),
    ],
)
def test_broken_data_files(root: Path, text: str, message: str) -> None:
    (root / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("class_file", ["classes.txt", "obj.names"])
def test_without_a_data_file(tmp_path: Path, class_file: str) -> None:
    box = "1 0.5 0.5 0.5 0.5"
    put(tmp_path, {"a.png": SIZE, "b.png": SIZE, "more/c.png": SIZE})
    put(tmp_path, {class_file: "cat\ndog\n", "a.txt": box, "more/c.txt": box})
    dataset = load_dataset(tmp_path)
    assert dataset_splits(tmp_path) == ()
    assert [(f.kind, Path(f.file)) for f in dataset.faults] == [("missing-annotation", tmp_path / "more" / "c.png")]
    assert (ids(dataset), dataset.labels.tolist()) == (["a", "b"], [1])


def test_folders_as_splits_without_a_data_file(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        put(tmp_path / split, {"images/a.png": SIZE, "labels/a.txt": "0 0.5 0.5 0.5 0.5"})
    put(tmp_path, {"classes.txt": "cat\n"})
    assert dataset_splits(tmp_path) == ("train", "valid")
    assert load_dataset(tmp_path)[0].path == tmp_path / "train" / "images" / "a.png"


def test_faults_are_counted(root: Path) -> None:
    rows = (
        "0 0.5 0.5 0.1\n0 x 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n0 nan 0.5 0.1 0.1\n0 0.5 0.5 -0.1 0.1\n0 0.5 0.5 0 0.1\n"
        "0 3 3 0.1 0.1\n0 0.9 0.5 0.4 0.1\n0 0.5 0.5 0.1 0.1 0.9\n1.0 0.5 0.5 0.1 0.2\n0.5 0.5 0.5 0.1 0.2\n"
        "nan 0.5 0.5 0.1 0.2\n1 0.1 0.2 0.5 0.1 0.3 0.6"
    )
    put(root, {"labels/train/a.txt": rows, "labels/train/b.txt": b"\xff\xfe\x00", "images/train/c.png": "no picture"})
    dataset = load_dataset(root)
    assert ids(dataset) == ["a"]
    boxes = [[140, 45, 200, 55], [90, 40, 110, 60], [20, 10, 100, 60]]
    np.testing.assert_allclose(dataset.boxes, boxes, atol=1e-4)
    assert dataset.labels.tolist() == [0, 1, 1]
    assert kinds(dataset) == {
        "bad-annotation": 1, "bad-object": 4, "not-a-number": 2, "inverted-box": 1, "zero-area-box": 1,
        "outside-box": 1, "clipped-box": 1, "unknown-class": 1, "unreadable-image": 1,
    }  # fmt: skip


def test_lists_that_climb_out_or_name_what_is_not_there(root: Path) -> None:
    put(root, {"list.txt": "../x.png\n/etc/passwd\nimages/train/gone.png\nimages/train/a.png\n"})
    data_file(root, "train: list.txt")
    dataset = load_dataset(root)
    assert (ids(dataset), kinds(dataset)) == (["a"], {"missing-image": 1, "escaping-path": 2})
    put(root, {"list.txt": "x.png\ny.png\n"})
    with pytest.raises(UserError, match=r"none of 2 images is there \(there is no image x\.png"):
        load_dataset(root)


def test_no_labels_at_all_is_an_error(root: Path) -> None:
    put(root, {"labels/train/a.txt": None, "labels/train/b.txt": None})
    with pytest.raises(UserError, match="none of the 3 images has a text annotation"):
        load_dataset(root)


def test_keypoints_are_not_a_polygon(root: Path) -> None:
    data_file(root, "train: images/train\nkpt_shape: [2, 3]")
    rows = "1 0.5 0.5 0.1 0.2 0.1 0.1 2 0.9 0.9 1\n0 0.5 0.5 0.1 0.2 0.1 0.1\n"
    dataset = load_dataset(put(root, {"labels/train/a.txt": rows}))
    np.testing.assert_allclose(dataset.boxes, [[90, 40, 110, 60]], atol=1e-4)
    assert kinds(dataset) == {"bad-object": 1}


def test_pictures_that_differ_in_their_ending_alone_are_two(root: Path) -> None:
    dataset = load_dataset(put(root, {"images/train/a.jpg": SIZE}))
    assert ids(dataset) == ["a.jpg", "a.png", "b", "c"]
    assert len(dataset.boxes) == 4  # both have the annotation a.txt, which is said
    assert [(f.kind, Path(f.file).name) for f in dataset.faults] == [("same-stem", "a.txt")]
    dataset = load_dataset(put(root, {"labels/train/a.jpg.txt": "0 0.5 0.5 0.1 0.1"}))
    assert (len(dataset.boxes), dataset.faults) == (3, ())


@pytest.mark.parametrize("label", ["A.txt", "a.TXT", "a.png.txt", "A.PNG.TXT"])
def test_annotations_with_other_capitals_or_the_whole_name(root: Path, label: str) -> None:
    (root / "labels" / "train" / "a.txt").rename(root / "labels" / "train" / label)
    assert len(load_dataset(root).boxes) == 2


def test_an_annotation_that_is_another_pictures_is_not_taken(root: Path) -> None:
    dataset = load_dataset(put(root, {"images/train/A.png": SIZE}))
    assert ([len(record.ground_truth) for record in dataset], dataset.faults) == ([0, 2, 0, 0], ())


def test_a_split_that_is_not_there_blocks_no_other(root: Path) -> None:
    data_file(root, "train: images/train\nval: images/none\ntest: ../../x")
    assert dataset_splits(root) == ("train",)
    dataset = load_dataset(root)
    assert (len(dataset.boxes), kinds(dataset)) == (2, {"missing-split": 2})
    assert "val is not there: images/none" in dataset.faults[0].message
    with pytest.raises(UserError, match=r"val \(images/none\) is neither a folder of images nor a list"):
        load_dataset(root, "val")


def test_nobody_trains_on_another_split_because_train_is_missing(root: Path) -> None:
    data_file(root, "train: images/none\nval: images/val")
    assert dataset_splits(root) == ("train", "val")
    with pytest.raises(UserError, match=r"train \(images/none\) is neither"):
        load_dataset(root)
    assert len(load_dataset(root, "val")) == 1


def test_a_part_of_a_split_is_read(root: Path) -> None:
    data_file(root, "train: [images/none, images/train]")
    dataset = load_dataset(root)
    assert (len(dataset), kinds(dataset)) == (3, {"missing-image": 1})


@pytest.mark.parametrize("above", ["", "data/", "/home/me/set/", "D:\\set\\"])
@pytest.mark.parametrize("in_list", ["data/", "", "build/x64/data/"])
def test_cvats_yolo(tmp_path: Path, above: str, in_list: str) -> None:
    for folder, name, label in (("train", "a", 0), ("train", "b", 1), ("valid", "c", 1)):
        put(tmp_path / f"obj_{folder}_data", {f"{name}.png": SIZE, f"{name}.txt": f"{label} 0.5 0.5 0.5 0.5"})
    lines = [f"{in_list}obj_train_data/{name}.png" for name in "ab"]
    facts = f"train = {above}train.txt\nvalid = {above}valid.txt\nnames = {above}obj.names\n"
    put(tmp_path, {
        "train.txt": "\n".join([*lines, "data/obj_train_data/gone.png"]),
        "valid.txt": f"{in_list}obj_valid_data/c.png\n",
        "obj.names": "cat\ndog\n",
        "obj.data": f"# train = none.txt\nclasses = 2\n{facts}backup = backup/\n",
    })  # fmt: skip
    assert dataset_splits(tmp_path) == dataset_splits(tmp_path / "obj.data") == ("train", "valid")
    dataset = load_dataset(tmp_path)
    assert (ids(dataset), dataset.labels.tolist()) == (["obj_train_data/a", "obj_train_data/b"], [0, 1])
    assert (dataset.class_names, kinds(dataset)) == (("cat", "dog"), {"missing-image": 1})
    assert load_dataset(tmp_path, "valid").labels.tolist() == [1]


@pytest.mark.parametrize("above", ["/home/me/set/", "C:\\set\\", "../set/", "set/"])
def test_lists_from_another_machine(root: Path, above: str) -> None:
    put(root, {"list.txt": f"{above}images/train/a.png\n{above}images/train/b.png\n"})
    data_file(root, "train: list.txt")
    assert ids(load_dataset(root)) == ["a", "b"]


def test_lists_in_a_folder_of_their_own(root: Path) -> None:
    put(root, {"lists/train.txt": "images/train/a.png\n"})
    data_file(root, "train: lists/train.txt")
    assert len(load_dataset(root).boxes) == 2


def test_a_folder_with_another_yaml_file(root: Path) -> None:
    (root / "data.yaml").rename(root / "set.yaml")
    assert len(load_dataset(put(root, {"a.yaml": b"\xff names train", "b.yaml": "names: [cat]\n"}))) == 3
    with pytest.raises(UserError, match="not UTF-8"):
        load_dataset(put(root, {"data.yaml": b"\xff names train"}))


def test_annotations_of_no_picture_are_named(root: Path) -> None:
    names = ("gone.txt", "A.TXT", "b.png.txt", "classes.txt")
    dataset = load_dataset(put(root / "labels" / "train", dict.fromkeys(names, "0 0.5 0.5 0.1 0.1")).parents[1])
    assert [(fault.kind, Path(fault.file).name) for fault in dataset.faults] == [("missing-image", "gone.txt")]
