"""Whatever was lost of the files of a killed run, it goes on from the last state that is whole in both."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.runs.journal import Journal, open_journal
from detector.runs.shards import JOURNAL_FILE, Job
from proposals.errors import UserError

RESULTS = "results.jsonl"
JOB = Job("detect", 4, "ab", {"seed": 0})
# Lines of each input, and its fault: an image, one that cannot be read, a video, a video with damaged frames, an image.
INPUTS = [
    (["a"], None),
    ([], "b: no image"),
    (["c/0", "c/1", "c/2"], None),
    (["d/0", "ä" * 40], "d: 1 frame"),
    (["e"], None),
]


def work(journal: Journal) -> list[str]:
    """What detection does with the inputs; the lines that had to be made."""
    made = []
    for lines, fault in INPUTS[journal.inputs :]:
        for line in lines[journal.frames :]:
            journal.add(line)
            made.append(line)
        journal.input_done(fault)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The results and the journal of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    with open_journal(folder, JOB, RESULTS) as journal:
        assert len(work(journal)) == 7
    return (folder / RESULTS).read_bytes(), (folder / JOURNAL_FILE).read_bytes()


@given(data=st.data())
def test_a_run_goes_on_from_any_loss(
    whole: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    results, lines = (content[: data.draw(st.integers(0, len(content)))] for content in whole)
    folder = tmp_path_factory.mktemp("cut")
    (folder / RESULTS).write_bytes(results)
    (folder / JOURNAL_FILE).write_bytes(lines)
    with open_journal(folder, JOB, RESULTS) as journal:
        kept = (folder / RESULTS).read_bytes()
        assert results.startswith(kept)
        made = work(journal)
        assert journal.faults == ["b: no image", "d: 1 frame"]
    assert (folder / RESULTS).read_bytes() == whole[0]
    assert (folder / JOURNAL_FILE).read_bytes() == whole[1]
    assert kept + "".join(f"{line}\n" for line in made).encode() == whole[0], "what is done is not done again"


def test_only_what_is_torn_is_made_again(whole: tuple[bytes, bytes], tmp_path: Path) -> None:
    results, lines = whole
    (tmp_path / RESULTS).write_bytes(results[:-1])
    (tmp_path / JOURNAL_FILE).write_bytes(lines)
    with open_journal(tmp_path, JOB, RESULTS) as journal:
        assert work(journal) == ["e"]


def test_a_whole_run_has_nothing_left_to_do(whole: tuple[bytes, bytes], tmp_path: Path) -> None:
    for name, content in zip((RESULTS, JOURNAL_FILE), whole, strict=True):
        (tmp_path / name).write_bytes(content)
    with open_journal(tmp_path, JOB, RESULTS) as journal:
        assert work(journal) == []


@pytest.mark.parametrize(
    "line", [b"[1]\n", b'{"inputs": 9}\n', b"null\n", b"\xff\n", b'{"inputs": "1"}\n', b"{" * 9 + b"\n"]
)
def test_a_line_that_is_none_ends_the_journal(whole: tuple[bytes, bytes], tmp_path: Path, line: bytes) -> None:
    results, lines = whole
    (tmp_path / RESULTS).write_bytes(results)
    rows = lines.splitlines(keepends=True)
    (tmp_path / JOURNAL_FILE).write_bytes(b"".join([*rows[:3], line, *rows[3:]]))
    with open_journal(tmp_path, JOB, RESULTS) as journal:
        assert (journal.inputs, journal.frames, journal.end) == (1, 0, 2)
        assert work(journal)[0] == "c/0"
    assert (tmp_path / RESULTS).read_bytes() == results


def test_another_job_is_refused_and_left_alone(whole: tuple[bytes, bytes], tmp_path: Path) -> None:
    for name, content in zip((RESULTS, JOURNAL_FILE), whole, strict=True):
        (tmp_path / name).write_bytes(content)
    with (
        pytest.raises(UserError, match=r"holds a run with another seed \(0, not 1\); name another --out"),
        open_journal(tmp_path, Job("detect", 4, "ab", {"seed": 1}), RESULTS),
    ):
        pass
    assert ((tmp_path / RESULTS).read_bytes(), (tmp_path / JOURNAL_FILE).read_bytes()) == whole
