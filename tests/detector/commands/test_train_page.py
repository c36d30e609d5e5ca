"""What a training shows: its progress, the page of shared maps, the advice, the images that are held out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import run
from pydantic import BaseModel
from red_squares import red_squares, short_run

from detector.commands.train_jobs import held_out, show_progress
from detector.commands.train_run import HOLD_OUT, LEAST_TO_HOLD_OUT, TrainRequest, named_recipe
from detector.data import load_dataset
from detector.report.training_page import PAGE, HeldOut, advise
from detector.training.processes import ALONE
from detector.types import Detections


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return red_squares(tmp_path / "data")


def train(data: Path, folder: Path, **changes: Any) -> str:
    """The page of a short run."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(short_run(steps=3, **changes)))
    words = ("--out", folder / "model", "--proposals", folder / "store", "--device", "cpu")
    assert run("train", data, "--config", folder / "recipe.yaml", *words) == 0
    return (folder / "model" / PAGE).read_text(encoding="utf-8")


def test_a_page_with_what_was_measured(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = train(data, tmp_path)
    said = capsys.readouterr().err
    assert "on 4 images with 4 objects that it was not trained on" in page
    assert page.count("<figure>") == 4
    assert page.count("data:image/") == 2 + 2 * 4  # curves and regions; labelled and found
    assert "://" not in page
    assert "% of the objects at IoU 0.5" in said
    assert f"{PAGE} shows the course" in said


def test_without_images_held_out_it_says_so(data: Path, tmp_path: Path) -> None:
    page = train(data, tmp_path, val_split="")
    assert "no image with objects was held out" in page
    assert "Nothing was measured" in page


def test_images_are_held_out_once_and_for_all(data: Path, tmp_path: Path) -> None:
    page = train(data, tmp_path, val_split="", hold_out=0.25)
    assert "9 images, 9 objects" in page
    assert "on 3 images with 3 objects that it was not trained on" in page
    dataset = load_dataset(data, split="train")
    for seed in (0, 1):
        train_part, val_part = held_out(dataset, 0.25, seed)
        assert val_part is not None
        assert {*train_part.image_ids, *val_part.image_ids} == set(dataset.image_ids)
        assert len(train_part) + len(val_part) == len(dataset)
        assert list(held_out(dataset, 0.25, seed)[0].image_ids) == list(train_part.image_ids)
    assert held_out(dataset, 0.01, 0) == (dataset, None)


@pytest.mark.slow
def test_a_run_by_name_holds_out_where_there_are_enough_images(data: Path, tmp_path: Path) -> None:
    few = load_dataset(data, split="train")
    many = few.subset(np.arange(LEAST_TO_HOLD_OUT) % len(few))
    proposals = named_recipe(TrainRequest(data), few, ALONE).model.proposals

    def share(images: Any, val: Any = None, **given: Any) -> float:
        return named_recipe(TrainRequest(data, **given), images, ALONE, proposals, val).hold_out

    assert share(many) == HOLD_OUT
    assert share(few) == 0
    assert share(many, few) == 0
    assert share(many, split="train") == 0


def detections(boxes: list[list[float]], labels: list[int]) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int64), (40, 48))


def test_advice_names_what_hurts(data: Path) -> None:
    val = load_dataset(data, split="val")
    truth = {name: val.ground_truth(i).boxes for i, name in enumerate(val.image_ids)}
    half = {name: detections(boxes.tolist() * (i % 2), [0] * (i % 2)) for i, (name, boxes) in enumerate(truth.items())}
    uncovered = {name: np.zeros((0, 4), np.float32) for name in val.image_ids}
    lines = advise(val, 0.5, HeldOut(val, half, uncovered, 0.5).evaluate())
    assert any(line.startswith("Selective search covers 50.0 %") for line in lines)
    assert any(line.startswith("Label more of red (4)") for line in lines)
    assert any("points are lost on objects that no proposal covers" in line for line in lines)
    perfect = {name: detections(boxes.tolist(), [0] * len(boxes)) for name, boxes in truth.items()}
    many = val.subset(np.arange(24) % len(val))
    assert advise(many, 1.0, HeldOut(val, perfect, truth, 0.5).evaluate()) == [
        "Train longer (--minutes), or label more images: no kind of error stands out."
    ]
    assert "Nothing was measured" in advise(many, 1.0, None)[-1]


class Entry(BaseModel):
    """Of a training log."""

    step: int = 3
    steps: int = 10
    epoch: float = 0.5


@pytest.mark.parametrize("terminal", [False, True])
def test_the_progress_of_training_is_shown_and_not_obeyed(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with show_progress(10, lambda entry: ("class [/bold] :smile: \x1b]0;x\x07", True)) as report:
        report(Entry())
        report(Entry(step=6, steps=12))
    said = capsys.readouterr().err
    assert "class [/bold] :smile: \\x1b]0;x\\x07" in said
    assert "\x1b]0;" not in said
    assert re.search(r", ends \d\d:\d\d", said), "at the rate between the two"
    assert "step 6/12" in said, "what was planned has changed"
