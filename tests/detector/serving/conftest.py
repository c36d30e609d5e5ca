"""The application on a detector of tomatoes and of a class with a hostile name, with two networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.detection.ensemble import ImageView, RegionClassifier, RegionPredictions
from detector.model.config import BUNDLED_MODEL, read_detector_config
from detector.nets.region_head import RegionOutput
from detector.serving.app import make_app

HOSTILE = "<img src=x onerror=alert(1)>"
CARD = f"# Card\n\n{HOSTILE} [link](javascript:alert(1)) ![image](/x.png)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


class TwoNetworks(RegionClassifier):
    """A classifier, and one that knows nothing but predicts an overlap."""

    num_members = 2

    def __init__(self, first: Any) -> None:
        self.first = first

    def predict(
        self,
        image: NDArray[np.uint8] | ImageView,
        boxes: NDArray[np.float32],
        *,
        mirror: bool = False,
        members: int | None = None,
    ) -> RegionPredictions:
        """As the first one."""
        found: RegionPredictions = self.first.predict(image, boxes)
        return found

    def predict_members(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> list[RegionOutput]:
        """Of each network."""
        unsure = RegionOutput(torch.full((len(boxes), 3), 1 / 3), None, torch.full((len(boxes),), 0.5))
        return [RegionOutput(torch.from_numpy(self.predict(image, boxes).probs)), unsure]


@pytest.fixture
def hostile_detector(fake_model: Any) -> Any:
    """Tomatoes are red; what is blue has a hostile name."""
    detector = fake_model(score_threshold=0.05)
    detector.classifier = TwoNetworks(detector.classifier)
    detector.class_names = ("tomato", HOSTILE)
    return detector


@pytest.fixture
def app(hostile_detector: Any, tmp_path: Path) -> Any:
    """The application, whose model has a hostile card."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    return make_app(hostile_detector, read_detector_config(BUNDLED_MODEL), folder)
