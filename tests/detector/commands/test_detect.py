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

import cv2
import numpy as np
import pytest
import yaml
from clips import spoil, write_video
from PIL import Image

from detector.commands.detection_files import SavedDetections, read_detections
from detector.commands.side_by_side import in_order
from detector.commands.tally import Tally, in_words
from detector.images.read import read_image
from detector.types import Detections

RED, BLUE = (250, 10, 10), (20, 20, 220)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "detections.jsonl").read_text(encoding="utf-8").splitlines()]


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_one_picture(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photo = picture("tomato on grey.png")
    done = run_cli("detect", photo, "--out", "found")
    assert (done.code, done.err) == (0, "")
    first, last = done.out.splitlines()
    assert first == f"{photo}: tomato 0.94"
    assert last.startswith("1 image, 1 object, ")
    assert last.endswith(f"images in {Path('found') / 'pictures'}, results in found")
    assert tree(tmp_path / "found") == {"config.yaml", "detections.jsonl", "pictures/tomato on grey.jpg"}
    (line,) = lines_of(tmp_path / "found")
    assert line == {
        "image_id": "tomato on grey",
        "path": str(photo),
        "width": 60,
        "height": 40,
        "detections": [{"box": [0, 0, 30, 40], "score": pytest.approx(240 / 255), "label": 0, "class_name": "tomato"}],
    }


def test_fewer_members(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    assert run_cli("detect", picture("a.png"), "--members", 2, "--out", "found").code == 0
    assert fake_model.calls[0][1]["members"] == 2
    assert yaml.safe_load((tmp_path / "found" / "config.yaml").read_text())["config"]["members"] == 2


def test_a_smaller_image(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    assert run_cli("detect", picture("a.png"), "--image-side", 384, "--out", "found").code == 0
    assert fake_model.calls[0][1]["image_side"] == 384
    assert yaml.safe_load((tmp_path / "found" / "config.yaml").read_text())["config"]["image_side"] == 384
    assert run_cli("detect", picture("a.png"), "--image-side", 31).code == 2


def test_every_network_everywhere(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    for words, exact in (((), False), (("--exact",), True)):
        out = f"found-{exact}"
        assert run_cli("detect", picture("a.png"), *words, "--out", out).code == 0
        assert fake_model.calls[-1][1].get("exact", False) is exact
        assert yaml.safe_load((tmp_path / out / "config.yaml").read_text())["config"]["exact"] is exact


def test_so_many_images_at_once(run_cli: Any, fake_model: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(calls: Any, *, alone: bool, workers: int) -> Any:
        asked.append(workers)
        return in_order(calls, alone=alone, workers=workers)

    monkeypatch.setattr("detector.commands.detection_run.in_order", counted)
    photos = [picture("a.png"), picture("b.png"), picture("c.png")]
    assert run_cli("detect", *photos, "--workers", 3, "--out", "three").code == 0
    assert run_cli("detect", *photos, "--out", "all").code == 0
    assert asked == [3, 0]


def test_one_class_only(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photo = picture("a.png", right=BLUE)
    assert run_cli("detect", photo, "--out", "both").code == 0
    assert run_cli("detect", photo, "--class", "Sky", "--out", "sky").code == 0
    names = [[found["class_name"] for found in lines_of(tmp_path / out)[0]["detections"]] for out in ("both", "sky")]
    assert names == [["tomato", "sky"], ["sky"]]
    written = [yaml.safe_load((tmp_path / out / "config.yaml").read_text())["config"] for out in ("both", "sky")]
    assert [config["classes"] for config in written] == ["all", ["sky"]]
    done = run_cli("detect", photo, "--class", "tomatoes", "--out", "none")
    assert (done.code, done.error_lines) == (1, ["error: the model has no class 'tomatoes'; did you mean 'tomato'?"])
    assert not (tmp_path / "none").exists()


def test_the_picture_written_is_annotated(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photo = picture("a.png", size=(200, 300))
    run_cli("detect", photo, "--out", "found")
    drawn = read_image(tmp_path / "found" / "pictures" / "a.jpg").astype(int)
    plain = read_image(photo).astype(int)
    assert drawn.shape == plain.shape
    assert np.abs(drawn - plain)[:, :150].max() > 60, "a box and a name should be drawn over the tomato"


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


def test_no_pictures(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    assert run_cli("detect", picture("a.png"), "--out", "found", "--no-pictures").code == 0
    assert tree(tmp_path / "found") == {"config.yaml", "detections.jsonl"}


def test_nothing_found_is_said_and_recorded(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    done = run_cli("detect", picture("grey.png", left=(90, 90, 90)), "--out", "found")
    assert done.code == 0
    assert done.out.splitlines()[0].endswith("grey.png: nothing")
    assert lines_of(tmp_path / "found")[0]["detections"] == []


def test_formats(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photos = [picture("a.png", right=BLUE), picture("b.png", left=(90, 90, 90)), picture("c.png")]
    assert (
        run_cli("detect", *photos, "--out", "found", "--format", "coco", "--format", "csv", "--no-pictures").code == 0
    )
    found = tmp_path / "found"
    assert tree(found) == {
        "config.yaml", "detections.jsonl", "detections.coco.json", "images.coco.json", "detections.csv",
    }  # fmt: skip
    results = json.loads((found / "detections.coco.json").read_text())
    assert [(r["image_id"], r["category_id"], r["bbox"]) for r in results] == [
        (1, 1, [0, 0, 30, 40]),
        (1, 2, [30, 0, 30, 40]),
        (3, 1, [0, 0, 30, 40]),
    ]
    with (found / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image_id"], row["class_name"], row["x1"]) for row in rows] == [
        ("a", "tomato", "0.0"),
        ("a", "sky", "30.0"),
        ("c", "tomato", "0.0"),
    ]


def test_pycocotools_reads_the_coco_files(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, capsys: Any
) -> None:
    from pycocotools.coco import COCO

    run_cli("detect", picture("000000000139.png"), picture("7.png"), "--out", "found", "--format", "coco")
    truth = COCO(str(tmp_path / "found" / "images.coco.json"))
    results = truth.loadRes(str(tmp_path / "found" / "detections.coco.json"))
    assert sorted(truth.getImgIds()) == [7, 139]
    assert [note["image_id"] for note in results.loadAnns(results.getAnnIds())] == [139, 7]


AS_IT_IS = {"exact": False, "multibox": True, "runtime": "torch"}


def test_the_settings_reach_the_model(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere" / "model.yaml").touch()
    options = "--score-threshold 0.2 --nms-threshold 0.4 --max-detections 5 --device cpu --proposals fast --seed 3 "
    options += "--precision bfloat16"
    assert run_cli("detect", picture("a.png"), "--model", "somewhere", *options.split()).code == 0
    assert fake_model.calls == [
        (
            Path("somewhere"),
            {
                "device": "cpu", "precision": "bfloat16", "seed": 3, "score_threshold": 0.2, "nms_threshold": 0.4,
                "max_detections": 5, "proposals": "fast", **AS_IT_IS,
            },
        )
    ]  # fmt: skip


def test_what_is_not_given_is_the_models_own(run_cli: Any, fake_model: Any, picture: Any) -> None:
    run_cli("detect", picture("a.png"))
    assert fake_model.calls == [(None, {"device": "auto", "precision": "auto", "seed": 0, **AS_IT_IS})]


def test_the_run_folder_holds_the_resolved_settings(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path
) -> None:
    photo = picture("a.png")
    run_cli("detect", photo, "--out", "found", "--score-threshold", "0.2", "--format", "csv", "--seed", "5")
    record = yaml.safe_load((tmp_path / "found" / "config.yaml").read_text())
    assert record["verb"] == "detect"
    assert record["seed"] == 5
    assert record["config"]["inputs"] == [str(photo)]
    limits = {"score_threshold": 0.2, "nms_threshold": 0.3, "max_detections": 100, "soft_sigma": None}
    scores = {"overlap_power": 0.0, "calibration": {"slope": 1.0, "offset": 0.0}}
    assert record["config"]["postprocess"] == {**limits, **scores}
    assert record["config"]["proposals"] == {"selective_search": {"preset": "halves"}, "max_proposals": None}
    assert record["config"]["formats"] == ["csv", "jsonl"]
    assert {"python", "torch", "numpy"} <= record["versions"].keys()


def test_without_out_a_new_folder_under_runs(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photo = picture("a.png")
    for _ in range(2):
        assert run_cli("detect", photo).code == 0
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    assert all(folder.name.startswith("detect-20") and (folder / "config.yaml").is_file() for folder in folders)


def test_one_bad_picture_ends_the_run_by_default(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    picture("a.png")
    (tmp_path / "b.jpg").write_text("not a picture")
    picture("c.png")
    done = run_cli("detect", "a.png", "b.jpg", "c.png", "--out", "found")
    assert done.code == 1
    assert len(done.error_lines) == 1
    assert done.err.startswith("error: b.jpg ")
    assert not (tmp_path / "found").exists(), "a half-done folder must not bear the final name"
    assert f"what was finished is in {tmp_path / 'found.unfinished'}" in done.err
    assert [line["image_id"] for line in lines_of(tmp_path / "found.unfinished")] == ["a"]


def test_a_failed_run_is_no_hindrance_to_the_next(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    picture("a.png")
    (tmp_path / "b.jpg").write_text("not a picture")
    for _ in range(2):
        assert run_cli("detect", "a.png", "b.jpg", "--out", "found").code == 1
    assert run_cli("detect", "a.png", "--out", "found").code == 0
    assert {"found", "found.unfinished", "found.unfinished-2"} <= {path.name for path in tmp_path.iterdir()}


def test_skipping_bad_pictures(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    picture("a.png")
    (tmp_path / "b.jpg").write_text("not a picture")
    picture("c.png")
    (tmp_path / "clip.mp4").write_text("not a video")
    bad = ("b.jpg", "nowhere.png", "clip.mp4")
    done = run_cli("detect", "a.png", *bad, "c.png", "--out", "found", "--on-error", "skip")
    assert done.code == 3
    assert [line.split()[1].rstrip(":") for line in done.error_lines] == ["nowhere.png", "b.jpg", "clip.mp4"]
    assert all(line.startswith("skipped: ") for line in done.error_lines)
    assert "3 inputs skipped" in done.out
    assert [line["image_id"] for line in lines_of(tmp_path / "found")] == ["a", "c"]


@pytest.mark.parametrize("bad", ["nowhere.png", "b.jpg"])
def test_all_skipped_is_failure(run_cli: Any, fake_model: Any, tmp_path: Path, bad: str) -> None:
    (tmp_path / "b.jpg").write_text("not a picture")
    done = run_cli("detect", bad, "--out", "found", "--on-error", "skip")
    assert done.code == 1
    assert done.error_lines[-1].startswith("error: nothing ")
    assert {path.name for path in tmp_path.iterdir()} == {"b.jpg"}


def test_a_folder_keeps_its_shape(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    for name in ("in/10.png", "in/2.png", "in/deep/2.png", "in/.hidden.png"):
        picture(name)
    (tmp_path / "in" / "notes.md").write_text("no picture")
    assert run_cli("detect", "in", "--out", "found").code == 0
    assert [line["image_id"] for line in lines_of(tmp_path / "found")] == ["2", "10", "deep/2"]
    assert (tmp_path / "found" / "pictures" / "deep" / "2.jpg").is_file()


def test_a_video(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(5):
        frame = np.full((48, 64, 3), 90, np.uint8)
        frame[:, :32] = RED[::-1] if number % 2 == 0 else BLUE[::-1]  # OpenCV writes BGR
        writer.write(frame)
    writer.release()
    done = run_cli("detect", "clip.avi", "--out", "found", "--frame-step", "2")
    assert done.code == 0
    assert [line["image_id"] for line in lines_of(tmp_path / "found")] == [f"clip.avi/{n:06d}" for n in (0, 2, 4)]
    assert done.out.splitlines()[1].startswith("clip.avi #2: tomato 0.9"), "colours must not be exchanged"
    assert (tmp_path / "found" / "pictures" / "clip.avi" / "000004.jpg").is_file()


@pytest.mark.parametrize("named", [("a.png", "b.png"), ("clip.avi",)])
def test_where_the_time_goes(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...]
) -> None:
    for name in named:
        if name.endswith(".avi"):
            write_video(tmp_path / name, "MJPG", 3)
        else:
            picture(name)
    monkeypatch.setenv("COLUMNS", "200")
    done = run_cli("detect", *named, "--out", "found", "--profile")
    assert done.code == 0
    rows = [line.strip("│ ").split("│") for line in done.out.splitlines() if line.startswith("│")]
    seconds = {stage.strip(): float(each) for stage, each, _ in rows}
    assert list(seconds) == ["read", "propose", "networks", "suppression", "write"]
    assert seconds["read"] > 0
    assert seconds["write"] > 0


def test_what_exists_is_not_overwritten(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photo = picture("a.png")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years of work")
    done = run_cli("detect", photo, "--out", "mine")
    assert (done.code, done.err) == (1, "error: mine: already exists and is not empty; name a new folder\n")
    assert fake_model.calls == [], "the folder is looked at before the slow work"
    assert tree(tmp_path / "mine") == {"thesis.txt"}


def test_out_may_be_an_empty_folder(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert run_cli("detect", picture("a.png"), "--out", "mine").code == 0
    assert tree(tmp_path / "mine") == {"config.yaml", "detections.jsonl", "pictures/a.jpg"}


def test_a_full_disk(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    photo = picture("a.png")
    monkeypatch.setattr(Image.Image, "save", full)
    done = run_cli("detect", photo, "--out", "found")
    assert done.code == 1
    assert done.error_lines == ["error: found: cannot write here: No space left on device"]
    assert not list(tmp_path.glob("found*"))


def test_interrupted(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detector.detection.pipeline import Detector

    detect = Detector.detect

    def control_c_at_blue(self: Detector, image: Any) -> Any:
        if tuple(image[0, 0]) == BLUE:
            raise KeyboardInterrupt
        return detect(self, image)

    monkeypatch.setattr(Detector, "detect", control_c_at_blue)
    done = run_cli("detect", picture("a.png"), picture("b.png", left=BLUE), picture("c.png"), "--out", "found")
    assert done.code == 130
    left = f"what was finished is in {tmp_path / 'found.unfinished'}; the same command with --resume goes on"
    assert done.error_lines == [left, "interrupted"]
    assert [line["image_id"] for line in lines_of(tmp_path / "found.unfinished")] == ["a"]


def test_a_picture_too_long_for_jpeg_is_written_as_png(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path
) -> None:
    assert run_cli("detect", picture("a.png", size=(3, 66_000)), "--out", "found").code == 0
    assert read_image(tmp_path / "found" / "pictures" / "a.png").shape == (3, 66_000, 3)


def test_a_table_in_a_terminal(run_cli: Any, fake_model: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
    monkeypatch.setenv("COLUMNS", "200")
    done = run_cli(
        "detect",
        picture("[bold]a.png"),
        picture("b.png", right=BLUE),
        "--no-pictures",
        "--class",
        "tomato",
        "--device",
        "cpu",
    )
    assert done.code == 0
    first, second, *rest = done.out.splitlines()
    assert first == "model: bundled; networks: 1; classes: 2 (1 looked for); device: cpu"
    assert second == "proposals: selective search"
    assert "[bold]a.png" in done.out, "a file's name is no markup"
    assert "tomato 0.94" in done.out
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in rest]
    assert [line for line in plain if re.fullmatch(r"\W*tomato\W+2\W*", line)], "the classes are counted"
    assert rest[-1].startswith("2 images, 2 objects, ")


@pytest.mark.parametrize(("names", "opened"), [(["a.png"], "a.jpg"), (["a.png", "b.png"], ""), (["in/a.png"], "a.jpg")])
def test_show_opens_the_image_or_the_folder_of_several(
    run_cli: Any, fake_model: Any, picture: Any, monkeypatch: pytest.MonkeyPatch, names: list[str], opened: str
) -> None:
    launched: list[str] = []
    monkeypatch.setattr("typer.launch", lambda place: launched.append(place) or 0)
    done = run_cli("detect", *map(picture, names), "--out", "found", "--show")
    assert (done.code, done.err) == (0, "")
    assert launched == [str(Path("found") / "pictures" / opened)]


def test_show_without_a_program_to_open_images(
    run_cli: Any, fake_model: Any, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.launch", lambda place: 1)
    done = run_cli("detect", picture("a.png"), "--out", "found", "--show")
    assert (done.code, done.error_lines) == (0, [f"no program was found to open {Path('found/pictures/a.jpg')}"])
    done = run_cli("detect", picture("a.png"), "--show", "--no-pictures")
    assert (done.code, done.error_lines) == (
        1, ["error: --show opens the images with detections; leave --no-pictures out"],
    )  # fmt: skip


def test_the_device_may_be_one_of_several_gpus(
    run_cli: Any, fake_model: Any, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_cli("detect", picture("a.png"), "--out", "none", "--device", "tpu")
    assert (done.code, done.error_lines) == (1, ["error: device 'tpu': choose auto, cpu or cuda"])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    done = run_cli("detect", "a.png", "--out", "found", "--device", "cuda:1")
    assert done.code == 0, done.err
    _, options = fake_model.calls[-1]
    assert options["device"] == "cuda:1"
    done = run_cli("detect", "a.png", "--engine", "ray", "--device", "cuda:1")
    assert done.error_lines == ["error: --device cuda:1: with --engine ray, Ray gives each process its GPU; name cuda"]


@pytest.mark.parametrize("options", [["--score-threshold", "2"], ["--on-error", "x"], ["--format", "xml"], ["--nope"]])
def test_a_wrong_command_line_is_code_2(run_cli: Any, fake_model: Any, picture: Any, options: list[str]) -> None:
    done = run_cli("detect", picture("a.png"), *options)
    assert done.code == 2
    assert fake_model.calls == []


def test_names_are_shown_and_not_obeyed(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photo = picture("a\x1b[31m[bold]\n.png")
    done = run_cli("detect", photo, tmp_path / "b\x07.png", "--out", "found", "--on-error", "skip")
    assert done.code == 3
    assert "\x1b" not in done.out + done.err
    assert "\x07" not in done.err
    assert "a\\x1b[31m[bold]\\n.png: tomato" in done.out
    assert lines_of(tmp_path / "found")[0]["image_id"] == "a\x1b[31m[bold]\n"


def test_names_on_a_terminal(fake_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
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
def test_a_name_that_is_no_utf_8_survives(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    photo = picture("lat\udce9in.png")
    done = run_cli("detect", photo, "--out", "found", "--format", "coco", "--format", "csv")
    assert done.code == 0
    (line,) = lines_of(tmp_path / "found")
    assert line["image_id"] == "lat\udce9in"
    assert Path(line["path"]).is_file(), "the path in the JSON still opens the file"
    (saved,) = read_detections(tmp_path / "found" / "detections.jsonl")
    assert (saved.image_id, saved.path) == ("lat\udce9in", str(photo))
    described = json.loads((tmp_path / "found" / "images.coco.json").read_text(encoding="utf-8"))
    assert described["images"][0]["file_name"] == str(photo)
    assert "lat\\udce9in" in (tmp_path / "found" / "detections.csv").read_text(encoding="utf-8")
    assert len(list((tmp_path / "found" / "pictures").iterdir())) == 1


@pytest.mark.parametrize("name", ["...png", "..png", "a\\b.png", "n\nl.png", "x" * 251 + ".png"])
def test_pictures_lie_in_their_folder(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, name: str) -> None:
    photo = picture("plain.png").rename(tmp_path / name)
    assert run_cli("detect", photo, "--out", "found", "--proposal-pictures").code == 0
    for folder in ("pictures", "proposals"):
        (file,) = (path for path in (tmp_path / "found").rglob("*.jpg") if path.parent.name == folder)
        assert file.parent.parent == tmp_path / "found"
    assert len(tree(tmp_path / "found")) == 4


def test_a_damaged_frame_costs_itself_alone(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", "MJPG")
    spoil(path, 9)
    done = run_cli("detect", path, "--no-pictures", "--on-error", "skip", "--out", "found")
    assert done.code == 3
    assert "1 of 30 frames could not be read" in done.err
    assert len(lines_of(tmp_path / "found")) == 29
    done = run_cli("detect", path, "--no-pictures", "--out", "failed")
    assert done.code == 1
    assert "1 of 30 frames could not be read" in done.err
    assert len(lines_of(tmp_path / "failed.unfinished")) == 29


def test_a_very_large_picture_is_looked_at_smaller(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.commands.inputs.ORDINARY_PIXELS", 100 * 150)
    photo = picture("a.png", size=(200, 300))
    assert run_cli("detect", photo, "--out", "found", "--proposal-pictures").code == 0
    (line,) = lines_of(tmp_path / "found")
    assert (line["width"], line["height"]) == (300, 200)
    assert line["detections"][0]["box"] == [0, 0, 150, 200], "in pixels of the file"
    for folder in ("pictures", "proposals"):
        assert read_image(tmp_path / "found" / folder / "a.jpg").shape == (100, 150, 3)


def test_proposals_are_drawn_on_the_picture_as_it_was(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path
) -> None:
    photo = picture("a.png", size=(200, 300))
    assert run_cli("detect", photo, "--out", "both", "--proposal-pictures").code == 0
    assert run_cli("detect", photo, "--out", "proposals", "--proposal-pictures", "--no-pictures").code == 0
    assert run_cli("detect", photo, "--out", "pictures").code == 0
    for folder in ("pictures", "proposals"):
        one, other = (tmp_path / out / folder / "a.jpg" for out in ("both", folder))
        assert one.read_bytes() == other.read_bytes()


def test_what_pillow_finds_odd_is_not_told(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    """A damaged EXIF block, of which Pillow warns."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", (60, 40)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 20)
    with pytest.warns(UserWarning, match="."):
        read_image(path)
    done = run_cli("detect", path, "--out", "found")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("damaged", [False, True])
def test_every_image_of_an_archive(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, damaged: bool) -> None:
    photos = [picture(f"{name}.png") for name in "abc"]
    if damaged:
        photos[1].write_bytes(b"no image")
    with tarfile.open(tmp_path / "shard.tar", "w") as file:
        for photo in photos:
            file.add(photo, photo.name)
    done = run_cli("detect", "shard.tar", "--out", "found", "--on-error", "skip")
    assert done.code == (3 if damaged else 0)
    wanted = [f"shard.tar/{name}" for name in ("ac" if damaged else "abc")]
    assert [line["image_id"] for line in lines_of(tmp_path / "found")] == wanted
    assert ("1 of its images could not be read" in done.err) == damaged
