"""PASCAL VOC: the kit, many years, and what labelling tools leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from detector.data import dataset_splits, load_dataset, read_record
from detector.data.faults import count_faults
from detector.data.voc_xml import parse_xml
from proposals.errors import UserError


def obj(name: str, *corners: object, extra: str = "") -> str:
    tags = "".join(f"<{t}>{c}</{t}>" for t, c in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{tags}</bndbox></object>"


def annotation(*objects: str, size: str = "<size><width>40</width><height>30</height></size>", head: str = "") -> str:
    return f"<annotation>{head}{size}{''.join(objects)}</annotation>"


def add(folder: Path, stem: str, xml: str | None, pictures: str = "JPEGImages", xmls: str = "Annotations") -> None:
    for sub in (pictures, xmls):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / pictures / f"{stem}.jpg")
    if xml is not None:
        (folder / xmls / f"{stem}.xml").write_text(xml)


def write_list(folder: Path, name: str, *lines: str) -> None:
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2007"
    add(root, "a", annotation(obj("dog", 1, 1, 10, 10), obj("cat", 5, 6, 40, 30, extra="<difficult>1</difficult>")))
    add(root, "b", annotation(obj("cat", 2, 2, 9, 9)))
    add(root, "c", annotation(obj("bird", 2, 2, 9, 9)))
    write_list(root, "train", "a", "b")
    write_list(root, "test", "c")
    return root


def test_coordinates_count_from_one_and_include_the_last_pixel(kit: Path) -> None:
    dataset = load_dataset(kit, "train")
    assert dataset.format == "voc"
    assert dataset.boxes.tolist() == [[0, 0, 10, 10], [4, 5, 40, 30], [1, 1, 9, 9]]
    assert dataset.ignore.tolist() == [False, True, False]
    assert dataset[0].image_size == (30, 40)
    assert dataset[0].path == kit / "JPEGImages" / "a.jpg"
    assert dataset[0].path.is_file()
    assert not dataset.faults


def test_labels_mean_the_same_in_every_split(kit: Path) -> None:
    for split in ("train", "test", "train+test"):
        assert load_dataset(kit, split).class_names == ("bird", "cat", "dog")
    assert list(load_dataset(kit, "test").labels) == [0]


def test_default_split_is_for_training(kit: Path) -> None:
    assert dataset_splits(kit) == ("test", "train")
    assert load_dataset(kit).split == "train"
    assert [r.image_id for r in load_dataset(kit, "test+train")] == ["c", "a", "b"]
    with pytest.raises(UserError, match="no split 'val'; it has test, train"):
        load_dataset(kit, "val")


def test_class_lists_give_classes_and_are_no_splits(kit: Path) -> None:
    write_list(kit, "unicorn_train", "a -1", "b  1")
    for name in ("bird", "cat", "dog"):
        write_list(kit, f"{name}_train", "a  1")
    assert dataset_splits(kit) == ("test", "train")
    dataset = load_dataset(kit, "unicorn_train")
    assert dataset.class_names == ("bird", "cat", "dog", "unicorn")
    assert [r.image_id for r in dataset] == ["b"]  # -1 marks a picture without the class


def test_given_classes_set_the_labels(kit: Path) -> None:
    dataset = load_dataset(kit, "train", ["dog", "zebra", "cat"])
    assert dataset.class_names == ("dog", "zebra", "cat")
    assert dataset.labels.tolist() == [0, 2, 2]
    only = load_dataset(kit, "train", ["dog"])
    assert only.labels.tolist() == [0]
    assert len(only) == 2
    assert count_faults(only.faults) == {"unknown-class": 1}


def test_class_file_sets_the_labels(kit: Path) -> None:
    (kit / "classes.txt").write_text("\ufeffdog\r\ncat\r\n\r\nbird\r\n", encoding="utf-8")
    assert load_dataset(kit, "train").class_names == ("dog", "cat", "bird")


def test_many_years(tmp_path: Path, kit: Path) -> None:
    newer = tmp_path / "VOC2012"
    add(newer, "2008_1", annotation(obj("cow", 1, 1, 5, 5)))
    add(newer, "a", annotation(obj("cow", 1, 1, 5, 5)))
    write_list(newer, "train", "2008_1", "a")
    write_list(newer, "val", "2008_1")
    both = load_dataset(tmp_path, "train")
    assert list(both.image_ids) == ["a", "b", "2008_1"]
    assert count_faults(both.faults) == {"duplicate-image": 1}
    assert both.class_names == ("bird", "cat", "cow", "dog")
    assert all(r.path.is_file() for r in both)
    assert [r.image_id for r in load_dataset(tmp_path, "2007/test+2012/val")] == ["c", "2008_1"]
    assert [r.image_id for r in load_dataset(tmp_path, "VOC2012/train")] == ["2008_1", "a"]
    assert dataset_splits(tmp_path) == ("test", "train", "val")
    with pytest.raises(UserError, match="no split '2011/train'"):
        load_dataset(tmp_path, "2011/train")


def test_archive_folder_around_the_years(tmp_path: Path) -> None:
    year = tmp_path / "VOCdevkit" / "VOC2007"
    add(year, "a", annotation(obj("dog", 1, 1, 5, 5)))
    write_list(year, "trainval", "a")
    dataset = load_dataset(tmp_path)
    assert dataset.split == "trainval"
    assert dataset[0].path.is_file()


@pytest.mark.parametrize(
    ("pictures", "xmls"),
    [("", ""), ("", "Annotations"), ("", "annotations"), ("images", "annotations"), ("JPEGImages", "Annotations")],
)
def test_photographs_labelled_by_a_tool(tmp_path: Path, pictures: str, xmls: str) -> None:
    add(tmp_path, "IMG 1", annotation(obj("mug", 1, 1, 20, 20)), pictures, xmls)
    add(tmp_path, "IMG 2", annotation(), pictures, xmls)
    add(tmp_path, "IMG 3", None, pictures, xmls)
    dataset = load_dataset(tmp_path)
    assert dataset.split == ""
    assert [r.image_id for r in dataset] == ["IMG 1", "IMG 2"]
    assert dataset.class_names == ("mug",)
    assert all(r.path.is_file() for r in dataset)
    assert [(f.kind, Path(f.file).name) for f in dataset.faults] == [("missing-annotation", "IMG 3.jpg")]
    with pytest.raises(UserError, match="has no splits"):
        load_dataset(tmp_path, "train")


def test_folders_as_splits(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", annotation(obj("mug", 1, 1, 20, 20)), "", "")
    add(tmp_path / "test", "b", annotation(obj("cup", 1, 1, 20, 20)), "", "")
    assert dataset_splits(tmp_path) == ("test", "train")
    dataset = load_dataset(tmp_path)
    assert (dataset.split, list(dataset.image_ids), dataset.class_names) == ("train", ["a"], ("cup", "mug"))


def test_splits_with_the_same_names(tmp_path: Path) -> None:
    for split, x in (("train", 10), ("val", 20)):
        add(tmp_path / split, "1", annotation(obj("mug", 1, 1, x, 20)), "", "")
    add(tmp_path / "val", "2", annotation(obj("mug", 1, 1, 30, 20)), "", "")
    both = load_dataset(tmp_path, "train+val")
    assert list(both.image_ids) == ["1", "val/1", "2"]
    assert both.boxes[:, 2].tolist() == [10, 20, 30]
    assert [str(r.path.relative_to(tmp_path)) for r in both] == ["train/1.jpg", "val/1.jpg", "val/2.jpg"]
    assert not both.faults
    assert list(load_dataset(tmp_path, "val").image_ids) == ["1", "2"]


def test_other_folders_are_parts_of_one_set(tmp_path: Path) -> None:
    add(tmp_path / "mugs", "1", annotation(obj("mug", 1, 1, 20, 20)), "", "")
    add(tmp_path / "cups", "1", annotation(obj("cup", 1, 1, 20, 20)), "", "")
    assert dataset_splits(tmp_path) == ()
    dataset = load_dataset(tmp_path)
    assert list(dataset.image_ids) == ["cups/1", "mugs/1"]
    assert dataset.class_names == ("cup", "mug")
    assert all(r.path.is_file() for r in dataset)
    assert not dataset.faults


@pytest.mark.parametrize(
    "size", ["", "<size/>", "<size><width>0</width><height>0</height></size>", "<size><width>?</width></size>"]
)
def test_missing_size_comes_from_the_picture(tmp_path: Path, size: str) -> None:
    add(tmp_path, "a", annotation(obj("mug", 1, 1, 20, 20), size=size), "", "")
    dataset = load_dataset(tmp_path)
    assert dataset.sizes.tolist() == [[30, 40]]
    assert not dataset.faults


def test_missing_size_of_an_unreadable_picture_is_a_fault(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        add(tmp_path, stem, annotation(obj("mug", 1, 1, 20, 20), size=""), "", "")
    (tmp_path / "a.jpg").write_text("no picture")
    dataset = load_dataset(tmp_path)
    assert list(dataset.image_ids) == ["b"]
    assert count_faults(dataset.faults) == {"unreadable-image": 1}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_drawn_on_the_stored_picture_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((30, 40, 3), np.uint8)
    stored[4:9, 6:20] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "a.xml").write_text(annotation(obj("mug", 7, 5, 20, 9)))
    dataset = load_dataset(tmp_path)
    assert count_faults(dataset.faults) == {"turned-boxes": 1}
    (record,) = dataset
    assert record.image_size == (40, 30)
    y, x = np.nonzero(read_record(record)[..., 0])
    assert record.ground_truth.boxes.tolist() == [[x.min(), y.min(), x.max() + 1, y.max() + 1]]


def test_sizes_of_a_tools_annotations_are_compared(tmp_path: Path) -> None:
    for stem, size in (("same", (40, 30)), ("larger", (80, 60)), ("exchanged", (30, 40))):
        tag = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
        add(tmp_path, stem, annotation(obj("mug", 1, 1, 20, 20), size=tag), "", "")
    dataset = load_dataset(tmp_path)
    assert list(dataset.image_ids) == ["same"]
    assert count_faults(dataset.faults) == {"size-mismatch": 2}


def test_faults_of_the_kit_are_counted_never_raised(kit: Path) -> None:
    add(kit, "bad", "<annotation><object>")
    add(kit, "html", "<html/>")
    add(kit, "nopic", annotation())
    (kit / "JPEGImages" / "nopic.jpg").unlink()
    write_list(kit, "train", "a", "bad", "html", "nopic", "noxml", "../../etc/passwd", "a", "/etc/passwd")
    dataset = load_dataset(kit, "train")
    assert list(dataset.image_ids) == ["a"]
    assert count_faults(dataset.faults) == {
        "missing-image": 1,
        "missing-annotation": 1,
        "bad-annotation": 2,
        "escaping-path": 2,
        "duplicate-image": 1,
    }


def test_a_split_without_any_annotation_is_an_error(kit: Path) -> None:
    write_list(kit, "hidden", "x", "y")
    with pytest.raises(UserError, match=r"none of 2 annotations can be read .*detector detect"):
        load_dataset(kit, "hidden")


def test_picture_by_file_name_where_the_stem_differs(tmp_path: Path) -> None:
    add(tmp_path, "photo", None, "", "")
    add(tmp_path, "other", annotation(), "", "")
    (tmp_path / "label1.xml").write_text(annotation(obj("mug", 1, 1, 9, 9), head="<filename>photo.JPG</filename>"))
    (tmp_path / "label2.xml").write_text(annotation(head="<filename>../../secret.jpg</filename>"))
    dataset = load_dataset(tmp_path)
    assert dict(zip(dataset.image_ids, dataset.paths, strict=True)) == {"label1": "photo.jpg", "other": "other.jpg"}
    assert count_faults(dataset.faults) == {"missing-image": 1}


def test_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><annotation><object><name>&b;</name></object></annotation>'
    add(tmp_path, "bomb", bomb, "", "")
    secret = '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation><filename>&f;</filename></annotation>'
    add(tmp_path, "file", secret, "", "")
    add(tmp_path, "good", annotation(), "", "")
    dataset = load_dataset(tmp_path)
    assert list(dataset.image_ids) == ["good"]
    assert count_faults(dataset.faults) == {"bad-annotation": 2}


def test_parse_edges() -> None:
    items = (
        obj(" cat ", " 3 ", "4.5", 10, 12),
        obj("cat", "", 4, 10, 12),
        obj("cat", "abc", 4, 10, 12),
        "<object><name>cat</name></object>",
        obj("cat", 7, 8, 7, 8),
        obj("cat", 7, 8, 7, 9),
        "<part><name>tail</name></part>",
    )
    parsed = parse_xml(annotation(*items).encode())
    corners = np.array([o[1:5] for o in parsed.objects])
    assert [o.key for o in parsed.objects] == ["cat"] * 5
    np.testing.assert_array_equal(corners[0], [2, 3.5, 10, 12])
    assert np.isnan(corners[1:4, 0]).all()
    np.testing.assert_array_equal(corners[4], [6, 7, 7, 9])
    assert parsed.faults == (("one-pixel-box", "box of the single pixel 7 8 (cat): a click, not a box"),)
    zero_based = parse_xml(annotation(obj("cat", 0, 0, 39, 29)).encode(), first_pixel=0)
    assert zero_based.objects[0][1:5] == (0, 0, 40, 30)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_class_names_in_any_encoding(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + annotation(obj("Käse", 1, 1, 2, 3))
    assert parse_xml(text.encode(encoding)).objects[0].key == "Käse"


def test_the_current_folder_has_a_name(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kit)
    assert load_dataset(".", "train").name == "VOC2007"


def test_click_boxes_are_left_out_and_noted(kit: Path) -> None:
    add(kit, "b", annotation(obj("cat", 9, 9, 9, 9), obj("cat", 1, 1, 3, 3)))
    dataset = load_dataset(kit, "train")
    assert dataset[1].ground_truth.boxes.tolist() == [[0, 0, 3, 3]]
    assert count_faults(dataset.faults) == {"one-pixel-box": 1}


def test_picture_folder_elsewhere(kit: Path, tmp_path: Path) -> None:
    (kit / "JPEGImages").rename(tmp_path / "photos")
    dataset = load_dataset(kit, "train", images=tmp_path / "photos")
    assert all(r.path.is_file() for r in dataset)
    with pytest.raises(UserError, match="image folder nowhere does not exist"):
        load_dataset(kit, "train", images="nowhere")
