"""Which inputs a shard has, and how the record of one is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.runs.shards import SHARD_FILE, Job, Part, Shard, read_parts
from proposals.errors import UserError


@given(st.lists(st.integers(), max_size=60), st.integers(1, 70))
def test_shards_are_a_list_cut_into_blocks(items: list[int], count: int) -> None:
    blocks = [[items[i] for i in Shard(index, count).block(len(items))] for index in range(1, count + 1)]
    assert [item for block in blocks for item in block] == items
    sizes = {len(block) for block in blocks}
    assert max(sizes) - min(sizes) <= 1


NO_SHARDS = ("0/4", "5/4", "1/0", "4", "a/b", "1/2/3", "-1/4", "1 /4", "1/4\n", "", "1/9999999999")


@pytest.mark.parametrize("text", NO_SHARDS)
def test_what_is_no_shard(text: str) -> None:
    assert [Shard.parse(good) for good in ("1/1", "3/7", "03/07")] == [Shard(1, 1), Shard(3, 7), Shard(3, 7)]
    with pytest.raises(UserError, match="write i/N"):
        Shard.parse(text)


def part(folder: Path, index: int = 1, count: int = 1) -> Path:
    folder.mkdir()
    settings = {"seed": 1, "config": {"members": None, "postprocess": {"score_threshold": 0.5}}}
    Part(folder, Job("detect", 9, "ab", settings, shard=Shard(index, count)), ["x\udce9"], 7, {"images": 2}).write()
    return folder


def test_a_record_comes_back(tmp_path: Path) -> None:
    found = Part.read(part(tmp_path / "a", 2, 3))
    assert (str(found.shard), found.faults, found.size, found.counts) == ("2/3", ["x\udce9"], 7, {"images": 2})
    assert list(found.job.positions) == [3, 4, 5]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["verb"], "propose", "another command (detector propose, not detector detect)"),
        (["shard", "count"], 4, "another number of shards (4, not 3)"),
        (["settings", "seed"], 2, "another seed (2, not 1)"),
        (["settings", "config", "postprocess", "score_threshold"], 0.1, "score_threshold (0.1, not 0.5)"),
        (["settings", "model digest"], "cd", "another model"),
        (["digest"], "cd", "another list of inputs"),
        (["inputs"], 8, "another list of inputs"),
    ],
)
def test_shards_of_another_job_are_refused(tmp_path: Path, path: list[str], value: object, words: str) -> None:
    folders = [part(tmp_path / str(index), index, 3) for index in (1, 2, 3)]
    assert [str(found.shard) for found in read_parts(folders[::-1])] == ["1/3", "2/3", "3/3"]
    record = json.loads((folders[1] / SHARD_FILE).read_text())
    place = record["job"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folders[1] / SHARD_FILE).write_text(json.dumps(record))
    with pytest.raises(UserError) as caught:
        read_parts(folders)
    assert str(caught.value).startswith(f"{folders[1]}: a shard with ")
    assert words in str(caught.value)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^of 3 shards 2 is missing$"):
        read_parts([part(tmp_path / "a", 1, 3), part(tmp_path / "b", 3, 3)])
    with pytest.raises(UserError, match=r"^of 9 shards 1, 2, 3, 4, 6 and 3 more are missing$"):
        read_parts([part(tmp_path / "c", 5, 9)])


def test_a_shard_may_come_once(tmp_path: Path) -> None:
    a, b = part(tmp_path / "a", 1, 2), part(tmp_path / "b", 1, 2)
    with pytest.raises(UserError, match=r"b: shard 1/2, which .*a is, too"):
        read_parts([a, b])


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda text, cut=cut: text[:cut] for cut in (0, 1, 50, -2)),
        *(lambda text, other=other: other for other in ("[]", "{}", '"x"', "[" * 100_000, "1" * 5000)),
        *(
            lambda text, changed=changed: json.dumps({**json.loads(text), **changed})
            for changed in (
                *({"job": 5}, {"faults": 5}, {"faults": [5]}, {"size": "7"}, {"counts": []}),
                *({"counts": {"images": None}}, {"job": {}}, {"folder": "x"}),
            )
        ),
        lambda text: text.replace('"index": 1', '"index": 2'),
        lambda text: text.replace('{"index": 1, "count": 1}', "null"),
    ],
)
def test_a_record_that_is_none_is_told(tmp_path: Path, damage: Callable[[str], str]) -> None:
    path = part(tmp_path / "a") / SHARD_FILE
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"shard.json: (damaged, or )?not the record of a shard"):
        Part.read(tmp_path / "a")


def test_what_is_no_shard_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Part.read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"not a shard: it has no shard\.json"):
        Part.read(tmp_path)
