"""Plots are files that show what they were given; the same input gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.report.palette import BLUE, SKY, VERMILLION, Colour
from detector.report.plots import plot_effects, plot_recall, plot_training, read_log


def pixels_near(path: Path, colour: Colour) -> int:
    with Image.open(path) as picture:
        return int((np.abs(np.array(picture.convert("RGB")).astype(int) - colour).max(axis=-1) < 12).sum())


def test_recall_draws_one_line_per_name(tmp_path: Path) -> None:
    curves = {"selective search": ([10, 100, 1000], [0.3, 0.6, 0.9]), "_private $x": ([10, 100], [0.2, 0.5])}
    plot_recall(curves, tmp_path / "recall.png", x_label="Proposals per picture", title="On $\\frac{$ data")
    assert pixels_near(tmp_path / "recall.png", BLUE) > 100
    assert pixels_near(tmp_path / "recall.png", VERMILLION) > 50
    plot_recall({}, tmp_path / "empty.png", x_label="Proposals")
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_training_shows_each_family_and_survives_gaps(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "step,steps,loss,top1_train,top1_val,val_loss,seconds\n0,2,2.0,0.1,,,5\n1,2,nan,0.2,0.15,,9\n2,2,1.0,,,1.2,\n"
    )
    plot_training(log, tmp_path / "deep" / "curves.svg")
    source = (tmp_path / "deep" / "curves.svg").read_text()
    for name in ("loss", "val_loss", "top1_train", "top1_val"):
        assert f"<!-- {name} -->" in source
    assert not any(f"<!-- {name} -->" in source for name in ("steps", "seconds"))
    log.write_text("step\n")
    plot_training(log, tmp_path / "nothing.png")
    assert (tmp_path / "nothing.png").stat().st_size > 0


def test_effects_that_are_beyond_chance_stand_out(tmp_path: Path) -> None:
    plot_effects([("more of $x", 2.0, (1.0, 3.0)), ("less", -2.0, (-3.0, -1.0))], tmp_path / "both.png", x_label="mAP")
    assert pixels_near(tmp_path / "both.png", BLUE) > 100
    assert pixels_near(tmp_path / "both.png", SKY) == 0
    plot_effects([("nothing", 0.1, (-1.0, 1.2)), ("unknown", 0.5, None)], tmp_path / "none.png", x_label="mAP")
    assert pixels_near(tmp_path / "none.png", BLUE) == 0
    assert pixels_near(tmp_path / "none.png", SKY) > 100


def test_training_log_is_read_from_its_file(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("step,loss,note,top1_val\n0,2.5,begun,\n1,1.5,,0.25\n2,nan,odd\n")
    assert read_log(log)[:2] == [{"step": 0, "loss": 2.5}, {"step": 1, "loss": 1.5, "top1_val": 0.25}]
    plot_training(log, tmp_path / "a.png")
    plot_training(log, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_same_curves_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        plot_recall({"x": ([1, 10], [0, 1])}, tmp_path / f"{name}.{suffix}", x_label="Proposals")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
