"""``detector detect``: what it writes, where, and with which exit code."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import spoil, write_frames, write_video
from command_line import lines_of, record_of, tree
from PIL import Image

from detector.commands.detection_files import SavedDetections, read_detections
from detector.commands.detection_run import in_order
from detector.commands.tally import Tally, in_words
from detector.detection.pipeline import Detector
from detector.images.read import read_image
from detector.types import Detections

RED, BLUE, GREY = (250, 10, 10), (20, 20, 220), (90, 90, 90)
FOUND, LEFT = Path("found"), Path("found.unfinished")  # in the current folder, which run_cli makes


@pytest.fixture
def detect(run_cli: Any, fake_model: Any) -> Any:
    """``detect("a.png", ...)``: the command, which writes into ``found``."""
    return lambda *words: run_cli("detect", *words, "--out", FOUND)


@pytest.fixture
def abc(picture: Any) -> tuple[str, ...]:
    """Two images, and between them a file that is none."""
    picture("b.jpg").write_text("not a picture")
    return (picture("a.png").name, "b.jpg", picture("c.png").name)


def test_one_picture(detect: Any, picture: Any) -> None:
    photo = picture("tomato on grey.png")
    done = detect(photo)
    assert (done.code, done.err) == (0, "")
    first, last = done.out.splitlines()
    assert first == f"{photo}: tomato 0.94"
    assert last.startswith("1 image, 1 object, ")
    assert last.endswith(f"images in {FOUND / 'pictures'}, results in found")
    assert tree(FOUND) == {"config.yaml", "detections.jsonl", "pictures/tomato on grey.jpg"}
    found = {"box": [0, 0, 30, 40], "score": pytest.approx(240 / 255), "label": 0, "class_name": "tomato"}
    about = {"image_id": "tomato on grey", "path": str(photo), "width": 60, "height": 40}
    assert lines_of(FOUND) == [{**about, "detections": [found]}]


OWN = {"device": "auto", "precision": "auto", "seed": 0, "exact": False, "multibox": True, "runtime": "torch"}


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", {}),
        ("--members 2", {"members": 2}),
        ("--image-side 384", {"image_side": 384}),
        ("--looks 1", {"looks": 1}),
        ("--exact", {"exact": True}),
        ("--no-multibox", {"multibox": False}),
        (
            "--score-threshold 0.2 --nms-threshold 0.4 --max-detections 5 --device cpu --proposals fast --seed 3 "
            "--precision bfloat16",
            {
                "score_threshold": 0.2, "nms_threshold": 0.4, "max_detections": 5, "device": "cpu",
                "proposals": "fast", "seed": 3, "precision": "bfloat16",
            },
        ),
    ],
)  # fmt: skip
def test_the_settings_reach_the_model_and_what_is_not_given_is_its_own(
    detect: Any, fake_model: Any, picture: Any, tmp_path: Path, options: str, settings: dict[str, Any]
) -> None:
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere" / "model.yaml").touch()
    model = ("--model", "somewhere") if options else ()
    assert detect(picture("a.png"), *model, *options.split()).code == 0
    assert fake_model.calls == [(Path("somewhere") if options else None, {**OWN, **settings})]
    config = record_of(FOUND)["config"]
    limits = {"score_threshold": 0.3, "nms_threshold": 0.3, "max_detections": 100}
    for name, value in {
        **limits,
        "members": None,
        "image_side": None,
        "looks": None,
        "exact": False,
        **settings,
    }.items():
        place = config["postprocess"] if name in limits else config
        assert name in ("proposals", "seed", "multibox") or place[name] == value


def test_so_many_images_at_once(detect: Any, run_cli: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(calls: Any, pace: Any, workers: int) -> Any:
        asked.append(workers)
        return in_order(calls, pace, workers)

    monkeypatch.setattr("detector.commands.detection_run.in_order", counted)
    photos = [picture("a.png"), picture("b.png"), picture("c.png")]
    assert detect(*photos, "--workers", 3).code == run_cli("detect", *photos, "--out", "all").code == 0
    assert asked == [3, 0]


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_images_that_are_looked_at_together(
    run_cli: Any, fake_model: Any, picture: Any, abc: Any, monkeypatch: pytest.MonkeyPatch, on_error: str
) -> None:
    """As on a GPU: pictures, one that is none, and an archive, in batches of two, are found as one by one."""
    with tarfile.open("many.tar", "w") as archive:
        for number in range(3):
            archive.add(picture(f"in/{number}.png", right=BLUE), f"{number}.png")
    photos = "many.tar", *abc, picture("d.png")
    words = "detect", *photos, "--on-error", on_error, "--device", "cpu", "--proposal-pictures"
    assert run_cli(*words, "--out", "alone").code == (3 if on_error == "skip" else 1)
    together: list[int] = []

    def finish(self: Detector, images: Any) -> Any:
        together.append(len(images))
        return plain(self, images)

    plain = Detector.finish
    monkeypatch.setattr(Detector, "finish", finish)
    monkeypatch.setattr("detector.commands.detection_run.pace_of", lambda several, device: "together")
    monkeypatch.setattr("detector.commands.detection_run.TOGETHER", 2)
    done = run_cli(*words, "--out", "together")
    assert done.code == (3 if on_error == "skip" else 1)
    assert together == ([2, 2, 2] if on_error == "skip" else [2, 2])
    one, other = (Path(name + ("" if on_error == "skip" else ".unfinished")) for name in ("alone", "together"))
    assert lines_of(one) == lines_of(other)
    assert len(lines_of(one)) == (6 if on_error == "skip" else 4)
    drawn = [name for name in tree(one) if "/" in name]
    assert len(drawn) == 2 * len(lines_of(one))
    for name in drawn:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_one_class_only(run_cli: Any, fake_model: Any, picture: Any) -> None:
    photo = picture("a.png", right=BLUE)
    for out, classes, names in (("both", (), ["tomato", "sky"]), ("sky", ("--class", "Sky"), ["sky"])):
        assert run_cli("detect", photo, *classes, "--out", out).code == 0
        assert [found["class_name"] for found in lines_of(out)[0]["detections"]] == names
        assert record_of(out)["config"]["classes"] == (["sky"] if classes else "all")
    fault = run_cli("detect", photo, "--class", "tomatoes", "--out", "none").fault
    assert fault == "error: the model has no class 'tomatoes'; did you mean 'tomato'?"
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "nothing"),
        ([1], "b 0.90"),
        ([2, 0, 2], "c 0.90 (2), a 0.80"),
        (
            [*range(11)],
            "a 0.90, b 0.80, c 0.70, d 0.60, e 0.50, f 0.40, g 0.30, h 0.20, i 0.10, j 0.00, and 1 more class",
        ),
    ],
    ids=["none", "one", "several of a class", "more classes than are told"],
)
def test_in_words(labels: list[int], said: str) -> None:
    n = len(labels)
    scores = np.clip(0.9 - 0.1 * np.arange(n), 0, 1).astype(np.float32)
    found = Detections(np.zeros((n, 4), np.float32), scores, np.array(labels, np.int64), (5, 5))
    assert in_words(SavedDetections.of("x", "x.jpg", found, "abcdefghijk")) == said


def test_formats(detect: Any, picture: Any) -> None:
    photos = [picture("a.png", right=BLUE), picture("b.png", left=GREY), picture("c.png")]
    done = detect(*photos, "--format", "coco", "--format", "csv", "--no-pictures")
    assert done.code == 0
    assert done.out.splitlines()[1].endswith("b.png: nothing")
    assert lines_of(FOUND)[1]["detections"] == []
    assert tree(FOUND) == {
        "config.yaml", "detections.jsonl", "detections.coco.json", "images.coco.json", "detections.csv",
    }  # fmt: skip
    results = json.loads((FOUND / "detections.coco.json").read_text())
    assert [(r["image_id"], r["category_id"], r["bbox"]) for r in results] == [
        (1, 1, [0, 0, 30, 40]),
        (1, 2, [30, 0, 30, 40]),
        (3, 1, [0, 0, 30, 40]),
    ]
    with (FOUND / "detections.csv").open(newline="") as file:
        rows = [(row["image_id"], row["class_name"], row["x1"]) for row in csv.DictReader(file)]
    assert rows == [("a", "tomato", "0.0"), ("a", "sky", "30.0"), ("c", "tomato", "0.0")]


def test_pycocotools_reads_the_coco_files(detect: Any, picture: Any) -> None:
    from pycocotools.coco import COCO

    detect(picture("000000000139.png"), picture("7.png"), "--format", "coco")
    truth = COCO(str(FOUND / "images.coco.json"))
    results = truth.loadRes(str(FOUND / "detections.coco.json"))
    assert sorted(truth.getImgIds()) == [7, 139]
    assert [note["image_id"] for note in results.loadAnns(results.getAnnIds())] == [139, 7]


def test_the_run_folder_holds_the_resolved_settings(detect: Any, picture: Any) -> None:
    photo = picture("a.png")
    detect(photo, "--score-threshold", "0.2", "--format", "csv", "--seed", "5")
    record = record_of(FOUND)
    assert (record["verb"], record["seed"], record["config"]["inputs"]) == ("detect", 5, [str(photo)])
    limits = {"score_threshold": 0.2, "nms_threshold": 0.3, "max_detections": 100, "soft_sigma": None}
    scores = {"overlap_power": 0.0, "calibration": {"slope": 1.0, "offset": 0.0}}
    assert record["config"]["postprocess"] == {**limits, **scores}
    assert record["config"]["proposals"] == {"selective_search": {"preset": "halves"}, "max_proposals": None}
    assert record["config"]["formats"] == ["csv", "jsonl"]
    assert {"python", "torch", "numpy"} <= record["versions"].keys()


def test_without_out_a_new_folder_under_runs(run_cli: Any, fake_model: Any, picture: Any) -> None:
    photo = picture("a.png")
    assert [run_cli("detect", photo).code for _ in range(2)] == [0, 0]
    folders = sorted(Path("runs").iterdir())
    assert len(folders) == 2
    assert all(folder.name.startswith("detect-20") and (folder / "config.yaml").is_file() for folder in folders)


def test_one_bad_picture_ends_the_run_by_default_and_is_no_hindrance_to_the_next(
    detect: Any, abc: Any, tmp_path: Path
) -> None:
    fault = detect(*abc).fault
    assert fault.startswith("error: b.jpg ")
    assert not FOUND.exists(), "a half-done folder must not bear the final name"
    assert f"what was finished is in {tmp_path / LEFT}" in fault
    assert [line["image_id"] for line in lines_of(LEFT)] == ["a"]
    assert detect(*abc).code == 1
    assert detect(abc[0]).code == 0
    assert {"found", "found.unfinished", "found.unfinished-2"} <= {path.name for path in tmp_path.iterdir()}


def test_skipping_bad_pictures(detect: Any, abc: Any, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("not a video")
    done = detect(*abc[:2], "nowhere.png", "clip.mp4", abc[2], "--on-error", "skip")
    assert done.code == 3
    assert [line.split()[1].rstrip(":") for line in done.error_lines] == ["nowhere.png", "b.jpg", "clip.mp4"]
    assert all(line.startswith("skipped: ") for line in done.error_lines)
    assert "3 inputs skipped" in done.out
    assert [line["image_id"] for line in lines_of(FOUND)] == ["a", "c"]


@pytest.mark.parametrize("bad", ["nowhere.png", "b.jpg"])
def test_all_skipped_is_failure(detect: Any, tmp_path: Path, bad: str) -> None:
    (tmp_path / "b.jpg").write_text("not a picture")
    done = detect(bad, "--on-error", "skip")
    assert done.code == 1
    assert done.error_lines[-1].startswith("error: nothing ")
    assert {path.name for path in tmp_path.iterdir()} == {"b.jpg"}


def test_a_folder_keeps_its_shape(detect: Any, picture: Any, tmp_path: Path) -> None:
    for name in ("in/10.png", "in/2.png", "in/deep/2.png", "in/.hidden.png"):
        picture(name)
    (tmp_path / "in" / "notes.md").write_text("no picture")
    assert detect("in").code == 0
    assert [line["image_id"] for line in lines_of(FOUND)] == ["2", "10", "deep/2"]
    assert (FOUND / "pictures" / "deep" / "2.jpg").is_file()


def test_a_video(detect: Any, tmp_path: Path) -> None:
    frames = np.full((5, 48, 64, 3), GREY, np.uint8)
    frames[::2, :, :32], frames[1::2, :, :32] = RED, BLUE
    write_frames(tmp_path / "clip.avi", "MJPG", [*frames])
    done = detect("clip.avi", "--frame-step", "2")
    assert done.code == 0
    assert [line["image_id"] for line in lines_of(FOUND)] == [f"clip.avi/{n:06d}" for n in (0, 2, 4)]
    assert done.out.splitlines()[1].startswith("clip.avi #2: tomato 0.9"), "colours must not be exchanged"
    assert (FOUND / "pictures" / "clip.avi" / "000004.jpg").is_file()


@pytest.mark.parametrize("named", [("a.png", "b.png"), ("clip.avi",)])
def test_where_the_time_goes(
    detect: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...]
) -> None:
    for name in named:
        write_video(tmp_path / name, "MJPG", 3) if name.endswith(".avi") else picture(name)
    monkeypatch.setenv("COLUMNS", "200")
    done = detect(*named, "--profile")
    assert done.code == 0
    rows = [line.strip("│ ").split("│") for line in done.out.splitlines() if line.startswith("│")]
    seconds = {stage.strip(): float(each) for stage, each, _ in rows}
    assert list(seconds) == ["read", "propose", "networks", "suppression", "write"]
    assert min(seconds["read"], seconds["write"]) > 0


def test_what_exists_is_not_overwritten(detect: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photo = picture("a.png")
    (tmp_path / FOUND).mkdir()
    (tmp_path / FOUND / "thesis.txt").write_text("three years of work")
    assert detect(photo).fault == "error: found: already exists and is not empty; name a new folder"
    assert fake_model.calls == [], "the folder is looked at before the slow work"
    assert tree(FOUND) == {"thesis.txt"}
    (FOUND / "thesis.txt").unlink()
    assert detect(photo, "--no-pictures").code == 0, "it may be an empty folder"
    assert tree(FOUND) == {"config.yaml", "detections.jsonl"}


def test_a_full_disk(detect: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    photo = picture("a.png")
    monkeypatch.setattr(Image.Image, "save", full)
    assert detect(photo).fault == "error: found: cannot write here: No space left on device"
    assert not list(tmp_path.glob("found*"))


def test_interrupted(detect: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Detector.detect

    def control_c_at_blue(self: Detector, image: Any) -> Any:
        if tuple(image[0, 0]) == BLUE:
            raise KeyboardInterrupt
        return whole(self, image)

    monkeypatch.setattr(Detector, "detect", control_c_at_blue)
    done = detect(picture("a.png"), picture("b.png", left=BLUE), picture("c.png"))
    left = f"what was finished is in {tmp_path / LEFT}; the same command with --resume goes on"
    assert (done.code, done.error_lines) == (130, [left, "interrupted"])
    assert [line["image_id"] for line in lines_of(LEFT)] == ["a"]


def test_a_picture_too_long_for_jpeg_is_written_as_png(detect: Any, picture: Any) -> None:
    assert detect(picture("a.png", size=(3, 66_000))).code == 0
    assert read_image(FOUND / "pictures" / "a.png").shape == (3, 66_000, 3)


def test_a_table_in_a_terminal(detect: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
    monkeypatch.setenv("COLUMNS", "200")
    photos = picture("[bold]a.png"), picture("b.png", right=BLUE)
    done = detect(*photos, "--no-pictures", "--class", "tomato", "--device", "cpu")
    assert done.code == 0
    first, second, *rest = done.out.splitlines()
    assert first == "model: bundled; networks: 1; classes: 2 (1 looked for); device: cpu"
    assert second == "proposals: selective search"
    assert "[bold]a.png" in done.out, "a file's name is no markup"
    assert "tomato 0.94" in done.out
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in rest]
    assert [line for line in plain if re.fullmatch(r"\W*tomato\W+2\W*", line)], "the classes are counted"
    assert rest[-1].startswith("2 images, 2 objects, ")


@pytest.mark.parametrize(
    ("names", "program", "opened"),
    [
        (["a.png"], True, "a.jpg"),
        (["a.png", "b.png"], True, ""),
        (["in/a.png"], True, "a.jpg"),
        (["a.png"], False, "a.jpg"),
    ],
)
def test_show_opens_the_image_or_the_folder_of_several(
    detect: Any, picture: Any, monkeypatch: pytest.MonkeyPatch, names: list[str], program: bool, opened: str
) -> None:
    launched: list[str] = []
    monkeypatch.setattr("typer.launch", lambda place: launched.append(place) or int(not program))
    done = detect(*map(picture, names), "--show")
    place = str(FOUND / "pictures" / opened)
    assert (done.code, done.error_lines) == (0, [] if program else [f"no program was found to open {place}"])
    assert launched == [place]


def test_the_device_may_be_one_of_several_gpus(
    detect: Any, fake_model: Any, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert detect(picture("a.png"), "--device", "tpu").fault == "error: device 'tpu': choose auto, cpu or cuda"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    done = detect("a.png", "--device", "cuda:1")
    assert done.code == 0, done.err
    assert fake_model.calls[-1][1]["device"] == "cuda:1"


@pytest.mark.parametrize(
    "options",
    [["--score-threshold", "2"], ["--image-side", "31"], ["--on-error", "x"], ["--format", "xml"], ["--nope"]],
)
def test_a_wrong_command_line_is_code_2(detect: Any, fake_model: Any, picture: Any, options: list[str]) -> None:
    assert detect(picture("a.png"), *options).code == 2
    assert fake_model.calls == []


def test_names_are_shown_and_not_obeyed(detect: Any, picture: Any, tmp_path: Path) -> None:
    done = detect(picture("a\x1b[31m[bold]\n.png"), tmp_path / "b\x07.png", "--on-error", "skip")
    assert done.code == 3
    assert "\x1b" not in done.out + done.err
    assert "\x07" not in done.err
    assert "a\\x1b[31m[bold]\\n.png: tomato" in done.out
    assert lines_of(FOUND)[0]["image_id"] == "a\x1b[31m[bold]\n"


def test_names_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The table, which rich draws."""
    tally = Tally()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), (5, 5))
    tally.add("x\x1b[2J[/b].jpg", SavedDetections.of("x", "x", found, ["c\x1b[2J[/b]"]))
    tally.show(tmp_path, 0)
    said = capsys.readouterr().out
    assert "\x1b[2J" not in said
    assert "x\\x1b[2J[/b].jpg" in said
    assert "c\\x1b[2J[/b]" in said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_utf_8_survives(detect: Any, picture: Any) -> None:
    photo = picture("lat\udce9in.png")
    assert detect(photo, "--format", "coco", "--format", "csv").code == 0
    (line,) = lines_of(FOUND)
    assert line["image_id"] == "lat\udce9in"
    assert Path(line["path"]).is_file(), "the path in the JSON still opens the file"
    (saved,) = read_detections(FOUND / "detections.jsonl")
    assert (saved.image_id, saved.path) == ("lat\udce9in", str(photo))
    described = json.loads((FOUND / "images.coco.json").read_text(encoding="utf-8"))
    assert described["images"][0]["file_name"] == str(photo)
    assert "lat\\udce9in" in (FOUND / "detections.csv").read_text(encoding="utf-8")
    assert len(list((FOUND / "pictures").iterdir())) == 1


@pytest.mark.parametrize("name", ["...png", "..png", "a\\b.png", "n\nl.png", "x" * 251 + ".png"])
def test_pictures_lie_in_their_folder(detect: Any, picture: Any, tmp_path: Path, name: str) -> None:
    assert detect(picture("plain.png").rename(tmp_path / name), "--proposal-pictures").code == 0
    for folder in ("pictures", "proposals"):
        (file,) = (path for path in FOUND.rglob("*.jpg") if path.parent.name == folder)
        assert file.parent.parent == FOUND
    assert len(tree(FOUND)) == 4


@pytest.mark.parametrize(("skip", "code", "folder"), [(("--on-error", "skip"), 3, FOUND), ((), 1, LEFT)])
def test_a_damaged_frame_costs_itself_alone(
    detect: Any, tmp_path: Path, skip: tuple[str, ...], code: int, folder: Path
) -> None:
    path = write_video(tmp_path / "clip.avi", "MJPG")
    spoil(path, 9)
    done = detect(path, "--no-pictures", *skip)
    assert (done.code, "1 of 30 frames could not be read" in done.err) == (code, True)
    assert len(lines_of(folder)) == 29


def test_a_very_large_picture_is_looked_at_smaller(detect: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.commands.inputs.ORDINARY_PIXELS", 100 * 150)
    assert detect(picture("a.png", size=(200, 300)), "--proposal-pictures").code == 0
    (line,) = lines_of(FOUND)
    assert (line["width"], line["height"]) == (300, 200)
    assert line["detections"][0]["box"] == [0, 0, 150, 200], "in pixels of the file"
    for folder in ("pictures", "proposals"):
        assert read_image(FOUND / folder / "a.jpg").shape == (100, 150, 3)


def test_detections_and_proposals_are_drawn_each_on_the_picture_as_it_was(
    run_cli: Any, fake_model: Any, picture: Any
) -> None:
    photo = picture("a.png", size=(200, 300))
    for out, options in (
        ("both", ["--proposal-pictures"]), ("proposals", ["--proposal-pictures", "--no-pictures"]), ("pictures", []),
    ):  # fmt: skip
        assert run_cli("detect", photo, "--out", out, *options).code == 0
    for folder in ("pictures", "proposals"):
        one, other = (Path(out) / folder / "a.jpg" for out in ("both", folder))
        assert one.read_bytes() == other.read_bytes()
    drawn, plain = (read_image(path).astype(int) for path in (one, photo))
    assert drawn.shape == plain.shape
    drawn = read_image(Path("pictures/pictures/a.jpg")).astype(int)
    assert np.abs(drawn - plain)[:, :150].max() > 60, "a box and a name should be drawn over the tomato"


def test_what_pillow_finds_odd_is_not_told(detect: Any, tmp_path: Path) -> None:
    """A damaged EXIF block, of which Pillow warns."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", (60, 40)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 20)
    with pytest.warns(UserWarning, match="."):
        read_image(path)
    done = detect(path)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("damaged", [False, True])
def test_every_image_of_an_archive(detect: Any, picture: Any, tmp_path: Path, damaged: bool) -> None:
    photos = [picture(f"{name}.png") for name in "abc"]
    if damaged:
        photos[1].write_bytes(b"no image")
    with tarfile.open(tmp_path / "shard.tar", "w") as file:
        for photo in photos:
            file.add(photo, photo.name)
    done = detect("shard.tar", "--on-error", "skip")
    assert done.code == (3 if damaged else 0)
    wanted = [f"shard.tar/{name}" for name in ("ac" if damaged else "abc")]
    assert [line["image_id"] for line in lines_of(FOUND)] == wanted
    assert ("1 of its images could not be read" in done.err) == damaged


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--show", "--no-pictures"), "--show opens the images with detections; leave --no-pictures out"),
        (("--engine", "ray", "--pictures"), "--engine ray draws no images"),
        (("--engine", "ray", "--proposal-pictures"), "--engine ray draws no images"),
        (("--engine", "ray", "--workers", 2), "--workers is for this process alone"),
        (("--engine", "ray", "--device", "cuda:1"), "--device cuda:1: with --engine ray, Ray gives each process its"),
        (("--address", "auto"), "--address is of a Ray cluster"),
    ],
)
def test_options_that_exclude_each_other(detect: Any, picture: Any, words: tuple[str, ...], said: str) -> None:
    assert detect(picture("a.png"), *words).fault.startswith(f"error: {said}")
