"""Shards on the command line: joined, they are what one process writes, and whatever does not belong is refused."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import spoil, write_video
from command_line import record_of, tree
from PIL import Image
from voc_sets import write_voc

from detector.detection.pipeline import Detector
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.plain import to_plain
from detector.runs.folder import new_run_folder
from detector.runs.journal import Journal

pytestmark = pytest.mark.usefixtures("fake_model")

BLUE, GREY = (20, 20, 220), (90, 90, 90)
SKIP = ("--on-error", "skip")
OPTIONS = (*SKIP, "--format", "coco", "--format", "csv", "--format", "parquet", "--proposal-pictures")


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


def files(folder: str | Path) -> dict[str, bytes]:
    """What is in a folder, without the record of when and how it was made."""
    return {name: (Path(folder) / name).read_bytes() for name in tree(folder) if name != "config.yaml"}


def how_made(folder: str) -> list[Any]:
    record = record_of(folder)
    return [record[key] for key in ("verb", "seed", "config")]


def assert_same(one: str, other: str) -> None:
    """Two run folders hold the same, and were made in the same way."""
    assert files(one) == files(other)
    assert how_made(one) == how_made(other)


def skipped(done: Any) -> list[str]:
    return [line for line in done.error_lines if line.startswith("skipped: ")]


def counted(done: Any) -> list[str]:
    """Images and objects, as the last line tells them."""
    words: list[str] = done.out.splitlines()[-1].split(", ")[:2]
    return words


@pytest.fixture
def in_parts(run_cli: Any) -> Callable[..., Any]:
    """``in_parts(3, "detect", ...)``: the command in so many shards, and what ``merge`` says of them."""

    def run(count: int, *command: Any) -> Any:
        parts = [f"part-{index}" for index in range(1, count + 1)]
        for index, part in enumerate(parts, 1):
            done = run_cli(*command, "--shard", f"{index}/{count}", "--out", part)
            assert done.code in (0, 3), done.err
        return run_cli("merge", *parts[::-1], "--out", "merged")

    return run


@pytest.mark.parametrize("count", [1, 2, 3, 7, 11])
def test_merged_shards_are_what_one_process_writes(run_cli: Any, in_parts: Any, listed: Path, count: int) -> None:
    whole = run_cli("detect", listed, *OPTIONS, "--out", "whole")
    assert whole.code == 3, whole.err
    merged = in_parts(count, "detect", listed, *OPTIONS)
    assert merged.code == whole.code
    assert_same("merged", "whole")
    assert skipped(merged) == skipped(whole)
    assert len(skipped(whole)) == 3
    assert counted(merged) == counted(whole)
    assert "3 inputs skipped; images in merged" in merged.out


def test_a_shard_writes_its_part_alone(run_cli: Any, listed: Path) -> None:
    done = run_cli("detect", listed, *OPTIONS, "--shard", "1/4", "--out", "part")
    assert (done.code, len(skipped(done))) == (3, 1)
    assert files("part").keys() == {
        "detections.jsonl", "shard.json", "pictures/a.jpg", "pictures/b.jpg", "proposals/a.jpg", "proposals/b.jpg",
    }  # fmt: skip


def test_shards_of_images_that_are_all_skipped(in_parts: Any, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("no image")
    done = in_parts(2, "detect", "a.jpg", "b.jpg", *SKIP)
    why = "error: nothing was detected in: every input was skipped; the lines of the shards say why"
    assert (done.code, done.error_lines[-1]) == (1, why)
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
    run_cli: Any, listed: Path, monkeypatch: pytest.MonkeyPatch, detections_made: list[int],
    lines: tuple[int, int], records: tuple[int, int],
) -> None:  # fmt: skip
    command = ("detect", listed, *OPTIONS, "--out")
    whole = run_cli(*command, "whole")
    total = len(detections_made)
    killed(run_cli, monkeypatch, *command, "found")
    left = Path("found.unfinished")
    for name, (number, more) in (("detections.jsonl", lines), ("journal.jsonl", records)):
        cut(left / name, line_end(left / name, number) + more)
    detections_made.clear()
    done = run_cli(*command, "found", "--resume")
    assert done.code == 3, done.err
    assert_same("found", "whole")
    assert not left.exists()
    assert counted(done) == counted(whole)
    kept = 0 if records[0] == 0 else lines[0] if lines[0] >= 0 else total
    assert total - len(detections_made) in (kept, kept - 1)


def test_a_killed_shard_is_finished_and_merged(run_cli: Any, listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("detect", listed, *OPTIONS)
    run_cli(*command, "--out", "whole")
    run_cli(*command, "--shard", "1/2", "--out", "part-1", "--resume", "auto")
    second = (*command, "--shard", "2/2", "--out", "part-2", "--resume", "auto")
    killed(run_cli, monkeypatch, *second)
    cut(Path("part-2.unfinished") / "detections.jsonl", 400)
    for named in ("part-2", "part-2.unfinished"):
        fault = run_cli("merge", "part-1", named, "--out", "merged").fault
        assert fault == f"error: {named}: shard 2/2 is not finished; give its command again with --resume"
    assert run_cli(*second).code in (0, 3)
    assert run_cli("merge", "part-1", "part-2", "--out", "merged").code == 3
    assert files("merged") == files("whole")


def test_a_run_that_an_image_has_ended_goes_on_without_it(
    run_cli: Any, listed: Path, detections_made: list[int]
) -> None:
    listed.write_text(listed.read_text().replace("nowhere.png\n", ""))
    assert run_cli("detect", listed, *SKIP, "--out", "whole").code == 3
    assert run_cli("detect", listed, "--shard", "2/2", "--out", "part-2").code == 0
    first = ("detect", listed, "--shard", "1/2", "--out", "part-1")
    assert run_cli(*first).code == 1
    done = Path("part-1.unfinished/detections.jsonl").read_text().count("\n")
    detections_made.clear()
    assert run_cli(*first, *SKIP, "--resume").code == 3
    assert done + len(detections_made) == 5, "two images and three frames; what was done is not done again"
    assert run_cli("merge", "part-1", "part-2", "--out", "merged").code == 3
    assert_same("merged", "whole")


def test_a_finished_run_has_nothing_to_go_on_with(run_cli: Any, picture: Any, detections_made: list[int]) -> None:
    command = ("detect", picture("a.png"), "--out", "found")
    nothing = "error: found: no interrupted run to go on with; leave --resume out"
    assert run_cli(*command, "--resume").fault.startswith(nothing)
    assert run_cli(*command, "--resume", "auto").code == 0
    assert run_cli(*command, "--resume").fault == "error: found: this run is finished; name another --out"
    done = run_cli(*command, "--resume", "auto")
    assert (done.code, done.out) == (0, "found: this run is finished\n")
    assert len(detections_made) == 1
    needs = "error: --resume needs --out: the folder of the run to go on with"
    assert run_cli("detect", "a.png", "--resume").fault == needs


def test_a_run_in_an_empty_folder_goes_on(
    run_cli: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    run_cli: Any, picture: Any, monkeypatch: pytest.MonkeyPatch, inputs: list[str],
    options: list[str], words: str,
) -> None:  # fmt: skip
    picture("a.png")
    picture("b.png")
    threshold = ("--score-threshold", "0.5")
    killed(run_cli, monkeypatch, "detect", "a.png", "b.png", *threshold, "--out", "found")
    before = {**files("found.unfinished"), ".run.json": b""}
    fault = run_cli("detect", *inputs, *threshold, *options, "--out", "found", "--resume").fault
    assert f"holds a run with {words}; name another --out" in fault
    assert {**files("found.unfinished"), ".run.json": b""} == before


def test_two_processes_do_not_go_on_at_once(
    run_cli: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("detect", picture("a.png"), "--out", "found", "--resume", "auto")
    killed(run_cli, monkeypatch, *command)
    with new_run_folder(tmp_path / "found", "detect", {}, resume=True) as folder:
        assert "found.unfinished: another process is at work there" in run_cli(*command).fault
        assert (folder / "detections.jsonl").read_text().count("\n") == 1


@pytest.fixture
def two_parts(run_cli: Any, picture: Any, tmp_path: Path) -> Callable[..., Any]:
    """``two_parts(*options)`` makes ``part-1`` and, with the options, ``part-2``, and gives what ``merge`` says."""
    picture("a.png")
    picture("b.png")

    def make(*options: str, shard: str = "2/2", inputs: tuple[str, ...] = ("a.png", "b.png")) -> Any:
        assert run_cli("detect", "a.png", "b.png", "--shard", "1/2", "--out", "part-1").code == 0
        assert run_cli("detect", *inputs, *options, "--shard", shard, "--out", "part-2").code == 0
        return lambda *parts: run_cli("merge", *parts, "--out", "merged")

    return make


@pytest.mark.parametrize(
    ("options", "inputs", "words"),
    [
        (
            ("--score-threshold", "0.25"), ("a.png", "b.png"),
            "another config.postprocess.score_threshold (0.25, not 0.3)",
        ),
        (("--model", "other"), ("a.png", "b.png"), "another model"),
        ((), ("b.png", "a.png"), "another list of inputs"),
    ],
)  # fmt: skip
def test_shards_of_another_job_are_refused(
    two_parts: Any, tmp_path: Path, options: tuple[str, ...], inputs: tuple[str, ...], words: str
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.yaml").write_text("another")
    fault = two_parts(*options, inputs=inputs)("part-1", "part-2").fault
    assert fault == f"error: part-2: a shard with {words}; part-1 is of another job"


def test_the_same_model_may_lie_elsewhere(two_parts: Any, tmp_path: Path) -> None:
    from detector.model.config import BUNDLED_MODEL

    shutil.copytree(BUNDLED_MODEL, tmp_path / "copy")
    assert two_parts("--model", "copy")("part-1", "part-2").code == 0


def test_what_is_not_all_of_the_shards_is_refused(two_parts: Any, tmp_path: Path) -> None:
    merge = two_parts()
    assert merge("part-2").fault == "error: of 2 shards 1 is missing"
    cut(tmp_path / "part-2" / "detections.jsonl", -1)
    fault = "error: part-2/detections.jsonl: not whole; copy the shard again"
    assert merge("part-1", "part-2").fault == fault
    assert not (tmp_path / "merged").exists()


def test_what_exists_is_not_merged_over(two_parts: Any) -> None:
    merge = two_parts()
    assert merge("part-1", "part-2").code == 0
    before = files("merged")
    assert "already exists and is not empty" in merge("part-1", "part-2").fault
    assert files("merged") == before


@pytest.mark.parametrize("verb", ["detect", "propose"])
def test_a_disk_that_is_full_while_merging_is_one_line(
    run_cli: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    (photos / "c.png").unlink()
    options = ("--preset", "single", "--workers", 1) if verb == "propose" else ()
    assert run_cli(verb, photos, *options, "--shard", "1/1", "--out", "part").code == 0

    def full(source: str, target: str, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", source)

    monkeypatch.setattr("shutil.copyfile", full)
    fault = run_cli("merge", "part", "--out", "merged").fault
    assert fault.startswith("error: part/")
    assert "cannot be copied: [Errno 28] No space left on device" in fault
    assert not (tmp_path / "merged").exists()


# --- evaluate ----------


@pytest.fixture
def voc(picture: Any, tmp_path: Path) -> Path:
    """Five images, each with a tomato in its annotation; the third cannot be read."""
    for name in "abcde":
        picture(f"set/JPEGImages/{name}.png", right=BLUE if name < "d" else GREY)
    (tmp_path / "set" / "JPEGImages" / "c.png").write_bytes(b"no image")
    objects = [(label, (0, 0, 30, 40)) for label in ("tomato", "sky")]
    return write_voc(tmp_path / "set", (40, 60), dict.fromkeys("abcde", objects), {"val": "abcde"})


@pytest.mark.parametrize(("count", "more"), [(1, ()), (2, ("--unknown-classes", "skip")), (7, ()), (2, ("--first", 4))])
def test_merged_shards_of_evaluate_are_measured_as_one_run(
    run_cli: Any, in_parts: Any, voc: Path, count: int, more: tuple[Any, ...]
) -> None:
    command = ("evaluate", "--data", voc, *SKIP, "--bootstrap", 20, *more)
    whole = run_cli(*command, "--out", "whole")
    assert whole.code == 3, whole.err
    merged = in_parts(count, *command, "--resume", "auto")
    assert (merged.code, skipped(merged)) == (3, skipped(whole))
    skip = "--unknown-classes skip " if "skip" in more else ""
    told = f"detector evaluate --data {voc} --split val --metric voc07 {skip}--detections merged"
    assert told in merged.out + merged.err
    assert how_made("merged") == how_made("whole")
    assert files("merged") == {"detections.jsonl": Path("whole/detections.jsonl").read_bytes()}
    measure = ("evaluate", "--data", voc, "--bootstrap", 20, "--detections", "merged", "--out", "measured")
    assert run_cli(*measure).code == 0
    results = [to_plain(Evaluation.load(Path(out) / "evaluation.json").result) for out in ("measured", "whole")]
    assert results[0] == results[1]


def test_a_killed_shard_of_evaluate_goes_on(
    run_cli: Any, voc: Path, monkeypatch: pytest.MonkeyPatch, detections_made: list[int]
) -> None:
    command = ("evaluate", "--data", voc, *SKIP, "--shard", "1/1", "--out")
    assert run_cli(*command, "whole").out == "shard 1/1: 5 images; results in whole\n"
    killed(run_cli, monkeypatch, *command, "found")
    left = Path("found.unfinished/detections.jsonl")
    cut(left, line_end(left, 3) - 1)
    detections_made.clear()
    assert run_cli(*command, "found", "--resume").code == 3
    assert len(detections_made) == 2
    assert files("found") == files("whole")


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


PROPOSE = ("--preset", "single", "--workers", 1)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_merged_stores_are_what_one_process_writes(run_cli: Any, in_parts: Any, photos: Path, count: int) -> None:
    command = ("propose", photos, "nowhere.png", *PROPOSE, *SKIP)
    whole = run_cli(*command, "--out", "whole")
    assert (whole.code, len(skipped(whole))) == (3, 2)
    merged = in_parts(count, *command)
    assert (merged.code, skipped(merged)) == (whole.code, skipped(whole))
    assert files("merged") == files("whole")
    assert not list(Path("merged").rglob("config.yaml"))
    assert merged.out.split(" boxes each")[0].split(": 4 images, ")[1] in whole.out


def test_a_killed_shard_of_propose_goes_on(run_cli: Any, photos: Path) -> None:
    def shard(index: int, *more: str) -> Any:
        return run_cli("propose", photos, *PROPOSE, "--shard", f"{index}/2", "--out", f"part-{index}", *more)

    assert shard(1).code == 0
    assert shard(2).code == 1  # at the image that is none
    fault = run_cli("merge", "part-1", "part-2", "--out", "merged").fault
    assert fault == "error: part-2: shard 2/2 is not finished; give its command again"
    made = files("part-1")
    assert "2 images, 0 of them new" in shard(1).out
    assert files("part-1") == made
    assert shard(2, *SKIP).code == 3
    assert run_cli("merge", "part-1", "part-2", "--out", "merged").code == 3
    next(Path("part-1").rglob("*.proposals")).unlink()
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
    command = ("propose", photos, *PROPOSE, "--out", "part")
    assert run_cli(*command, "--shard", "1/2").code == 0
    assert run_cli(*command, *options).fault == f"error: {words}; name another --out"


def test_a_shard_needs_a_store_of_its_own(run_cli: Any, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.txt").write_text("mine")
    fault = run_cli("propose", photos, "--shard", "1/2", "--out", "store").fault
    assert "store: already exists and is not empty" in fault
    assert tree("store") == {"mine.txt"}
