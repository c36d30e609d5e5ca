"""Which file a name means: exact, then folded, then without the folders of another machine."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from detector.data.finder import PictureFinder, folded, locate, locate_annotated, stem_of

NFC, NFD = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))


def touch(root: Path, *names: str) -> PictureFinder:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return PictureFinder(root)


def test_finder(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    finder = touch(tmp_path, "b.JPG", "b.png", "a.b.jpeg", "text.txt", ".hidden.jpg", "noend", "sub/c.webp")
    assert finder.all() == ["a.b.jpeg", "b.JPG", "b.png"]
    assert finder.by_stem("b") == ("b.JPG", "b.png")
    assert finder.by_stem("a.b") == ("a.b.jpeg",)
    assert finder.by_stem("sub/c") == ("sub/c.webp",)
    for missing in ("a", "text", ".hidden", "folder", "sub/d", "no/such", "B"):
        assert finder.by_stem(missing) == ()
    assert finder.by_folded_stem("B") == ("b.JPG", "b.png")
    assert finder.by_name("B.jpg") == ("b.JPG",)
    assert finder.by_name("b.png") == ("b.png",)
    assert finder.by_name("Sub/C.WEBP") == ("sub/c.webp",)
    assert finder.by_name("c.webp") == finder.by_name("sub/none") == ()
    assert [finder.has(name) for name in ("b.png", "B.png", "sub/c.webp", "Sub/c.webp")] == [True, False, True, False]


def test_letters_of_two_codes_are_letters_of_one(tmp_path: Path) -> None:
    assert folded(NFC) == folded(NFD.upper())
    finder = touch(tmp_path, f"{NFD}.jpg")
    assert finder.by_name(f"{NFC}.jpg") == finder.by_folded_stem(NFC) == (f"{NFD}.jpg",)
    assert finder.by_stem(NFC) == ()


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.jpg", "a"), ("a.b.JPG", "a.b"), ("a.txt", "a.txt"), ("a", "a"), (".jpg", ".jpg"), ("d.png/a", "d.png/a")],
)
def test_stem_of(name: str, stem: str) -> None:
    assert stem_of(name) == stem


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "A.JPG",
        "C:\\Users\\me\\cats\\a.jpg",
        "/home/me/a.jpg",
        "../a.jpg",
        "x/../../a.jpg",
        "images/a.jpg",
        "https://host.org/cats/a.jpg",
        "https://host.org/cats/a.jpg?size=2",
        "s3://bucket/a.jpg",
        "/data/local-files/?d=cats/a.jpg",
        "file:///home/me/a%2Ejpg",
    ],
)
def test_where_a_name_is_from_does_not_matter(tmp_path: Path, name: str) -> None:
    assert [match.picture for match in locate(touch(tmp_path, "a.jpg", "b.jpg"), [name, "b.jpg"])] == ["a.jpg", "b.jpg"]


def test_the_most_folders_that_lead_to_a_file_decide(tmp_path: Path) -> None:
    finder = touch(tmp_path, "a.jpg", "cats/a.jpg", "dogs/a.jpg")
    names = ["/data/cats/a.jpg", "D:\\dogs\\a.jpg"]
    assert [match.picture for match in locate(finder, names)] == ["cats/a.jpg", "dogs/a.jpg"]


@pytest.mark.parametrize(
    ("files", "names", "found"),
    [
        pytest.param(["a.jpg"], ["cats/a.jpg", "dogs/a.jpg"], [("", "ambiguous-image")] * 2, id="one file, two names"),
        pytest.param(["a.jpg"], ["a.jpg", "x/a.jpg"], [("a.jpg", ""), ("", "ambiguous-image")], id="exact name first"),
        pytest.param(["a.jpg"], ["a.jpg", "A.jpg"], [("a.jpg", ""), ("", "ambiguous-image")], id="other capitals"),
        pytest.param(["A.jpg", "a.JPG"], ["a.jpg"], [("", "ambiguous-image")], id="two files, one name"),
        pytest.param(["a.jpg"], ["b.jpg", "x/c.jpg"], [("", "missing-image")] * 2, id="not there"),
        pytest.param(["a.jpg"], ["../b.jpg", "/b.jpg", "", "\0"], [("", "escaping-path")] * 4, id="outside"),
        pytest.param(["a.jpg"], ["a.jpg", "a.jpg"], [("a.jpg", "")] * 2, id="the same name twice"),
        pytest.param(["a.jpg"], ["\udce9.jpg", "\ud800/a.jpg"], [("", "missing-image"), ("a.jpg", "")], id="no text"),
        pytest.param(["a.jpg"], ["x" * 5000 + "/b.jpg"], [("", "missing-image")], id="too long"),
    ],
)
def test_a_picture_is_given_once(
    tmp_path: Path, files: list[str], names: list[str], found: list[tuple[str, str]]
) -> None:
    assert [(match.picture, match.kind) for match in locate(touch(tmp_path, *files), names)] == found


@pytest.mark.parametrize(
    ("files", "stem", "said", "picture", "kind"),
    [
        pytest.param(["a.jpg", "a.png"], "a", "a.png", "a.png", "", id="what the file says first"),
        pytest.param(["a.jpg", "b.jpg"], "a", "b.jpg", "b.jpg", "filename-mismatch", id="said to be another"),
        pytest.param(["a.jpg", "b.jpg"], "a", "c.jpg", "a.jpg", "", id="said what is not there"),
        pytest.param(["a.jpg", "a.png"], "a", "", "a.jpg", "same-stem", id="two endings"),
        pytest.param(["a.jpg", "a.png"], "a.png", "", "a.png", "", id="a.png.xml"),
        pytest.param(["A.JPG"], "a", "", "A.JPG", "", id="capitals"),
        pytest.param(["A.JPG"], "a.jpg", "", "A.JPG", "", id="a.jpg.xml and capitals"),
        pytest.param([f"{NFD}.jpg"], NFC, "", f"{NFD}.jpg", "", id="letters"),
        pytest.param(["A.jpg", "A.png"], "a", "", "", "ambiguous-image", id="capitals and two endings"),
        pytest.param(["b.jpg"], "a", "C:\\photos\\b.jpg", "b.jpg", "", id="said with folders"),
        pytest.param(["b.jpg"], "a", "B", "b.jpg", "", id="said without ending"),
        pytest.param(["b.jpg"], "a", "../../secret.jpg", "", "missing-image", id="said outside"),
        pytest.param(["s/a.jpg", "a.jpg"], "s/a", "a.jpg", "s/a.jpg", "", id="beside the annotation's own place"),
        pytest.param(["s/a.jpg", "a.jpg"], "s/a", "s/a.jpg", "s/a.jpg", "", id="said from the top"),
    ],
)
def test_annotation_of_one_picture(
    tmp_path: Path, files: list[str], stem: str, said: str, picture: str, kind: str
) -> None:
    match = locate_annotated(touch(tmp_path, *files), stem, said)
    assert (match.picture, match.kind) == (picture, kind)
    assert bool(match.message) == bool(kind)


def test_what_may_not_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "nothing.jpg").symlink_to(tmp_path / "none")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    finder = touch(tmp_path, "a.jpg")
    (tmp_path / "good.jpg").symlink_to(tmp_path / "a.jpg")
    names = [f"{name}.jpg" for name in ("pipe", "device", "nothing", "circle", "a", "good")]
    matches = locate(finder, names)
    assert [match.kind for match in matches] == ["unreadable-image"] * 4 + ["", ""]
    assert "no regular file" in matches[0].message
    assert locate_annotated(finder, "pipe", "").kind == "unreadable-image"
