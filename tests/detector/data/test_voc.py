"""PASCAL VOC: the kit, many years, what labelling tools leave, and which files a name means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from small_sets import put, voc_annotation, voc_object

from detector.data import Dataset, dataset_splits, load_dataset, read_record
from detector.data.faults import count_faults
from detector.data.voc_xml import parse_xml
from proposals.errors import UserError

MUG, CUP, CAT = (voc_annotation(voc_object(name, 1, 1, 20, 20)) for name in ("mug", "cup", "cat"))
EMPTY = voc_annotation()


def add(folder: Path, stem: str, xml: str | None, pictures: str = "JPEGImages", xmls: str = "Annotations") -> None:
    put(folder / pictures, {f"{stem}.jpg": (40, 30)})
    if xml is not None:
        put(folder / xmls, {f"{stem}.xml": xml})


def beside(folder: Path, **xmls: str | None) -> None:
    """Pictures with their annotations beside them."""
    for stem, xml in xmls.items():
        add(folder, stem, xml, "", "")


def write_list(folder: Path, name: str, *lines: str) -> None:
    put(folder, {f"ImageSets/Main/{name}.txt": "\n".join(lines) + "\n"})


def ids(dataset: Dataset) -> list[str]:
    assert all(record.path.is_file() for record in dataset)
    return list(dataset.image_ids)


def kinds(dataset: Dataset) -> dict[str, int]:
    return count_faults(dataset.faults)


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    root, difficult = tmp_path / "VOC2007", "<difficult>1</difficult>"
    add(root, "a", voc_annotation(voc_object("dog", 1, 1, 10, 10), voc_object("cat", 5, 6, 40, 30, extra=difficult)))
    add(root, "b", voc_annotation(voc_object("cat", 2, 2, 9, 9)))
    add(root, "c", voc_annotation(voc_object("bird", 2, 2, 9, 9)))
    write_list(root, "train", "a", "b")
    write_list(root, "test", "c")
    return root


# --- the kit ----------------------------------------------------------------------------------------------------------


def test_coordinates_count_from_one_and_include_the_last_pixel(kit: Path) -> None:
    dataset = load_dataset(kit, "train")
    assert dataset.format == "voc"
    assert dataset.boxes.tolist() == [[0, 0, 10, 10], [4, 5, 40, 30], [1, 1, 9, 9]]
    assert dataset.ignore.tolist() == [False, True, False]
    assert (dataset[0].image_size, dataset[0].path) == ((30, 40), kit / "JPEGImages" / "a.jpg")
    assert not dataset.faults


def test_splits_and_labels_that_mean_the_same_in_each(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dataset_splits(kit) == ("test", "train")
    assert load_dataset(kit).split == "train"
    for split, found in (("train", ["a", "b"]), ("test", ["c"]), ("test+train", ["c", "a", "b"])):
        dataset = load_dataset(kit, split)
        assert (dataset.class_names, ids(dataset)) == (("bird", "cat", "dog"), found)
    assert load_dataset(kit, "test").labels.tolist() == [0]
    with pytest.raises(UserError, match="no split 'val'; it has test, train"):
        load_dataset(kit, "val")
    monkeypatch.chdir(kit)
    assert load_dataset(".", "train").name == "VOC2007"


def test_class_lists_give_classes_and_are_no_splits(kit: Path) -> None:
    write_list(kit, "unicorn_train", "a -1", "b  1")
    for name in ("bird", "cat", "dog"):
        write_list(kit, f"{name}_train", "a  1")
    assert dataset_splits(kit) == ("test", "train")
    dataset = load_dataset(kit, "unicorn_train")
    assert dataset.class_names == ("bird", "cat", "dog", "unicorn")
    assert ids(dataset) == ["b"]  # -1 marks a picture without the class


def test_listed_classes_keep_their_labels_where_a_split_has_another(kit: Path) -> None:
    for name in ("cat", "dog"):
        write_list(kit, f"{name}_train", "a  1")
    assert load_dataset(kit, "train").class_names == ("cat", "dog")
    assert load_dataset(kit, "test").class_names == ("cat", "dog", "bird")


def test_given_classes_set_the_labels(kit: Path) -> None:
    dataset = load_dataset(kit, "train", ["dog", "zebra", "cat"])
    assert (dataset.class_names, dataset.labels.tolist()) == (("dog", "zebra", "cat"), [0, 2, 2])
    only = load_dataset(kit, "train", ["dog"])
    assert (only.labels.tolist(), len(only), kinds(only)) == ([0], 2, {"unknown-class": 1})
    none = load_dataset(kit, "test", ["cat", "dog"])  # which the split does not show
    assert (none.class_names, len(none), len(none.boxes), kinds(none)) == (("cat", "dog"), 1, 0, {"unknown-class": 1})
    with pytest.raises(UserError, match="none of the wanted classes is in it; it has bird, cat, dog"):
        load_dataset(kit, "test", ["cow"])
    put(kit, {"classes.txt": "\ufeffdog\r\ncat\r\n\r\nbird\r\n"})
    assert load_dataset(kit, "train").class_names == ("dog", "cat", "bird")


def test_many_years(tmp_path: Path, kit: Path) -> None:
    newer, cow = tmp_path / "VOC2012", voc_annotation(voc_object("cow", 1, 1, 5, 5))
    for stem in ("2008_1", "a"):
        add(newer, stem, cow)
    write_list(newer, "train", "2008_1", "a")
    write_list(newer, "val", "2008_1")
    both = load_dataset(tmp_path, "train")
    assert (ids(both), kinds(both)) == (["a", "b", "2008_1"], {"duplicate-image": 1})
    assert both.class_names == ("bird", "cat", "cow", "dog")
    assert ids(load_dataset(tmp_path, "2007/test+2012/val")) == ["c", "2008_1"]
    assert ids(load_dataset(tmp_path, "VOC2012/train")) == ["2008_1", "a"]
    assert dataset_splits(tmp_path) == ("test", "train", "val")
    with pytest.raises(UserError, match="no split '2011/train'"):
        load_dataset(tmp_path, "2011/train")


def test_archive_folder_around_the_years(tmp_path: Path) -> None:
    year = tmp_path / "VOCdevkit" / "VOC2007"
    add(year, "a", MUG)
    write_list(year, "trainval", "a")
    dataset = load_dataset(tmp_path)
    assert (dataset.split, ids(dataset)) == ("trainval", ["a"])


def test_faults_of_the_kit_are_counted_never_raised(kit: Path) -> None:
    add(kit, "bad", "<annotation><object>")
    add(kit, "html", "<html/>")
    add(kit, "click", voc_annotation(voc_object("cat", 9, 9, 9, 9), voc_object("cat", 1, 1, 3, 3)))
    put(kit, {"Annotations/nopic.xml": EMPTY, "JPEGImages/b.png": (40, 30)})
    listed = ("b", "bad", "html", "click", "nopic", "noxml", "../../etc/passwd", "b", "/etc/passwd")
    write_list(kit, "train", *listed)
    dataset = load_dataset(kit, "train")
    assert list(dataset.paths) == ["JPEGImages/b.jpg", "JPEGImages/click.jpg"]
    assert dataset[1].ground_truth.boxes.tolist() == [[0, 0, 3, 3]]
    assert kinds(dataset) == {
        "missing-image": 1, "missing-annotation": 1, "bad-annotation": 2, "escaping-path": 2, "duplicate-image": 1,
        "one-pixel-box": 1, "same-stem": 1,
    }  # fmt: skip
    write_list(kit, "hidden", "x", "y")
    with pytest.raises(UserError, match=r"none of 2 annotations can be read .*detector detect"):
        load_dataset(kit, "hidden")


def test_pictures_elsewhere(kit: Path, tmp_path: Path) -> None:
    photos = (kit / "JPEGImages").rename(tmp_path / "photos")
    assert ids(load_dataset(kit, "train", images=photos)) == ["a", "b"]
    with pytest.raises(UserError, match="image folder nowhere does not exist"):
        load_dataset(kit, "train", images="nowhere")
    with pytest.raises(UserError, match=r"none of 2 annotated images is in .*JPEGImages; name their folder"):
        load_dataset(kit, "train")
    put(kit, {"JPEGImages/a.jpg": (40, 30)})
    assert kinds(load_dataset(kit, "train")) == {"missing-image": 1}


# --- labelling tools --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pictures", "xmls"),
    [("", ""), ("", "Annotations"), ("", "annotations"), ("images", "annotations"), ("JPEGImages", "Annotations")],
)
def test_photographs_labelled_by_a_tool(tmp_path: Path, pictures: str, xmls: str) -> None:
    for stem, xml in (("IMG 1", MUG), ("IMG 2", EMPTY), ("IMG 3", None)):
        add(tmp_path, stem, xml, pictures, xmls)
    dataset = load_dataset(tmp_path)
    assert (dataset.split, ids(dataset), dataset.class_names) == ("", ["IMG 1", "IMG 2"], ("mug",))
    assert [(f.kind, Path(f.file).name) for f in dataset.faults] == [("missing-annotation", "IMG 3.jpg")]
    with pytest.raises(UserError, match="has no splits"):
        load_dataset(tmp_path, "train")


def test_folders_as_splits(tmp_path: Path) -> None:
    beside(tmp_path / "train", a=MUG, c=MUG)
    beside(tmp_path / "test", b=CUP, c=CUP)
    assert dataset_splits(tmp_path) == ("test", "train")
    dataset = load_dataset(tmp_path)
    assert (dataset.split, ids(dataset), dataset.class_names) == ("train", ["a", "c"], ("cup", "mug"))
    both = load_dataset(tmp_path, "train+test")  # names that both have are told apart
    assert (ids(both), both.labels.tolist(), both.faults) == (["a", "c", "b", "test/c"], [1, 1, 0, 0], ())
    assert list(both.paths) == ["train/a.jpg", "train/c.jpg", "test/b.jpg", "test/c.jpg"]
    assert ids(load_dataset(tmp_path, "test")) == ["b", "c"]


def test_other_folders_are_parts_of_one_set(tmp_path: Path) -> None:
    beside(tmp_path / "mugs", a=MUG)
    beside(tmp_path / "cups", a=CUP)
    assert dataset_splits(tmp_path) == ()
    dataset = load_dataset(tmp_path)
    assert (ids(dataset), dataset.class_names, dataset.faults) == (["cups/a", "mugs/a"], ("cup", "mug"), ())


@pytest.mark.parametrize(
    "size", ["", "<size/>", "<size><width>0</width><height>0</height></size>", "<size><width>?</width></size>"]
)
def test_missing_size_comes_from_the_picture(tmp_path: Path, size: str) -> None:
    xml = voc_annotation(voc_object("mug", 1, 1, 20, 20), size=size)
    beside(tmp_path, a=xml, b=xml)
    dataset = load_dataset(tmp_path)
    assert (dataset.sizes.tolist(), dataset.faults) == ([[30, 40]] * 2, ())
    put(tmp_path, {"a.jpg": "no picture"})
    dataset = load_dataset(tmp_path)
    assert (ids(dataset), kinds(dataset)) == (["b"], {"unreadable-image": 1})


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_drawn_on_the_stored_picture_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((30, 40, 3), np.uint8)
    stored[4:9, 6:20] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    put(tmp_path, {"a.xml": voc_annotation(voc_object("mug", 7, 5, 20, 9))})
    dataset = load_dataset(tmp_path)
    assert kinds(dataset) == {"turned-boxes": 1}
    assert dataset[0].image_size == (40, 30)
    y, x = np.nonzero(read_record(dataset[0])[..., 0])
    assert dataset.boxes.tolist() == [[x.min(), y.min(), x.max() + 1, y.max() + 1]]


def test_sizes_of_a_tools_annotations_are_compared(tmp_path: Path) -> None:
    sizes = {"same": (40, 30), "larger": (80, 60), "exchanged": (30, 40)}
    beside(tmp_path, **{stem: voc_annotation(size=size) for stem, size in sizes.items()})
    dataset = load_dataset(tmp_path)
    assert (ids(dataset), kinds(dataset)) == (["same"], {"size-mismatch": 2})


def test_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><annotation><object><name>&b;</name></object></annotation>'
    secret = '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation><filename>&f;</filename></annotation>'
    beside(tmp_path, bomb=bomb, file=secret, good=EMPTY)
    dataset = load_dataset(tmp_path)
    assert (ids(dataset), kinds(dataset)) == (["good"], {"bad-annotation": 2})


def test_parse_edges() -> None:
    items = (
        voc_object(" cat ", " 3 ", "4.5", 10, 12),
        voc_object("cat", "", 4, 10, 12),
        voc_object("cat", "abc", 4, 10, 12),
        "<object><name>cat</name></object>",
        voc_object("cat", 7, 8, 7, 8),
        voc_object("cat", 7, 8, 7, 9),
        "<part><name>tail</name></part>",
    )
    parsed = parse_xml(voc_annotation(*items).encode())
    corners = np.array([o[1:5] for o in parsed.objects])
    assert [o.key for o in parsed.objects] == ["cat"] * 5
    np.testing.assert_array_equal(corners[0], [2, 3.5, 10, 12])
    assert np.isnan(corners[1:4, 0]).all()
    np.testing.assert_array_equal(corners[4], [6, 7, 7, 9])
    assert parsed.faults == (("one-pixel-box", "box of the single pixel 7 8 (cat): a click, not a box"),)
    zero_based = parse_xml(voc_annotation(voc_object("cat", 0, 0, 39, 29)).encode(), first_pixel=0)
    assert zero_based.objects[0][1:5] == (0, 0, 40, 30)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_class_names_in_any_encoding(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + voc_annotation(voc_object("Käse", 1, 1, 2, 3))
    assert parse_xml(text.encode(encoding)).objects[0].key == "Käse"


def test_objects_without_a_name_are_left_out(tmp_path: Path) -> None:
    nameless = [voc_object(name, 1, 1, 9, 9) for name in ("", "  \n", "x")]
    nameless[2] = nameless[2].replace("<name>x</name>", "")
    beside(tmp_path, a=voc_annotation(*nameless, voc_object("\ncat\n dog\n", 1, 1, 9, 9)))
    dataset = load_dataset(tmp_path)
    assert (dataset.class_names, len(dataset.boxes), kinds(dataset)) == (("cat dog",), 1, {"bad-object": 3})
    assert all(fault.effect == "box left out" for fault in dataset.faults)


def test_annotations_alone_and_their_pictures_elsewhere(tmp_path: Path) -> None:
    xmls, photos = tmp_path / "xmls", tmp_path / "photos"
    add(xmls, "a", MUG, "../photos", "")
    with pytest.raises(UserError, match=r"none of 1 annotated images is in .* name their folder with --images"):
        load_dataset(xmls)
    assert load_dataset(xmls, images=photos)[0].path == photos / "a.jpg"


@pytest.mark.parametrize("others", [{"more/b": True}, {"more/b": False}, {"b": False, "dogs/c": False}])
def test_pictures_of_folders_that_are_not_read_are_named(tmp_path: Path, others: dict[str, bool]) -> None:
    """Beside annotated images, whether they are annotated themselves or not."""
    here = "cats" if "b" in others else ""
    for name, annotated in {f"{here}/a": True, **others}.items():
        folder, _, stem = name.rpartition("/")
        add(tmp_path, stem, CAT if annotated else None, folder, folder)
    dataset = load_dataset(tmp_path)
    assert len(dataset) == 1
    left_out = [("missing-annotation", str(tmp_path / f"{name}.jpg")) for name in others]
    assert [(f.kind, f.file) for f in dataset.faults] == left_out


# --- which files a name means -----------------------------------------------------------------------------------------


def test_lists_of_names_with_spaces(kit: Path) -> None:
    for stem in ("my cat 1", "my cat 2", "my cat"):
        add(kit, stem, CAT)
    write_list(kit, "train", '"my cat 1"', "my cat 2", "'my cat'")
    assert ids(load_dataset(kit, "train")) == ["my cat 1", "my cat 2", "my cat"]
    write_list(kit, "train", '"my cat 1" 1', "my cat 2  0", "my cat -1", "b\t1")
    assert ids(load_dataset(kit, "train")) == ["my cat 1", "my cat 2", "b"]
    write_list(kit, "cat_train", "my cat 1", "my cat 2  1", "b -1")  # a class's list: 1 behind my cat is its flag
    dataset = load_dataset(kit, "cat_train")
    assert (ids(dataset), dataset.faults) == (["my cat", "my cat 2"], ())


@pytest.mark.parametrize("line", ["a.jpg", "a.xml", "JPEGImages/a.jpg", "/home/me/VOC2007/JPEGImages/a.jpg", "A"])
def test_list_entries_that_are_names_of_files(kit: Path, line: str) -> None:
    write_list(kit, "train", line, "b")
    dataset = load_dataset(kit, "train")
    assert (ids(dataset), dataset.faults) == (["a", "b"], ())


@pytest.mark.parametrize("xml", ["a.jpg.xml", "a.XML", "A.xml", "A.JPG.Xml"])
@pytest.mark.parametrize("listed", [False, True])
def test_annotations_with_both_endings_or_other_capitals(tmp_path: Path, xml: str, listed: bool) -> None:
    add(tmp_path, "b", MUG)
    add(tmp_path, "a", None)
    put(tmp_path, {f"Annotations/{xml}": CUP})
    if listed:
        write_list(tmp_path, "train", "a", "b")
    dataset = load_dataset(tmp_path)
    assert sorted(dataset.paths) == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
    assert (dataset.class_names, dataset.faults) == (("cup", "mug"), ())


def test_the_picture_that_the_annotation_names_is_taken(tmp_path: Path) -> None:
    beside(tmp_path, a=voc_annotation(head="<filename>a.png</filename>"), photo=None, other=EMPTY)
    named = voc_annotation(head="<filename>photo.JPG</filename>")
    put(tmp_path, {"a.png": (40, 30), "l1.xml": named, "l2.xml": named.replace("photo.JPG", "../../secret.jpg")})
    dataset = load_dataset(tmp_path)
    pictures = {"a": "a.png", "l1": "photo.jpg", "other": "other.jpg"}
    assert dict(zip(ids(dataset), dataset.paths, strict=True)) == pictures
    assert [(f.kind, Path(f.file).name) for f in dataset.faults] == [
        ("missing-image", "l2.xml"), ("missing-annotation", "a.jpg"),
    ]  # fmt: skip


def test_two_annotations_of_one_picture(tmp_path: Path) -> None:
    beside(tmp_path, a=MUG, b=voc_annotation(head="<filename>a.jpg</filename>"))
    dataset = load_dataset(tmp_path)
    assert ids(dataset) == ["a"]
    assert [f.kind for f in dataset.faults] == ["duplicate-image", "missing-annotation"]
