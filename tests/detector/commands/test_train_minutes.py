"""A budget of minutes: the run is planned once, recorded, and resumed as it was planned."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import run
from red_squares import red_squares, short_run
from two_processes import run_two

from detector.commands.train_run import begin_folder
from detector.model.config import read_model_config
from detector.recipes.build import with_classes
from detector.recipes.region import read_recipe
from detector.runs.leftovers import MARK, marked
from detector.training.region_trainer import RegionTrainer

SHARED = short_run(steps=7, val_images=2)
CROPS: dict[str, Any] = {
    "training": {
        "net": SHARED["training"]["net"],
        "crop": {"size": 32, "context_pad": 2},
        "steps": 7,
        "batch_size": 8,
        "statistics_batches": 1,
    },
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return red_squares(tmp_path / "data")


@pytest.fixture(autouse=True)
def _a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes 1,000 seconds, so that the few that this test itself takes do not matter."""
    monkeypatch.setattr(RegionTrainer, "step_seconds", lambda self: 1000.0)


def planned(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe of a run, and its training."""
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    return recipe, recipe["training"]


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        pytest.param(SHARED, 6, id="shared: 10,440 s without 2,000 for statistics and ranges, and for the validation"),
        pytest.param(CROPS, 10, id="crops: 10,440 s without 400 for statistics"),
    ],
)
def test_minutes_become_steps(recipe: dict[str, Any], steps: int, data: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "recipe.yaml", tmp_path / "model"
    file.write_text(yaml.safe_dump(recipe))
    words = ("train", data, "--config", file, "--proposals", tmp_path / "store", "--out")
    assert run(*words, out, "--minutes", 174) == 0
    recorded, training = planned(out)
    assert (recorded["minutes"], recorded["images"]) == (174, None)
    assert (training["steps"], training["planned_seconds"]) == (steps, 1000 * steps)
    file.write_text((out / "recipe.yaml").read_text())
    assert run(*words, tmp_path / "two", "--steps", 2) == 0
    again, training = planned(tmp_path / "two")
    assert (again["minutes"], training["steps"], training["planned_seconds"]) == (None, 2, None)
    assert read_model_config(out).class_names
    assert run(*words, out, "--minutes", 174, "--resume", "auto") == 0  # finished already


def test_images_that_would_never_be_shown_are_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "recipe.yaml", tmp_path / "model"
    file.write_text(yaml.safe_dump({**SHARED, "val_split": ""}))
    more = ("--out", out, "--proposals", tmp_path / "store", "--minutes", 61)  # 3,660 s: 2,000 at the end, a step of 2
    assert run("train", data, "--config", file, *more) == 0
    assert planned(out)[0]["images"] == 3
    said = capsys.readouterr().err
    assert "61 minutes: 1 steps of 1000.00 s on " in said
    assert said.count("selective search covers ") == 1  # of these images, not of those that the speed is measured on


def test_a_planned_run_goes_on_as_it_was_planned(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "recipe.yaml", tmp_path / "model"
    file.write_text(yaml.safe_dump(SHARED))
    words = ("train", data, "--config", file, "--out", out, "--proposals", tmp_path / "store", "--minutes", 150)
    with monkeypatch.context() as patch:
        patch.setattr(RegionTrainer, "adjust_gradients", lambda self: signal.raise_signal(signal.SIGTERM))
        assert run(*words) == 130
    planned = (out / "recipe.yaml").read_text()
    monkeypatch.setattr(RegionTrainer, "step_seconds", lambda self: 1.0)  # the machine is faster now
    capsys.readouterr()
    assert run(*words, "--resume", "auto") == 0
    assert "going on from step 1 of " in capsys.readouterr().err
    assert (out / "recipe.yaml").read_text() == planned
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**SHARED, "val_images": 1}))
    (out / "model.yaml").unlink()
    assert run("train", data, "--config", other, *words[4:], "--resume", "auto") == 1
    assert "has a run of another recipe (val_images differs)" in capsys.readouterr().err


def test_two_runs_in_one_folder(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "recipe.yaml", tmp_path / "model"
    file.write_text(yaml.safe_dump(CROPS))
    words = ("train", data, "--out", out, "--resume")
    begin_folder(out, with_classes(read_recipe(file), 1), 0)
    with marked(out, "train"):
        assert run(*words) == 1
    assert f"{out}: another process is at work there" in capsys.readouterr().err
    assert run(*words) == 0
    assert not (out / MARK).exists()


@pytest.mark.slow
def test_two_processes_plan_together(data: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "recipe.yaml", tmp_path / "model"
    file.write_text(yaml.safe_dump({**SHARED, "val_split": "", "minutes": 0.02}))
    words = ("--config", file, "--out", out, "--proposals", tmp_path / "store", "--device", "cpu")
    said = run_two("-m", "detector", "train", data, *words)
    assert "0.02 minutes: " in said[0], said
    assert read_model_config(out).class_names
