"""The command line in this process, a detector whose answers are known, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless_browser import Page, find_browser
from numpy.typing import NDArray
from PIL import Image

from detector.cli import main
from detector.detection.ensemble import ImageView, RegionClassifier, RegionPredictions


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """The lines of standard error."""
        return self.err.splitlines()

    @property
    def fault(self) -> str:
        """The one line with which it failed."""
        assert (self.code, len(self.error_lines), self.err[:7]) == (1, 1, "error: "), self.err
        return self.error_lines[0]


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """``run_cli("detect", "a.jpg")`` in an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        return Done(0 if code is None else int(code), captured.out, captured.err)

    return run


class Halves:
    """Proposes the left and the right half of an image."""

    config = {"preset": "halves"}  # noqa: RUF012

    def propose(self, image: NDArray[np.uint8]) -> Any:
        """Two boxes, or one where the image is a pixel wide."""
        from proposals.types import Proposals, Source

        height, width = image.shape[:2]
        middle = width // 2
        boxes = np.array([[0, 0, middle, height], [middle, 0, width, height]], np.float32)[0 if middle else 1 :]
        ones = np.ones(len(boxes), np.float32)
        return Proposals(boxes, ones, np.full(len(boxes), Source.GIVEN, np.uint8), (height, width))


class ByColour(RegionClassifier):
    """Red regions are tomatoes, blue ones are sky, as sure as they are red or blue; all others are background."""

    num_classes = 2

    def predict(
        self,
        image: NDArray[np.uint8] | ImageView,
        boxes: NDArray[np.float32],
        *,
        mirror: bool = False,
        members: int | None = None,
    ) -> RegionPredictions:
        """``(N, 3)`` probabilities."""
        image = image.image if isinstance(image, ImageView) else image
        probs = np.zeros((len(boxes), 3), np.float32)
        for row, (x1, y1, x2, y2) in zip(probs, boxes.astype(int), strict=True):
            red, green, blue = image[y1:y2, x1:x2].reshape(-1, 3).mean(axis=0) / 255
            row[0], row[1] = max(0, red - max(green, blue)), max(0, blue - max(red, green))
            row[2] = 1 - row[:2].sum()
        return RegionPredictions(probs)


@dataclass
class FakeModel:
    """Stands in for ``detector.model.load.load_model`` and keeps what it was called with."""

    calls: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, path: Any = None, **settings: Any) -> Any:
        from detector.detection.pipeline import Detector
        from detector.detection.suppression import PostprocessConfig
        from detector.model.config import chosen_labels

        settings = {name: value for name, value in settings.items() if value is not None}
        self.calls.append((path, settings))
        thresholds = {name: settings[name] for name in PostprocessConfig.model_fields if name in settings}
        names, classes = ("tomato", "sky"), settings.get("classes")
        labels = None if classes is None else chosen_labels(classes, names, ("n1", "n2"))
        return Detector(Halves(), ByColour(), names, PostprocessConfig(**thresholds), labels=labels)


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """``load_model`` gives a detector of tomatoes and sky."""
    fake = FakeModel()
    monkeypatch.setattr("detector.model.load.load_model", fake)
    monkeypatch.setattr("detector.model.load.load_classifier", fake)  # its classifier and class_names are asked for
    return fake


RED, BLUE, GREY = (250, 10, 10), (20, 20, 220), (90, 90, 90)


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """``picture("a.png", left=RED)``: a file with one colour in its left half and another in its right."""

    def make(
        name: str,
        left: tuple[int, int, int] = RED,
        right: tuple[int, int, int] = GREY,
        size: tuple[int, int] = (40, 60),
    ) -> Path:
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[:, : size[1] // 2] = left
        pixels[:, size[1] // 2 :] = right
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return make


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of a fresh browser."""
    program = find_browser()
    assert program is not None, "without a browser these tests are deselected"
    with Page(program, tmp_path_factory.mktemp("profile")) as page:
        yield page
