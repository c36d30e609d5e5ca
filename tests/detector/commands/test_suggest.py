"""``detector suggest``: the images that teach most first, ready for a labelling tool."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.commands.suggest import LEAST_DOUBTED, uncertainty
from detector.data import load_dataset
from detector.data.finder import is_labelled
from detector.types import Detections

pytestmark = pytest.mark.usefixtures("fake_model")

# The fake model is as sure of a tomato as red exceeds the other colours.
SURE, UNSURE, NOTHING = (250, 0, 0), (180, 60, 60), (90, 90, 90)


def found(*scores: float) -> Detections:
    n = len(scores)
    return Detections.sorted(np.zeros((n, 4), np.float32), np.array(scores, np.float32), np.zeros(n, np.int64), (5, 5))


def test_uncertainty_is_a_sum_of_entropies() -> None:
    assert uncertainty(found()) == 0
    assert uncertainty(found(0.5)) == pytest.approx(1)
    assert uncertainty(found(0.5, 0.5)) == pytest.approx(2)
    assert uncertainty(found(0.25)) == pytest.approx(2 - 0.75 * np.log2(3), abs=1e-6)
    assert uncertainty(found(1.0)) == pytest.approx(0, abs=1e-6)
    assert uncertainty(found(0.25, LEAST_DOUBTED / 2)) == uncertainty(found(0.25))


@pytest.fixture
def photos(picture: Any, tmp_path: Path) -> Path:
    for name, colour in (("sure", SURE), ("deep/unsure", UNSURE), ("nothing", NOTHING), ("labelled", UNSURE)):
        picture(f"photos/{name}.png", left=colour)
    (tmp_path / "photos" / "labelled.xml").touch()
    (tmp_path / "photos" / "clip.mp4").write_text("videos are left out")
    model = tmp_path / "my-model"
    model.mkdir()
    bundled = Path(__file__).resolve().parents[3] / "detector" / "models" / "default" / "model.yaml"
    (model / "model.yaml").write_bytes(bundled.read_bytes())
    return tmp_path / "photos"


def ranking(folder: Path) -> list[tuple[str, float]]:
    with (folder / "suggestions.csv").open(newline="", encoding="utf-8") as file:
        return [(Path(row["path"]).stem, float(row["uncertainty"])) for row in csv.DictReader(file)]


def test_the_unsure_come_first(run_cli: Any, fake_model: Any, photos: Path, tmp_path: Path) -> None:
    done = run_cli("suggest", photos, "--model", "my-model", "--count", 1, "--out", "next")
    assert (done.code, done.err) == (0, "")
    assert [name for name, _ in ranking(tmp_path / "next")] == ["unsure", "sure", "nothing"]
    assert ranking(tmp_path / "next")[2][1] == 0
    assert "3 images without labels ranked" in done.out
    assert "1 have some" in done.out
    assert fake_model.calls[0][1]["score_threshold"] == LEAST_DOUBTED
    assert fake_model.calls[0][1]["threads"] == 1  # several images side by side
    (image,) = (tmp_path / "next" / "images").glob("*.png")
    assert image.read_bytes() == (photos / "deep" / "unsure.png").read_bytes()


@pytest.mark.parametrize("pre_labels", ["voc", "yolo"])
def test_the_images_are_a_data_set(run_cli: Any, photos: Path, tmp_path: Path, pre_labels: str) -> None:
    options = ("--format", pre_labels, "--score-threshold", 0.6)
    assert run_cli("suggest", photos, "--model", "my-model", "--out", "next", *options).code == 0
    dataset = load_dataset(tmp_path / "next" / "images")
    assert (dataset.format, dataset.faults) == (pre_labels, ())
    assert dataset.class_names == ("tomato", "sky")
    boxes = {record.path.stem.split("-")[0]: record.ground_truth.boxes.tolist() for record in dataset}
    assert boxes == {"sure": [[0, 0, 30, 40]], "nothing": [], "deep_unsure": []}, "unsure is below the threshold"


def test_an_image_that_cannot_be_read_is_skipped(run_cli: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_text("no image")
    done = run_cli("suggest", photos, "--model", "my-model", "--out", "next")
    assert done.code == 3
    assert len(ranking(tmp_path / "next")) == 3
    assert done.err.startswith("skipped: ")


def test_nothing_without_labels(run_cli: Any, photos: Path) -> None:
    done = run_cli("suggest", photos / "labelled.png", "--model", "my-model")
    assert done.error_lines == ["error: nothing to suggest: none of 1 images is without labels"]
    assert done.code == 1


def test_an_interrupted_run_goes_on(
    run_cli: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detector.detection.pipeline import Detector

    line = ("suggest", photos, "--model", "my-model", "--out", "next")
    detect, seen = Detector.detect, []

    def stopped(self: Detector, image: Any) -> Any:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(image)
        return detect(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(Detector, "detect", stopped)
        assert run_cli(*line).code == 130
    assert run_cli(*line, "--resume").code == 0
    assert len(ranking(tmp_path / "next")) == 3


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("a.jpg", "a.xml"),
        ("a.jpg", "a.jpg.txt"),
        ("a.jpg", "Annotations/a.xml"),
        ("JPEGImages/a.jpg", "Annotations/a.xml"),
        ("images/a.jpg", "labels/a.txt"),
        ("images/train/a.jpg", "labels/train/a.txt"),
    ],
)
def test_where_labels_are(tmp_path: Path, image: str, label: str) -> None:
    for name in (image, label):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    assert not is_labelled(tmp_path / image)
    (tmp_path / label).touch()
    assert is_labelled(tmp_path / image)
    assert not is_labelled((tmp_path / image).with_name("b.jpg"))
