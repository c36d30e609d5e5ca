"""``detector report``: from a run folder to a page, and its faults in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_report import CLASS_NAMES, example_data_set, example_detections, example_proposals
from made_up_evaluation import made_up_evaluation

from detector.commands.report import report
from proposals.boxes import is_valid
from proposals.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "evaluate-1"
    folder.mkdir()
    made_up_evaluation(tmp_path / "pictures").save(folder)
    (folder / "config.yaml").write_text("metric: voc10\nseed: 7\n")
    return folder


def test_run_folder_gets_its_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(run)
    assert "seed: 7" in (run / "report.html").read_text(encoding="utf-8")
    assert str(run / "report.html") in capsys.readouterr().out


def test_evaluation_file_and_other_place_can_be_named(run: Path, tmp_path: Path) -> None:
    report(run / "evaluation.json", out=tmp_path / "there" / "my.html", pictures_in_folder=True)
    assert {p.name for p in (tmp_path / "there").iterdir()} == {"my.html", "my-pictures"}
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("content", [None, "", "{}", "[1, 2", '{"result": 3}'])
def test_fault_is_one_line_that_names_the_file(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(UserError, match=r"evaluation\.json") as fault:
        report(tmp_path)
    assert "\n" not in str(fault.value)


def test_page_that_cannot_be_written_is_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report(run, out=tmp_path / "file" / "report.html")


def test_example_is_the_same_each_time_and_holds_every_class(tmp_path: Path) -> None:
    first, again = (example_data_set(tmp_path / name, n_images=12) for name in ("a", "b"))
    assert [r.path.read_bytes() for r in first] == [r.path.read_bytes() for r in again]
    labels = {label for r in first for label in r.ground_truth.labels.tolist()}
    assert labels == set(range(len(CLASS_NAMES)))
    for record in first:
        found, given = example_detections(record), example_proposals(record)
        assert is_valid(found.boxes).all() or not len(found)
        assert len(given) == 200
        assert (found.boxes == example_detections(record).boxes).all()
