"""``detector propose`` and ``detector evaluate-proposals`` from the command line's side."""

import csv
import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image
from skimage import data

from detector.commands.store_shards import begin_shard
from detector.runs.shards import Shard
from proposals.errors import UserError
from proposals.selective_search import SelectiveSearch
from proposals.store import ProposalStore, read_proposals

CAT = data.chelsea()[:120, 100:260]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(CAT).save(folder / "cat.png")
    Image.fromarray(np.ascontiguousarray(CAT[:, ::-1])).save(folder / "tac.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_propose_fills_the_store_and_goes_on_where_it_stopped(photos, tmp_path, capsys, workers):
    store = tmp_path / "store"
    assert run("propose", photos, "--out", store, "--workers", workers) == 0
    assert "2 images, 2 of them new" in capsys.readouterr().out
    search = SelectiveSearch("googlenet")
    stored = ProposalStore(store, search.settings()).load(CAT)
    np.testing.assert_array_equal(stored.boxes, search.propose(CAT).boxes)

    # As after a kill: one file is missing, one half-written one lies about, one is damaged.
    files = sorted(store.rglob("*.proposals"))
    assert len(files) == 2
    files[0].with_name(".x.unfinished").write_bytes(b"half")
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-3])
    assert run("propose", photos, "--out", store, "--workers", workers) == 0
    assert "2 images, 2 of them new" in capsys.readouterr().out
    assert run("propose", photos, "--out", store, "--workers", workers) == 0
    assert "2 images, 0 of them new" in capsys.readouterr().out


KILLED_WHILE_WRITING = """
import os, signal, sys
from detector.cli import main
flushed = 0
flush = os.fsync
def flush_or_die(handle):
    global flushed
    flushed += 1
    if flushed == 4:  # the settings and two pictures are stored, the third is written but not yet in its place
        os.kill(os.getpid(), signal.SIGKILL)
    flush(handle)
os.fsync = flush_or_die
main(sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_propose_goes_on_after_a_real_kill_in_the_middle_of_writing(photos, tmp_path, capsys):
    for i, picture in enumerate((CAT[::-1], CAT[::-1, ::-1])):
        Image.fromarray(np.ascontiguousarray(picture)).save(photos / f"more{i}.png")
    store = tmp_path / "store"
    words = ("propose", str(photos), "--out", str(store), "--workers", "1")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, *words]
    assert subprocess.run(command, capture_output=True, timeout=300, check=False).returncode == -signal.SIGKILL
    whole = sorted(store.rglob("*.proposals"))
    assert len(whole) == 2
    assert all(read_proposals(path) is not None for path in whole)
    assert len(list(store.rglob(".*.unfinished"))) == 1
    before = {path: path.stat().st_mtime_ns for path in whole}

    assert run("propose", photos, "--out", store, "--workers", 1) == 0
    assert "4 images, 2 of them new" in capsys.readouterr().out
    assert len(list(store.rglob("*.proposals"))) == 4
    assert {path: path.stat().st_mtime_ns for path in whole} == before


@pytest.mark.slow
def test_processes_that_meet_a_broken_picture_end_in_a_line(photos, tmp_path):
    (photos / "broken.jpg").write_text("no picture")
    command = [sys.executable, "-m", "detector", "propose", str(photos), "--out", str(tmp_path / "c"), "--workers", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    (line,) = ended.stderr.strip().splitlines()
    assert (ended.returncode, "broken.jpg" in line) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["--preset", "best"], 1, "best"), (["/no/such/place"], 1, "place"), (["--on-error", "cry"], 2, "cry")],
)
def test_propose_says_what_is_wrong(photos, tmp_path, capsys, arguments, code, words):
    assert run("propose", photos, "--out", tmp_path / "store", "--workers", 1, *arguments) == code
    error = capsys.readouterr().err
    assert words in error
    assert code == 2 or len(error.strip().splitlines()) == 1
    assert not (tmp_path / "store").exists()


@pytest.fixture
def coco(photos, tmp_path):
    images = [{"id": n, "file_name": f"{n}.png", "width": 160, "height": 120} for n in (1, 2)]
    boxes = [[0, 0, 160, 120], [30, 20, 70, 60], [1, 1, 4, 4]]
    objects = [
        {"id": i, "image_id": 1 + i // 2, "category_id": 1 + i % 2, "bbox": box, "iscrowd": int(i == 2)}
        for i, box in enumerate(boxes)
    ]
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    for picture, number in (("cat.png", 1), ("tac.png", 2)):
        (photos / picture).rename(root / "val2017" / f"{number}.png")
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "face"}]
    content = {"images": images, "annotations": objects, "categories": names}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


def test_evaluate_proposals_prints_the_table_and_draws_the_curve(coco, tmp_path, capsys):
    out = tmp_path / "out"
    store = tmp_path / "store"
    assert run("evaluate-proposals", "--data", coco, "--methods", "single,fast", "--store", store, "--out", out) == 0
    said = capsys.readouterr().out
    assert "2 annotated boxes that are neither ignored nor crowds, 2 classes, 2 images" in said
    with (out / "table.csv").open() as file:
        rows = {(row["method"], row["budget"]): row for row in csv.DictReader(file)}
    assert len(rows) == 10
    whole = rows["fast", "all"]
    assert float(whole["recall@0.5"]) >= 0.5  # the whole image is always proposed
    assert float(whole["boxes"]) > float(rows["fast", "100"]["boxes"]) == 100
    assert (out / "recall.png").stat().st_size > 5000
    assert len(list(store.rglob("*.proposals"))) == 4


def test_evaluate_proposals_counts_crowds_on_request(coco, tmp_path, capsys):
    arguments = ["--data", coco, "--methods", "single", "--include-ignored", "--out", tmp_path / "out"]
    assert run("evaluate-proposals", *arguments) == 0
    assert "3 all annotated boxes" in capsys.readouterr().out


def test_evaluate_proposals_refuses_an_unknown_method(coco, capsys):
    assert run("evaluate-proposals", "--data", coco, "--methods", "edge-boxes") == 1
    assert "edge-boxes" in capsys.readouterr().err


def test_a_shard_where_nothing_may_be_written_is_a_line(photos, tmp_path, capsys, monkeypatch):
    def refuse(path, *how, **options):  # root may write everywhere, so the refusal is played
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    store = tmp_path / "locked" / "store"
    assert run("propose", photos, "--preset", "single", "--workers", 1, "--shard", "1/2", "--out", store) == 1
    assert (
        capsys.readouterr().err
        == f"error: {store}: cannot write here: Permission denied; free space, or name another --out\n"
    )


def test_a_full_disk_leaves_a_shard_that_can_go_on(tmp_path, monkeypatch):
    store, shard = tmp_path / "store", Shard(1, 2)
    job = begin_shard(store, [], {"k": 100}, shard)

    def full(path, *content, **how):
        with path.open("wb"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        patch.setattr(Path, "write_text", full)
        with pytest.raises(UserError, match="store: cannot write here: No space left"):
            begin_shard(store, [], {"k": 100}, shard)
    assert begin_shard(store, [], {"k": 100}, shard) == job
