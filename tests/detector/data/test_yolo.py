"""YOLO text folders: data files, label lines, polygons, backgrounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.data import dataset_splits, load_dataset
from detector.data.faults import count_faults
from proposals.errors import UserError


def add(images: Path, stem: str, label: str | None, labels: Path | None = None) -> None:
    images.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (200, 100)).save(images / f"{stem}.png")
    if label is not None:
        labels = labels or images
        labels.mkdir(parents=True, exist_ok=True)
        (labels / f"{stem}.txt").write_text(label)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path / "images" / "train", "a", "1 0.5 0.5 0.1 0.2\n\n0 0.25 0.5 0.5 1\n", tmp_path / "labels" / "train")
    add(tmp_path / "images" / "train", "b", "", tmp_path / "labels" / "train")
    add(tmp_path / "images" / "train", "c", None)
    add(tmp_path / "images" / "val", "d", "0 0.5 0.5 1 1", tmp_path / "labels" / "val")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")
    return tmp_path


def test_boxes_are_shares_of_the_picture(root: Path) -> None:
    dataset = load_dataset(root)
    assert (dataset.format, dataset.split, dataset.class_names, dataset.class_keys) == (
        "yolo",
        "train",
        ("cat", "dog"),
        (0, 1),
    )
    assert list(dataset.image_ids) == ["images/train/a", "images/train/b", "images/train/c"]
    np.testing.assert_allclose(dataset.boxes, [[90, 40, 110, 60], [0, 0, 100, 100]], atol=1e-4)
    assert dataset.labels.tolist() == [1, 0]
    assert dataset[0].image_size == (100, 200)
    assert len(dataset[1].ground_truth) == len(dataset[2].ground_truth) == 0  # backgrounds
    assert all(r.path.is_file() for r in dataset)
    assert not dataset.faults


def test_hidden_folders_are_left_out(root: Path) -> None:
    train = root / "images" / "train"
    add(train / ".ipynb_checkpoints" / "deep", "a-checkpoint", None)
    add(train / "more", "e", "0 0.5 0.5 1 1", root / "labels" / "train" / "more")
    names = [image_id.removeprefix("images/train/") for image_id in load_dataset(root, "train").image_ids]
    assert names == ["a", "b", "c", "more/e"]


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
    other = tmp_path_factory.mktemp("configs")
    (other / "my.yaml").write_text(f"path: {root}\ntrain: images/train\nnames: [cat, dog]\n")
    assert len(load_dataset(other / "my.yaml").boxes) == 2
    (other / "my.yaml").write_text("path: /no/such/folder\ntrain: images/train\nnames: [cat, dog]\n")
    with pytest.raises(UserError, match="`path` /no/such/folder does not exist"):
        load_dataset(other / "my.yaml")


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
    add(tmp_path, "a", "1 0.5 0.5 0.5 0.5")
    add(tmp_path, "b", None)
    (tmp_path / class_file).write_text("cat\ndog\n")
    add(tmp_path / "more", "c", "1 0.5 0.5 0.5 0.5")
    dataset = load_dataset(tmp_path)
    assert dataset_splits(tmp_path) == ()
    assert [(f.kind, Path(f.file)) for f in dataset.faults] == [("missing-annotation", tmp_path / "more" / "c.png")]
    assert (list(dataset.image_ids), dataset.labels.tolist()) == (["a", "b"], [1])


def test_folders_as_splits_without_a_data_file(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        add(tmp_path / split / "images", "a", "0 0.5 0.5 0.5 0.5", tmp_path / split / "labels")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert dataset_splits(tmp_path) == ("train", "valid")
    assert load_dataset(tmp_path)[0].path == tmp_path / "train" / "images" / "a.png"


def test_polygons_give_the_box_around_them(root: Path) -> None:
    (root / "labels" / "train" / "a.txt").write_text("0 0.1 0.2 0.5 0.1 0.3 0.6\n")
    np.testing.assert_allclose(load_dataset(root).boxes, [[20, 10, 100, 60]], atol=1e-4)


def test_faults_are_counted(root: Path) -> None:
    (root / "labels" / "train" / "a.txt").write_text(
        "0 0.5 0.5 0.1\n0 x 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n0 nan 0.5 0.1 0.1\n0 0.5 0.5 -0.1 0.1\n0 0.5 0.5 0 0.1\n"
        "0 3 3 0.1 0.1\n0 0.9 0.5 0.4 0.1\n0 0.5 0.5 0.1 0.1 0.9\n"
    )
    (root / "labels" / "train" / "b.txt").write_bytes(b"\xff\xfe\x00")
    (root / "images" / "train" / "c.png").write_text("no picture")
    dataset = load_dataset(root)
    assert list(dataset.image_ids) == ["images/train/a"]
    np.testing.assert_allclose(dataset.boxes, [[140, 45, 200, 55]], atol=1e-4)
    assert count_faults(dataset.faults) == {
        "bad-annotation": 1,
        "bad-object": 2,
        "not-a-number": 2,
        "inverted-box": 1,
        "zero-area-box": 1,
        "outside-box": 1,
        "clipped-box": 1,
        "unknown-class": 1,
        "unreadable-image": 1,
    }


def test_lists_that_climb_out_or_name_what_is_not_there(root: Path) -> None:
    (root / "list.txt").write_text("../x.png\n/etc/passwd\nimages/train/gone.png\nimages/train/a.png\n")
    (root / "data.yaml").write_text("train: list.txt\nnames: [cat, dog]\n")
    dataset = load_dataset(root)
    assert list(dataset.image_ids) == ["images/train/a"]
    assert count_faults(dataset.faults) == {"missing-image": 1, "escaping-path": 2}


def test_no_labels_at_all_is_an_error(root: Path) -> None:
    for path in (root / "labels" / "train").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="none of the 3 images has a text annotation"):
        load_dataset(root)


def test_same_names_are_told_apart(root: Path) -> None:
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, cat]\n")
    assert load_dataset(root).class_names == ("cat (0)", "cat (1)")


def test_keypoints_are_not_a_polygon(root: Path) -> None:
    (root / "labels" / "train" / "a.txt").write_text(
        "1 0.5 0.5 0.1 0.2 0.1 0.1 2 0.9 0.9 1\n0 0.5 0.5 0.1 0.2 0.1 0.1\n"
    )
    (root / "data.yaml").write_text("train: images/train\nkpt_shape: [2, 3]\nnames: [cat, dog]\n")
    dataset = load_dataset(root)
    np.testing.assert_allclose(dataset.boxes, [[90, 40, 110, 60]], atol=1e-4)
    assert count_faults(dataset.faults) == {"bad-object": 1}


def test_class_numbers_are_whole(root: Path) -> None:
    (root / "labels" / "train" / "a.txt").write_text("1.0 0.5 0.5 0.1 0.2\n0.5 0.5 0.5 0.1 0.2\nnan 0.5 0.5 0.1 0.2\n")
    dataset = load_dataset(root)
    assert dataset.labels.tolist() == [1]
    assert count_faults(dataset.faults) == {"bad-object": 2}


def test_pictures_that_differ_in_their_ending_alone_are_two(root: Path) -> None:
    Image.new("RGB", (200, 100)).save(root / "images" / "train" / "a.jpg")
    dataset = load_dataset(root)
    ids = [image_id.rpartition("/")[2] for image_id in dataset.image_ids]
    assert ids == ["a.jpg", "a.png", "b", "c"]
    assert len(dataset.boxes) == 4  # both have the annotation a.txt, which is said
    assert [(f.kind, Path(f.file).name) for f in dataset.faults] == [("same-stem", "a.txt")]
    (root / "labels" / "train" / "a.jpg.txt").write_text("0 0.5 0.5 0.1 0.1")
    dataset = load_dataset(root)
    assert len(dataset.boxes) == 3
    assert not dataset.faults


@pytest.mark.parametrize("label", ["A.txt", "a.TXT", "a.png.txt", "A.PNG.TXT"])
def test_annotations_with_other_capitals_or_the_whole_name(root: Path, label: str) -> None:
    (root / "labels" / "train" / "a.txt").rename(root / "labels" / "train" / label)
    assert len(load_dataset(root).boxes) == 2


def test_an_annotation_that_is_another_pictures_is_not_taken(root: Path) -> None:
    Image.new("RGB", (200, 100)).save(root / "images" / "train" / "A.png")
    dataset = load_dataset(root)
    assert [len(record.ground_truth) for record in dataset] == [0, 2, 0, 0]
    assert not dataset.faults


def test_a_split_that_is_not_there_blocks_no_other(root: Path) -> None:
    (root / "data.yaml").write_text("train: images/train\nval: images/none\ntest: ../../x\nnames: [cat, dog]\n")
    assert dataset_splits(root) == ("train",)
    dataset = load_dataset(root)
    assert len(dataset.boxes) == 2
    assert count_faults(dataset.faults) == {"missing-split": 2}
    assert "val is not there: images/none" in dataset.faults[0].message
    with pytest.raises(UserError, match=r"val \(images/none\) is neither a folder of images nor a list"):
        load_dataset(root, "val")


def test_nobody_trains_on_another_split_because_train_is_missing(root: Path) -> None:
    (root / "data.yaml").write_text("train: images/none\nval: images/val\nnames: [cat, dog]\n")
    assert dataset_splits(root) == ("train", "val")
    with pytest.raises(UserError, match=r"train \(images/none\) is neither"):
        load_dataset(root)
    assert len(load_dataset(root, "val")) == 1


def test_a_part_of_a_split_is_read(root: Path) -> None:
    (root / "data.yaml").write_text("train: [images/none, images/train]\nnames: [cat, dog]\n")
    dataset = load_dataset(root)
    assert len(dataset) == 3
    assert count_faults(dataset.faults) == {"missing-image": 1}


@pytest.mark.parametrize("above", ["", "data/", "/home/me/set/", "D:\\set\\"])
@pytest.mark.parametrize("in_list", ["data/", "", "build/x64/data/"])
def test_cvats_yolo(tmp_path: Path, above: str, in_list: str) -> None:
    add(tmp_path / "obj_train_data", "a", "0 0.5 0.5 0.5 0.5")
    add(tmp_path / "obj_train_data", "b", "1 0.5 0.5 0.5 0.5")
    add(tmp_path / "obj_valid_data", "c", "1 0.5 0.5 0.5 0.5")
    lines = [f"{in_list}obj_train_data/{name}.png" for name in "ab"]
    (tmp_path / "train.txt").write_text("\n".join([*lines, "data/obj_train_data/gone.png"]))
    (tmp_path / "valid.txt").write_text(f"{in_list}obj_valid_data/c.png\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "obj.data").write_text(
        f"classes = 2\ntrain = {above}train.txt\nvalid = {above}valid.txt\nnames = {above}obj.names\nbackup = backup/\n"
    )
    assert dataset_splits(tmp_path) == dataset_splits(tmp_path / "obj.data") == ("train", "valid")
    dataset = load_dataset(tmp_path)
    assert (list(dataset.image_ids), dataset.labels.tolist()) == (["obj_train_data/a", "obj_train_data/b"], [0, 1])
    assert dataset.class_names == ("cat", "dog")
    assert count_faults(dataset.faults) == {"missing-image": 1}
    assert load_dataset(tmp_path, "valid").labels.tolist() == [1]


@pytest.mark.parametrize("above", ["/home/me/set/", "C:\\set\\", "../set/", "set/"])
def test_lists_from_another_machine(root: Path, above: str) -> None:
    (root / "list.txt").write_text(f"{above}images/train/a.png\n{above}images/train/b.png\n")
    (root / "data.yaml").write_text("train: list.txt\nnames: [cat, dog]\n")
    dataset = load_dataset(root)
    assert list(dataset.image_ids) == ["images/train/a", "images/train/b"]


def test_lists_in_a_folder_of_their_own(root: Path) -> None:
    (root / "lists").mkdir()
    (root / "lists" / "train.txt").write_text("images/train/a.png\n")
    (root / "data.yaml").write_text("train: lists/train.txt\nnames: [cat, dog]\n")
    assert len(load_dataset(root).boxes) == 2


def test_a_list_of_pictures_that_are_not_there(root: Path) -> None:
    (root / "list.txt").write_text("x.png\ny.png\n")
    (root / "data.yaml").write_text("train: list.txt\nnames: [cat, dog]\n")
    with pytest.raises(UserError, match=r"none of 2 images is there \(there is no image x\.png"):
        load_dataset(root)


def test_a_folder_with_another_yaml_file(root: Path) -> None:
    (root / "a.yaml").write_bytes(b"\xff names train")
    assert len(load_dataset(root)) == 3
    (root / "data.yaml").write_bytes(b"\xff names train")
    with pytest.raises(UserError, match="not UTF-8"):
        load_dataset(root)


def test_annotations_of_no_picture_are_named(root: Path) -> None:
    for name in ("gone.txt", "A.TXT", "b.png.txt", "classes.txt"):
        (root / "labels" / "train" / name).write_text("0 0.5 0.5 0.1 0.1")
    dataset = load_dataset(root)
    assert [(fault.kind, Path(fault.file).name) for fault in dataset.faults] == [("missing-image", "gone.txt")]
