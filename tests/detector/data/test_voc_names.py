"""PASCAL VOC: which annotation and which picture a name means."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detector.data import load_dataset
from detector.data.faults import count_faults
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


def test_lists_of_names_with_spaces(kit: Path) -> None:
    for stem in ("my cat 1", "my cat 2", "my cat"):
        add(kit, stem, annotation(obj("cat", 1, 1, 9, 9)))
    write_list(kit, "train", '"my cat 1"', "my cat 2", "'my cat'")
    assert [r.image_id for r in load_dataset(kit, "train")] == ["my cat 1", "my cat 2", "my cat"]
    write_list(kit, "train", '"my cat 1" 1', "my cat 2  0", "my cat -1", "b\t1")
    assert [r.image_id for r in load_dataset(kit, "train")] == ["my cat 1", "my cat 2", "b"]
    write_list(kit, "cat_train", "my cat 1", "my cat 2  1", "b -1")  # a class's list: 1 behind my cat is its flag
    assert [r.image_id for r in load_dataset(kit, "cat_train")] == ["my cat", "my cat 2"]
    assert not load_dataset(kit, "cat_train").faults


@pytest.mark.parametrize("line", ["a.jpg", "a.xml", "JPEGImages/a.jpg", "/home/me/VOC2007/JPEGImages/a.jpg", "A"])
def test_list_entries_that_are_names_of_files(kit: Path, line: str) -> None:
    write_list(kit, "train", line, "b")
    dataset = load_dataset(kit, "train")
    assert list(dataset.image_ids) == ["a", "b"]
    assert not dataset.faults


@pytest.mark.parametrize("xml", ["a.jpg.xml", "a.XML", "A.xml", "A.JPG.Xml"])
@pytest.mark.parametrize("listed", [False, True])
def test_annotations_with_both_endings_or_other_capitals(tmp_path: Path, xml: str, listed: bool) -> None:
    add(tmp_path, "b", annotation(obj("mug", 1, 1, 9, 9)))
    add(tmp_path, "a", None)
    (tmp_path / "Annotations" / xml).write_text(annotation(obj("cup", 1, 1, 9, 9)))
    if listed:
        write_list(tmp_path, "train", "a", "b")
    dataset = load_dataset(tmp_path)
    assert sorted(dataset.paths) == [f"{'JPEGImages/'}a.jpg", "JPEGImages/b.jpg"]
    assert dataset.class_names == ("cup", "mug")
    assert not dataset.faults


def test_the_picture_that_the_annotation_names_is_taken(tmp_path: Path) -> None:
    add(tmp_path, "a", annotation(obj("mug", 1, 1, 9, 9), head="<filename>a.png</filename>"), "", "")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    dataset = load_dataset(tmp_path)
    assert list(dataset.paths) == ["a.png"]
    assert [(f.kind, Path(f.file).name) for f in dataset.faults] == [("missing-annotation", "a.jpg")]


def test_two_annotations_of_one_picture(tmp_path: Path) -> None:
    add(tmp_path, "a", annotation(obj("mug", 1, 1, 9, 9)), "", "")
    add(tmp_path, "b", annotation(head="<filename>a.jpg</filename>"), "", "")
    dataset = load_dataset(tmp_path)
    assert list(dataset.image_ids) == ["a"]
    assert [f.kind for f in dataset.faults] == ["duplicate-image", "missing-annotation"]


def test_a_stem_that_two_pictures_share(kit: Path) -> None:
    Image.new("RGB", (40, 30)).save(kit / "JPEGImages" / "a.png")
    dataset = load_dataset(kit, "train")
    assert dataset.paths[0] == "JPEGImages/a.jpg"
    assert count_faults(dataset.faults) == {"same-stem": 1}


def test_objects_without_a_name_are_left_out(tmp_path: Path) -> None:
    nameless = obj("", 1, 1, 9, 9), obj("  \n", 1, 1, 9, 9), obj("x", 1, 1, 9, 9).replace("<name>x</name>", "")
    add(tmp_path, "a", annotation(*nameless, obj("\ncat\n dog\n", 1, 1, 9, 9)), "", "")
    dataset = load_dataset(tmp_path)
    assert (dataset.class_names, len(dataset.boxes)) == (("cat dog",), 1)
    assert count_faults(dataset.faults) == {"bad-object": 3}
    assert all(fault.effect == "box left out" for fault in dataset.faults)


def test_annotations_alone_and_their_pictures_elsewhere(tmp_path: Path) -> None:
    xmls, photos = tmp_path / "xmls", tmp_path / "photos"
    add(xmls, "a", annotation(obj("mug", 1, 1, 9, 9)), "../photos", "")
    with pytest.raises(UserError, match=r"none of 1 annotated images is in .* name their folder with --images"):
        load_dataset(xmls)
    assert load_dataset(xmls, images=photos)[0].path == photos / "a.jpg"


def test_a_kit_without_its_pictures_says_how_to_name_them(kit: Path, tmp_path: Path) -> None:
    (kit / "JPEGImages").rename(tmp_path / "photos")
    with pytest.raises(UserError, match=r"none of 2 annotated images is in .*JPEGImages; name their folder"):
        load_dataset(kit, "train")
    (kit / "JPEGImages").mkdir()
    (tmp_path / "photos" / "a.jpg").rename(kit / "JPEGImages" / "a.jpg")
    assert count_faults(load_dataset(kit, "train").faults) == {"missing-image": 1}


def test_listed_classes_keep_their_labels_where_a_split_has_another(kit: Path) -> None:
    write_list(kit, "cat_train", "a  1")
    write_list(kit, "dog_train", "a  1")
    assert load_dataset(kit, "train").class_names == ("cat", "dog")
    assert load_dataset(kit, "test").class_names == ("cat", "dog", "bird")


def test_a_split_that_shows_none_of_the_wanted_classes(kit: Path) -> None:
    dataset = load_dataset(kit, "test", ["cat", "dog"])
    assert (dataset.class_names, len(dataset), len(dataset.boxes)) == (("cat", "dog"), 1, 0)
    assert count_faults(dataset.faults) == {"unknown-class": 1}
    with pytest.raises(UserError, match="none of the wanted classes is in it; it has bird, cat, dog"):
        load_dataset(kit, "test", ["cow"])


@pytest.mark.parametrize("beside", [{"more/b": True}, {"more/b": False}, {"b": False, "dogs/c": False}])
def test_pictures_of_folders_that_are_not_read_are_named(tmp_path: Path, beside: dict[str, bool]) -> None:
    """Beside annotated images, whether they are annotated themselves or not."""
    here = "cats" if "b" in beside else ""
    for name, annotated in {f"{here}/a": True, **beside}.items():
        folder, _, stem = name.rpartition("/")
        add(tmp_path, stem, annotation(obj("cat", 1, 1, 20, 20)) if annotated else None, folder, folder)
    dataset = load_dataset(tmp_path)
    assert len(dataset) == 1
    left_out = [("missing-annotation", str(tmp_path / f"{name}.jpg")) for name in beside]
    assert [(f.kind, f.file) for f in dataset.faults] == left_out
