"""Shards on the command line: joined, they are what one process writes, and whatever does not belong is refused."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from clips import spoil, write_video
from PIL import Image

from detector.detection.pipeline import Detector
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.plain import to_plain
from detector.runs.folder import new_run_folder
from detector.runs.journal import Journal

BLUE, GREY = (20, 20, 220), (90, 90, 90)
FORMATS = ("--format", "coco", "--format", "csv", "--format", "parquet")
OPTIONS = ("--on-error", "skip", *FORMATS, "--proposal-pictures")


@pytest.fixture
def listed(picture: Any, tmp_path: Path) -> Path:
    """A list of nine inputs: images, one that is missing, one that is none, a video with a damaged frame, a folder."""
    picture("a.png")
    picture("b.png", left=GREY)
    (tmp_path / "c.jpg").write_text("no image")
    spoil(write_video(tmp_path / "d.avi", "MJPG", frames=4), 2)
    for name in ("10", "2", "deep/2"):
        picture(f"in/{name}.png", right=BLUE)
    picture("f.png")
    path = tmp_path / "list.txt"
    path.write_text("a.png\nnowhere.png\nb.png\nc.jpg\nd.avi\nin\nf.png\n")
    return path


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, without the record of when and how it was made."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def config_of(folder: Path) -> list[Any]:
    record = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return [record[key] for key in ("verb", "seed", "config")]


def skipped(done: Any) -> list[str]:
    return [line for line in done.error_lines if line.startswith("skipped: ")]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 11])
def test_merged_shards_are_what_one_process_writes(
    run_cli: Any, fake_model: Any, listed: Path, tmp_path: Path, count: int
) -> None:
    whole = run_cli("detect", listed, *OPTIONS, "--out", "whole")
    assert whole.code == 3, whole.err
    for index in range(1, count + 1):
        done = run_cli("detect", listed, *OPTIONS, "--shard", f"{index}/{count}", "--out", f"part-{index}")
        assert done.code in (0, 3), done.err
    parts = [f"part-{index}" for index in range(count, 0, -1)]
    merged = run_cli("merge", *parts, "--out", "merged")
    assert merged.code == whole.code
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    assert config_of(tmp_path / "merged") == config_of(tmp_path / "whole")
    assert skipped(merged) == skipped(whole)
    assert len(skipped(whole)) == 3
    counts = [done.out.splitlines()[-1].split(", ")[:2] for done in (merged, whole)]
    assert counts[0] == counts[1]
    assert "3 inputs skipped; images in merged" in merged.out


def test_a_shard_writes_its_part_alone(run_cli: Any, fake_model: Any, listed: Path, tmp_path: Path) -> None:
    done = run_cli("detect", listed, *OPTIONS, "--shard", "1/4", "--out", "part")
    assert (done.code, len(skipped(done))) == (3, 1)
    assert files(tmp_path / "part").keys() == {
        "detections.jsonl", "shard.json", "pictures/a.jpg", "pictures/b.jpg", "proposals/a.jpg", "proposals/b.jpg",
    }  # fmt: skip


def test_shards_of_images_that_are_all_skipped(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("no image")
    for index in (1, 2):
        command = ("detect", "a.jpg", "b.jpg", "--on-error", "skip", "--shard", f"{index}/2", "--out", f"part-{index}")
        assert run_cli(*command).code == 3
    done = run_cli("merge", "part-1", "part-2", "--out", "merged")
    assert done.code == 1
    assert (
        done.error_lines[-1]
        == "error: nothing was detected in: every input was skipped; the lines of the shards say why"
    )
    assert not (tmp_path / "merged").exists()


@pytest.fixture
def detections_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each image that a detector is run on."""
    made: list[int] = []
    detect = Detector.detect

    def counted(self: Detector, image: Any) -> Any:
        made.append(1)
        return detect(self, image)

    monkeypatch.setattr(Detector, "detect", counted)
    return made


def killed(run_cli: Any, monkeypatch: pytest.MonkeyPatch, *command: Any) -> None:
    """Run the command and stop it when all is done but the last step."""

    def stop(self: Journal, faults: list[str]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", stop)
        assert run_cli(*command).code == 130


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def line_end(path: Path, number: int) -> int:
    """Where the ``number``-th line of a file ends, in bytes; of the last for -1."""
    lines = path.read_bytes().splitlines(keepends=True)
    return len(b"".join(lines[:number] if number >= 0 else lines))


# Lines that stay of the detections and of the journal, and bytes of the next line beside them; -1 is all of them.
KILLS = {
    "before anything": ((0, 0), (0, 30)),
    "before the first image": ((0, 0), (1, 0)),
    "in a line": ((1, 20), (3, 0)),
    "a line without its record": ((2, 0), (3, 0)),
    "in the record of a line": ((2, 0), (3, 9)),
    "in a video": ((3, 7), (7, 0)),
    "between the lines of a video": ((4, 0), (8, 0)),
    "the results lost": ((1, 3), (-1, 0)),
    "the journal lost": ((-1, 0), (0, 9)),
    "at the end": ((-1, 0), (-1, 0)),
}


@pytest.mark.parametrize(("lines", "records"), KILLS.values(), ids=KILLS.keys())
def test_a_killed_run_goes_on(
    run_cli: Any,
    fake_model: Any,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    detections_made: list[int],
    lines: tuple[int, int],
    records: tuple[int, int],
) -> None:
    command = ("detect", listed, *OPTIONS, "--out")
    whole = run_cli(*command, "whole")
    total = len(detections_made)
    killed(run_cli, monkeypatch, *command, "found")
    left = tmp_path / "found.unfinished"
    for name, (number, more) in (("detections.jsonl", lines), ("journal.jsonl", records)):
        cut(left / name, line_end(left / name, number) + more)
    detections_made.clear()
    done = run_cli(*command, "found", "--resume")
    assert done.code == 3, done.err
    assert files(tmp_path / "found") == files(tmp_path / "whole")
    assert config_of(tmp_path / "found") == config_of(tmp_path / "whole")
    assert not left.exists()
    told = [said.out.splitlines()[-1].split(", ")[:2] for said in (done, whole)]
    assert told[0] == told[1]
    kept = 0 if records[0] == 0 else lines[0] if lines[0] >= 0 else total
    assert total - len(detections_made) in (kept, kept - 1)


def test_a_killed_shard_is_finished_and_merged(
    run_cli: Any, fake_model: Any, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("detect", listed, *OPTIONS)
    run_cli(*command, "--out", "whole")
    run_cli(*command, "--shard", "1/2", "--out", "part-1", "--resume", "auto")
    second = (*command, "--shard", "2/2", "--out", "part-2", "--resume", "auto")
    killed(run_cli, monkeypatch, *second)
    cut(tmp_path / "part-2.unfinished" / "detections.jsonl", 400)
    for named in ("part-2", "part-2.unfinished"):
        done = run_cli("merge", "part-1", named, "--out", "merged")
        assert done.code == 1
        expected = f"error: {named}: shard 2/2 is not finished; give its command again with --resume"
        assert done.error_lines == [expected]
    assert run_cli(*second).code in (0, 3)
    assert run_cli("merge", "part-1", "part-2", "--out", "merged").code == 3
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_a_run_that_an_image_has_ended_goes_on_without_it(
    run_cli: Any, fake_model: Any, listed: Path, tmp_path: Path, detections_made: list[int]
) -> None:
    listed.write_text(listed.read_text().replace("nowhere.png\n", ""))
    skip = ("--on-error", "skip")
    assert run_cli("detect", listed, *skip, "--out", "whole").code == 3
    assert run_cli("detect", listed, "--shard", "2/2", "--out", "part-2").code == 0
    first = ("detect", listed, "--shard", "1/2", "--out", "part-1")
    assert run_cli(*first).code == 1
    done = len((tmp_path / "part-1.unfinished" / "detections.jsonl").read_text().splitlines())
    detections_made.clear()
    assert run_cli(*first, *skip, "--resume").code == 3
    assert done + len(detections_made) == 5, "two images and three frames; what was done is not done again"
    assert run_cli("merge", "part-1", "part-2", "--out", "merged").code == 3
    assert files(tmp_path / "merged").keys() == files(tmp_path / "whole").keys()
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    assert config_of(tmp_path / "merged") == config_of(tmp_path / "whole")


def test_a_finished_run_has_nothing_to_go_on_with(
    run_cli: Any, fake_model: Any, picture: Any, detections_made: list[int]
) -> None:
    command = ("detect", picture("a.png"), "--out", "found")
    (line,) = run_cli(*command, "--resume").error_lines
    assert line.startswith("error: found: no interrupted run to go on with; leave --resume out")
    assert run_cli(*command, "--resume", "auto").code == 0
    assert run_cli(*command, "--resume").error_lines == ["error: found: this run is finished; name another --out"]
    done = run_cli(*command, "--resume", "auto")
    assert (done.code, done.out) == (0, "found: this run is finished\n")
    assert len(detections_made) == 1
    done = run_cli("detect", "a.png", "--resume")
    assert done.error_lines == ["error: --resume needs --out: the folder of the run to go on with"]


def test_a_run_in_an_empty_folder_goes_on(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a volume is mounted, which cannot be replaced."""
    (tmp_path / "found").mkdir()
    command = ("detect", picture("a.png"), picture("b.png"), "--out", "found", "--resume", "auto")
    killed(run_cli, monkeypatch, *command)
    assert {path.name for path in (tmp_path / "found").iterdir()} == {".unfinished"}
    assert run_cli(*command).code == 0
    assert files(tmp_path / "found").keys() == {"detections.jsonl", "pictures/a.jpg", "pictures/b.jpg"}


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        (["a.png", "b.png"], ["--score-threshold", "0.1"], "another config.postprocess.score_threshold (0.5, not 0.1)"),
        (["a.png", "b.png"], ["--seed", "1"], "another seed (0, not 1)"),
        (["b.png", "a.png"], [], "another list of inputs"),
        (["a.png", "b.png"], ["--shard", "1/2"], "another number of shards (1, not 2)"),
    ],
)
def test_another_run_does_not_go_on(
    run_cli: Any,
    fake_model: Any,
    picture: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inputs: list[str],
    options: list[str],
    words: str,
) -> None:
    picture("a.png")
    picture("b.png")
    killed(run_cli, monkeypatch, "detect", "a.png", "b.png", "--score-threshold", "0.5", "--out", "found")
    before = files(tmp_path / "found.unfinished")
    defaults = [] if "--score-threshold" in options else ["--score-threshold", "0.5"]
    done = run_cli("detect", *inputs, *defaults, *options, "--out", "found", "--resume")
    assert done.code == 1
    assert len(done.error_lines) == 1
    assert f"holds a run with {words}; name another --out" in done.err
    after = files(tmp_path / "found.unfinished")
    assert {name: after[name] for name in before if name != ".run.json"} == {
        name: content for name, content in before.items() if name != ".run.json"
    }


def test_two_processes_do_not_go_on_at_once(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("detect", picture("a.png"), "--out", "found", "--resume", "auto")
    killed(run_cli, monkeypatch, *command)
    with new_run_folder(tmp_path / "found", "detect", {}, resume=True) as folder:
        done = run_cli(*command)
        assert (done.code, len(done.error_lines)) == (1, 1)
        assert "found.unfinished: another process is at work there" in done.err
        assert (folder / "detections.jsonl").read_text().count("\n") == 1


@pytest.fixture
def two_parts(run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path) -> Callable[..., Any]:
    """``two_parts(*options)`` makes ``part-1`` and, with the options, ``part-2``, and gives what ``merge`` says."""
    picture("a.png")
    picture("b.png")

    def make(*options: str, shard: str = "2/2", inputs: tuple[str, ...] = ("a.png", "b.png")) -> Any:
        assert run_cli("detect", "a.png", "b.png", "--shard", "1/2", "--out", "part-1").code == 0
        assert run_cli("detect", *inputs, *options, "--shard", shard, "--out", "part-2").code == 0
        return lambda *parts: run_cli("merge", *parts, "--out", "merged")

    return make


def test_shards_of_other_settings_are_refused(two_parts: Any) -> None:
    done = two_parts("--score-threshold", "0.25")("part-1", "part-2")
    words = "part-2: a shard with another config.postprocess.score_threshold (0.25, not 0.3); part-1 is of another job"
    assert done.error_lines == [f"error: {words}"]


def test_shards_of_another_model_are_refused(two_parts: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.yaml").write_text("another")
    done = two_parts("--model", "other")("part-1", "part-2")
    assert done.error_lines == ["error: part-2: a shard with another model; part-1 is of another job"]


def test_the_same_model_may_lie_elsewhere(two_parts: Any, tmp_path: Path) -> None:
    from detector.model.config import BUNDLED_MODEL

    shutil.copytree(BUNDLED_MODEL, tmp_path / "copy")
    assert two_parts("--model", "copy")("part-1", "part-2").code == 0


def test_shards_of_another_list_are_refused(two_parts: Any) -> None:
    done = two_parts(inputs=("b.png", "a.png"))("part-1", "part-2")
    assert done.error_lines == ["error: part-2: a shard with another list of inputs; part-1 is of another job"]


def test_what_is_not_all_of_the_shards_is_refused(two_parts: Any, run_cli: Any, tmp_path: Path) -> None:
    merge = two_parts()
    assert merge("part-2").error_lines == ["error: of 2 shards 1 is missing"]
    shutil.copytree(tmp_path / "part-1", tmp_path / "again")
    expected = "error: again: shard 1/2, which part-1 is, too; leave one of them out"
    assert merge("part-1", "again", "part-2").error_lines == [expected]
    assert merge("part-1", "nowhere").error_lines == ["error: nowhere: no such folder"]
    (tmp_path / "photos").mkdir()
    assert merge("part-1", "photos").error_lines == ["error: photos: not a shard: it has no shard.json"]
    cut(tmp_path / "part-2" / "detections.jsonl", -1)
    done = merge("part-1", "part-2")
    assert done.error_lines == ["error: part-2/detections.jsonl: not whole; copy the shard again"]
    assert not (tmp_path / "merged").exists()


def test_what_exists_is_not_merged_over(two_parts: Any, run_cli: Any, tmp_path: Path) -> None:
    merge = two_parts()
    assert merge("part-1", "part-2").code == 0
    before = files(tmp_path / "merged")
    assert "already exists and is not empty" in merge("part-1", "part-2").err
    assert files(tmp_path / "merged") == before


@pytest.mark.parametrize("verb", ["detect", "propose"])
def test_a_disk_that_is_full_while_merging_is_one_line(
    run_cli: Any, fake_model: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    (photos / "c.png").unlink()
    options = ("--preset", "single", "--workers", 1) if verb == "propose" else ()
    assert run_cli(verb, photos, *options, "--shard", "1/1", "--out", "part").code == 0

    def full(source: str, target: str, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", source)

    monkeypatch.setattr("shutil.copyfile", full)
    done = run_cli("merge", "part", "--out", "merged")
    (line,) = done.error_lines
    assert done.code == 1
    assert line.startswith("error: part/")
    assert "cannot be copied: [Errno 28] No space left on device" in line
    assert not (tmp_path / "merged").exists()


# --- evaluate ----------


@pytest.fixture
def voc(picture: Any, tmp_path: Path) -> Path:
    """Five images, each with a tomato in its annotation; the third cannot be read."""
    for folder in ("set/JPEGImages", "set/Annotations", "set/ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    tomato = f"<object><name>tomato</name>{box}</object><object><name>sky</name>{box}</object>"
    for name in "abcde":
        picture(f"set/JPEGImages/{name}.png", right=BLUE if name < "d" else GREY)
        size = "<size><width>60</width><height>40</height></size>"
        xml = f"<annotation><filename>{name}.png</filename>{size}{tomato}</annotation>"
        (tmp_path / "set" / "Annotations" / f"{name}.xml").write_text(xml)
    (tmp_path / "set" / "JPEGImages" / "c.png").write_bytes(b"no image")
    (tmp_path / "set" / "ImageSets" / "Main" / "val.txt").write_text("a\nb\nc\nd\ne\n")
    return tmp_path / "set"


@pytest.mark.parametrize(("count", "more"), [(1, ()), (2, ("--unknown-classes", "skip")), (7, ()), (2, ("--first", 4))])
def test_merged_shards_of_evaluate_are_measured_as_one_run(
    run_cli: Any, fake_model: Any, voc: Path, tmp_path: Path, count: int, more: tuple[Any, ...]
) -> None:
    command = ("evaluate", "--data", voc, "--on-error", "skip", "--bootstrap", 20, *more)
    whole = run_cli(*command, "--out", "whole")
    assert whole.code == 3, whole.err
    for index in range(1, count + 1):
        shard = ("--shard", f"{index}/{count}", "--out", f"part-{index}", "--resume", "auto")
        assert run_cli(*command, *shard).code in (0, 3)
    merged = run_cli("merge", *(f"part-{index}" for index in range(1, count + 1)), "--out", "merged")
    assert (merged.code, skipped(merged)) == (3, skipped(whole))
    skip = "--unknown-classes skip " if "skip" in more else ""
    told = f"detector evaluate --data {voc} --split val --metric voc07 {skip}--detections merged"
    assert told in merged.out + merged.err
    assert config_of(tmp_path / "merged") == config_of(tmp_path / "whole")
    assert files(tmp_path / "merged") == {"detections.jsonl": (tmp_path / "whole" / "detections.jsonl").read_bytes()}
    measure = ("evaluate", "--data", voc, "--bootstrap", 20, "--detections", "merged", "--out", "measured")
    assert run_cli(*measure).code == 0
    results = [to_plain(Evaluation.load(tmp_path / out / "evaluation.json").result) for out in ("measured", "whole")]
    assert results[0] == results[1]


def test_a_killed_shard_of_evaluate_goes_on(
    run_cli: Any,
    fake_model: Any,
    voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    detections_made: list[int],
) -> None:
    command = ("evaluate", "--data", voc, "--on-error", "skip", "--shard", "1/1", "--out")
    assert run_cli(*command, "whole").code == 3
    killed(run_cli, monkeypatch, *command, "found")
    left = tmp_path / "found.unfinished"
    cut(left / "detections.jsonl", line_end(left / "detections.jsonl", 3) - 1)
    detections_made.clear()
    assert run_cli(*command, "found", "--resume").code == 3
    assert len(detections_made) == 2
    assert files(tmp_path / "found") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "1/2", "--detections", "x"], "--shard is for the detections of a model"),
        (["--shard", "1/2", "--metric", "regions"], "--shard is for the detections of a model"),
        (["--shard", "1/2", "--report"], "--shard is for the detections of a model"),
        (["--shard", "3/2"], "--shard 3/2: write i/N"),
        (["--resume", "--out", "x"], "--resume needs --shard"),
    ],
)
def test_options_of_evaluate_that_do_not_go_together(
    run_cli: Any, fake_model: Any, voc: Path, options: list[str], words: str
) -> None:
    done = run_cli("evaluate", "--data", voc, *options)
    assert (done.code, len(done.error_lines)) == (1, 1)
    assert words in done.err


# --- propose ----------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four small images, two of them the same, and one that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b", "d"):
        Image.fromarray(random.integers(0, 255, (24, 32, 3), np.uint8)).save(folder / f"{name}.png")
    shutil.copy(folder / "a.png", folder / "e.png")
    (folder / "c.png").write_text("no image")
    return folder


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_merged_stores_are_what_one_process_writes(run_cli: Any, photos: Path, tmp_path: Path, count: int) -> None:
    command = ("propose", photos, "nowhere.png", "--preset", "single", "--workers", 1, "--on-error", "skip", "--out")
    whole = run_cli(*command, "whole")
    for index in range(1, count + 1):
        assert run_cli(*command, f"part-{index}", "--shard", f"{index}/{count}").code in (0, 3)
    merged = run_cli("merge", *(f"part-{index}" for index in range(1, count + 1)), "--out", "merged")
    assert (merged.code, skipped(merged)) == (whole.code, skipped(whole))
    assert (whole.code, len(skipped(whole))) == (3, 2)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    assert not list((tmp_path / "merged").rglob("config.yaml"))
    assert merged.out.split(" boxes each")[0].split(": 4 images, ")[1] in whole.out


def test_a_killed_shard_of_propose_goes_on(run_cli: Any, photos: Path, tmp_path: Path) -> None:
    def shard(index: int, *more: str) -> Any:
        words = ("--preset", "single", "--workers", 1, "--shard", f"{index}/2", "--out", f"part-{index}", *more)
        return run_cli("propose", photos, *words)

    assert shard(1).code == 0
    assert shard(2).code == 1  # at the image that is none
    done = run_cli("merge", "part-1", "part-2", "--out", "merged")
    assert done.error_lines == ["error: part-2: shard 2/2 is not finished; give its command again"]
    made = files(tmp_path / "part-1")
    assert "2 images, 0 of them new" in shard(1).out
    assert files(tmp_path / "part-1") == made
    assert shard(2, "--on-error", "skip").code == 3
    assert run_cli("merge", "part-1", "part-2", "--out", "merged").code == 3
    next((tmp_path / "part-1").rglob("*.proposals")).unlink()
    done = run_cli("merge", "part-1", "part-2", "--out", "again")
    assert done.error_lines[-1:] == ["error: part-1: proposals are missing or too many; copy the shard again"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "2/2"], "part: holds a run with another shard (1/2, not 2/2)"),
        (["--shard", "1/3"], "part: holds a run with another number of shards (2, not 3)"),
        (["--shard", "1/2", "--seed", "1"], "part: holds a run with another seed (0, not 1)"),
    ],
)
def test_a_store_holds_one_shard(run_cli: Any, photos: Path, options: list[str], words: str) -> None:
    (photos / "c.png").unlink()
    command = ("propose", photos, "--preset", "single", "--workers", 1, "--out", "part")
    assert run_cli(*command, "--shard", "1/2").code == 0
    done = run_cli(*command, *options)
    assert done.error_lines == [f"error: {words}; name another --out"]


def test_a_shard_needs_a_store_of_its_own(run_cli: Any, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.txt").write_text("mine")
    done = run_cli("propose", photos, "--shard", "1/2", "--out", "store")
    assert "store: already exists and is not empty" in done.err
    assert json.dumps(sorted(files(tmp_path / "store"))) == '["mine.txt"]'
