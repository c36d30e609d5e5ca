"""The check finds each planted fault, and its exit codes say what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encoded, turned
from PIL import Image
from small_sets import put, voc_annotation, voc_object

from detector.cli import main
from detector.data.check import check_dataset, sample, statistics
from detector.data.faults import EFFECTS, count_faults
from detector.images.read import read_image
from proposals.errors import UserError

BOX = (2, 3, 10, 12)


def xml(*boxes: tuple[float, ...], name: str = "cat", size: tuple[int, int] = (40, 30)) -> str:
    return voc_annotation(*(voc_object(name, *box) for box in boxes), size=size)


def noise(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)


class VOC:
    """A VOC set with three good pictures in train and one in test, to spoil in one place or another."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.splits: dict[str, list[str]] = {"train": [], "test": []}
        for i, split in enumerate(("train", "train", "train", "test")):
            self.add(f"good{i}", xml(BOX), split, i)

    def add(self, stem: str, text: str | None, split: str = "train", seed: int = 99) -> Path:
        put(self.root, {f"JPEGImages/{stem}.png": encoded(noise(seed))})
        if text is not None:
            put(self.root, {f"Annotations/{stem}.xml": text})
        self.list(split, stem)
        return self.root / "JPEGImages" / f"{stem}.png"

    def list(self, split: str, stem: str) -> None:
        self.splits.setdefault(split, []).append(stem)
        put(self.root, {f"ImageSets/Main/{name}.txt": "\n".join(stems) for name, stems in self.splits.items()})

    def faults(self, split: str | None = None) -> list[tuple[str, str]]:
        return [(fault.kind, Path(fault.file).name) for fault in check_dataset(self.root, split, workers=2).faults]


@pytest.fixture
def voc(tmp_path: Path) -> VOC:
    return VOC(tmp_path / "set")


def test_a_good_set_has_no_faults(voc: VOC) -> None:
    told: list[str] = []

    @contextmanager
    def progress(total: int) -> Iterator[Callable[[], None]]:
        told.append(f"of {total}")
        yield lambda: told.append("one more")

    report = check_dataset(voc.root, progress=progress)
    assert report.faults == ()
    assert report.pictures == 4
    assert told == ["of 4", *["one more"] * 4]
    assert [(split.name, split.good) for split in report.splits] == [("test", (0,)), ("train", (0, 1, 2))]
    assert not report.stops_training
    assert report.left_out == 0


def test_unreadable_pictures(voc: VOC) -> None:
    path = voc.add("cut", xml(BOX))
    path.write_bytes(path.read_bytes()[:400])
    voc.add("text", xml(BOX)).write_text("no picture")
    voc.add("empty", xml(BOX)).write_bytes(b"")
    assert voc.faults() == [("unreadable-image", f"{stem}.png") for stem in ("cut", "text", "empty")]
    report = check_dataset(voc.root, "train")
    assert report.splits[0].good == (0, 1, 2)
    assert report.left_out == 3


def test_size_mismatch_and_its_likely_reason(voc: VOC) -> None:
    voc.add("resized", xml(BOX, size=(80, 60)), seed=5)
    voc.add("turned", xml(BOX), seed=6).write_bytes(encoded(noise(6), exif=turned(6)))
    assert voc.faults() == [("size-mismatch", "resized.png"), ("size-mismatch", "turned.png")]
    messages = [fault.message for fault in check_dataset(voc.root).faults]
    assert "it was resized after it was labelled" in messages[0]
    assert "before it was turned upright" in messages[1]


def test_faults_of_the_annotations_are_in_the_report(voc: VOC) -> None:
    voc.add(
        "boxes", xml((9, 9, 3, 12), (5, 5, 5, 5), (2, 2, 900, 9), (float("nan"), 1, 2, 3), (50, 50, 60, 60)), seed=5
    )
    voc.add("noxml", None, seed=6)
    voc.list("train", "nothing")
    voc.add("nopicture", xml(BOX)).unlink()
    assert count_faults(check_dataset(voc.root).faults) == {
        "inverted-box": 1, "one-pixel-box": 1, "clipped-box": 1, "not-a-number": 1, "outside-box": 1,
        "missing-annotation": 2, "missing-image": 1,
    }  # fmt: skip


def test_what_is_there_twice(voc: VOC) -> None:
    voc.add("boxes", xml(BOX, (5, 5, 9, 9), BOX), seed=5)
    voc.add("copy", xml(BOX), seed=0)
    assert voc.faults() == [("duplicate-box", "boxes.png"), ("duplicate-picture", "copy.png")]


def test_a_picture_in_training_and_test(voc: VOC) -> None:
    voc.list("train", "good3")
    assert voc.faults() == [("shared-picture", "good3.png")]
    voc.add("renamed", xml(BOX), seed=3)
    assert sorted(voc.faults()) == [("shared-picture", "good3.png"), ("shared-picture", "renamed.png")]
    assert voc.faults("train") == [("duplicate-picture", "renamed.png")]


def test_splits_that_contain_one_another_share_pictures_by_design(voc: VOC) -> None:
    for stem in ("good0", "good1", "good2"):
        voc.list("trainval", stem)
    voc.add("bad", xml((9, 9, 3, 12)), seed=5)
    voc.list("trainval", "bad")
    assert voc.faults() == [("inverted-box", "bad.xml")]  # noted once, though it is in two splits


def test_class_names_that_differ_in_writing(voc: VOC) -> None:
    voc.add("other", xml(BOX, name="Cat "), seed=5)
    voc.add("another", xml(BOX, name="dog"), seed=6)
    assert [kind for kind, _ in voc.faults()] == ["similar-classes"]


def test_a_split_with_nothing_in_it(voc: VOC) -> None:
    voc.splits["val"] = []
    voc.add("background", xml(), "only-backgrounds", 5)
    report = check_dataset(voc.root)
    assert [fault.message for fault in report.faults] == [
        "split only-backgrounds has no usable box",
        "split val has no usable image",
    ]
    assert report.stops_training


def test_a_split_that_cannot_be_read_does_not_hide_the_others(voc: VOC) -> None:
    voc.list("hidden", "no-such-annotation")
    report = check_dataset(voc.root)
    assert ([fault.kind for fault in report.faults], report.pictures) == (["empty-split"], 4)
    with pytest.raises(UserError, match="none of 1 annotations"):
        check_dataset(voc.root, "hidden")


def test_statistics(voc: VOC) -> None:
    voc.add("more", xml((1, 1, 40, 30), (1, 1, 4, 9), name="dog"), seed=5)
    voc.add("background", xml(), seed=6)
    (split,) = check_dataset(voc.root, "train").splits
    assert split.dataset is not None
    found = statistics(split.dataset)
    images, boxes = found["images"], found["boxes"]
    assert (images["count"], images["without_boxes"], images["boxes_each"]["p100"]) == (5, 1, 2)
    assert images["width"] == {f"p{p}": 40.0 for p in (0, 10, 25, 50, 75, 90, 100)}
    assert (boxes["count"], boxes["width"]["p50"], boxes["height"]["p100"]) == (5, 9, 30)
    assert boxes["small_medium_large"] == [4, 1, 0]
    assert found["classes"] == {"cat": {"boxes": 3, "images": 3}, "dog": {"boxes": 2, "images": 1}}
    assert statistics(split.dataset.subset([]))["boxes"]["width"] == {}


def test_sample_shows_every_class_and_only_good_pictures(voc: VOC) -> None:
    for i in range(20):
        voc.add(f"more{i:02}", xml(BOX), seed=100 + i)
    voc.add("rare", xml(BOX, name="dog"), seed=5)
    voc.add("broken", xml(BOX, name="cow")).write_text("no picture")
    (split,) = check_dataset(voc.root, "train").splits
    assert split.dataset is not None
    chosen = sample(split, 6)
    names = [split.dataset.image_ids[i] for i in chosen]
    assert len(set(names)) == 6
    assert "rare" in names
    assert "broken" not in names
    assert sample(split, 0) == []
    assert len(sample(split, 1000)) == len(split.good)


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["check-data", *map(str, arguments)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_exit_codes(voc: VOC, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(voc.root, "--out", tmp_path / "0") == 0
    assert "no faults" in capsys.readouterr().out
    voc.add("twice", xml(BOX, BOX), seed=5)
    assert run(voc.root, "--out", tmp_path / "1") == 0  # nothing has to be left out
    voc.add("bad", xml((9, 9, 3, 12), BOX), seed=6)
    assert run(voc.root, "--out", tmp_path / "2") == 3
    output = capsys.readouterr().out
    assert "inverted-box: 1, box left out" in output
    assert "bad.xml" in output
    voc.add("background", xml(), "empty", 7)
    assert run(voc.root, "--out", tmp_path / "3") == 1
    assert "split empty has no usable box" in capsys.readouterr().out
    assert run(tmp_path / "none", "--out", tmp_path / "4") == 1
    assert (
        capsys.readouterr().err.strip() == f"error: {tmp_path / 'none'} does not exist; check the path of the data set"
    )
    assert not (tmp_path / "4").exists()


def test_report_and_sheets(voc: VOC, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc.add("bad", xml((9, 9, 3, 12), BOX), seed=6)
    assert run(voc.root, "--json", "--sheet", "2", "--out", tmp_path / "out") == 3
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "check.json").read_text())
    assert printed["fault_counts"] == {"inverted-box": 1}
    assert printed["faults"][0]["effect"] == EFFECTS["inverted-box"]
    assert printed["splits"]["train"]["good_pictures"] == 4
    for split in ("train", "test"):
        assert read_image(tmp_path / "out" / f"sheet-{split}.jpg").shape[1] > 300
    assert run(voc.root, "--sheet", "0", "--out", tmp_path / "none") == 3
    assert not list((tmp_path / "none").glob("sheet*"))


def test_a_sheet_holds_no_image_in_full(voc: VOC, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def draw(images: list[NDArray[np.uint8]], *rest: object, **options: object) -> NDArray[np.uint8]:
        shapes.extend(image.shape for image in images)
        return images[0]

    monkeypatch.setattr("detector.report.drawing.draw_sheet", draw)
    Image.new("RGB", (700, 350)).save(voc.add("wide", xml(BOX, size=(700, 350))))
    run(voc.root, "--split", "train", "--out", tmp_path / "out")
    assert sorted(set(shapes)) == [(160, 320, 3), (240, 320, 3)]


def test_classes_from_a_list_or_a_file(voc: VOC, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc.add("dog", xml(BOX, name="dog"), seed=6)
    put(tmp_path, {"names.txt": "cat\n"})
    many = ",".join(["cat", *(f"class{i}" for i in range(200))])  # longer than any file's name
    for i, given in enumerate(("cat", tmp_path / "names.txt", many)):
        assert run(voc.root, "--classes", given, "--sheet", "0", "--out", tmp_path / str(i)) == 3
        assert "class 'dog' is not in the class list" in capsys.readouterr().out
    assert run(voc.root, "--classes", "cat,,dog", "--out", tmp_path / "x") == 1
    assert "an empty name" in capsys.readouterr().err


def test_names_in_the_tables_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither rich's markup, nor its emoji, nor a terminal's escape sequences."""
    monkeypatch.setenv("COLUMNS", "200")
    names = ["[red]", "[/red]", "[bold]cat", ":smile:", "[link=x]y"]
    rows = "".join(f"{label} 0.5 0.5 0.{label + 3} 0.2\n" for label in range(len(names)))
    put(tmp_path, {
        "train/images/a\x1b[31m[dim].png": (40, 30),
        "train/labels/a\x1b[31m[dim].txt": rows + "99 0.5 0.5 0.2 0.2\n",
        "data.yaml": f"path: .\ntrain: train/images\nnames: {json.dumps(names)}\n",
    })  # fmt: skip
    assert run(tmp_path, "--out", tmp_path / "out") == 3
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    for name in (*names, "a\\x1b[31m[dim]"):
        assert name in out, name
