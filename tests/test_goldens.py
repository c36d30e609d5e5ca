"""Results that must not move by accident: proposals, merge, crops, and a short seeded run of each recipe.

Where the processor's rounding may differ, figures are compared to a tolerance that a changed method would exceed. A
change that moves one on purpose puts the new value here and says why in its commit.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import yaml
from command_line import run
from red_squares import red_squares

from detector.crop import CropConfig, crop_regions
from proposals.merge import MergeConfig, merge
from proposals.selective_search import selective_search
from proposals.types import Proposals, Source

SEARCH = {"single": (188, 183.39), "fast": (1464, 179.81), "googlenet": (492, 187.93)}
"""Of selective search on scikit-image's cat: the number of boxes, and the mean of their coordinates in order, each
weighted by 1 / its place."""


def weighted(boxes: Any) -> float:
    places = 1 / np.arange(1, len(boxes) + 1)
    return float((np.asarray(boxes, np.float64).mean(axis=1) * places).sum() / places.sum())


@pytest.mark.parametrize("preset", SEARCH)
def test_selective_search(preset: str) -> None:
    found = selective_search(skimage.data.chelsea(), preset)
    count, place = SEARCH[preset]
    assert len(found) == pytest.approx(count, rel=0.005)
    assert weighted(found.boxes) == pytest.approx(place, rel=0.005)


def boxes_of(seed: int, count: int, size: tuple[int, int] = (300, 400)) -> Any:
    corners = np.random.default_rng(seed).uniform(0, 1, (count, 2, 2)) * [size[1], size[0]]
    return (
        np.concatenate([corners.min(1), corners.max(1) + 2], axis=1).clip(0, [size[1], size[0]] * 2).astype(np.float32)
    )


def test_merge() -> None:
    search, learned = (
        Proposals(
            boxes_of(seed, 60), np.linspace(1, 0, 60, dtype=np.float32), np.full(60, source, np.uint8), (300, 400)
        )
        for seed, source in ((0, Source.SELECTIVE_SEARCH), (1, Source.MULTIBOX))
    )
    merged = merge(search, learned, MergeConfig(iou_threshold=0.6, lead=5, share=0.4))
    assert (len(merged), int(merged.source[:40].sum())) == (102, 60)
    assert weighted(merged.boxes) == pytest.approx(183.25248, abs=1e-3)


@pytest.mark.parametrize(("pad", "mean"), [(0, 54.82555), (4, 55.58200)])
def test_crops(pad: int, mean: float) -> None:
    image = skimage.data.chelsea()
    crops = crop_regions(image, boxes_of(2, 12, image.shape[:2]), CropConfig(size=48, context_pad=pad), (124, 116, 104))
    places = np.arange(crops.size).reshape(crops.shape) % 97
    assert float((crops * (places / 97)).mean()) == pytest.approx(mean, abs=0.01)


NET = {"num_outputs": 2, "norm": "batch", "width": 0.1, "stem": "stride4", "dropout": 0.0}
CROP = {"size": 32, "context_pad": 2}
RUN = {"steps": 4, "batch_size": 16, "statistics_batches": 1, "seed": 3, "schedule": {"kind": "cosine", "rate": 0.02}}
SEARCHED = {"proposals": {"search_side": None, "max_proposals": 40}}
MAPS = {"image_side": 64, "levels": 2, "region_side": 32}
RECIPES: dict[str, tuple[dict[str, Any], float]] = {
    "crops": ({"training": {**RUN, "net": NET, "crop": CROP}}, 0.67365),
    "windows": ({"training": {**RUN, "net": NET, "crop": CROP, "regions": "windows"}, "model": SEARCHED}, 0.67793),
    "crops with boxes": (
        {"training": {**RUN, "net": NET, "crop": CROP, "regions": "windows", "grid": 2}, "model": SEARCHED}, 1.26006
    ),
    "shared maps": (
        {"task": "shared", "init": "random", "model": SEARCHED,
         "training": {**RUN, "net": NET, "maps": MAPS, "regions": 8}},
        0.98103,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_the_last_loss_of_a_seeded_run(name: str, tmp_path: Path) -> None:
    recipe, expected = RECIPES[name]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = ("--out", tmp_path / "m", "--proposals", tmp_path / "store", "--device", "cpu")
    assert run("train", red_squares(tmp_path / "data"), "--config", tmp_path / "recipe.yaml", *words) == 0
    with (tmp_path / "m" / "log.csv").open() as file:
        *_, last = csv.DictReader(file)
    assert float(last["loss"]) == pytest.approx(expected, rel=2e-3)
