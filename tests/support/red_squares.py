"""A small annotated data set that a small network can learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

COLOURS = {"red": (220, 20, 20), "blue": (20, 20, 220)}


def red_squares(root: Path, train: int = 12, val: int = 4, classes: Sequence[str] = ("red",)) -> Path:
    """Make ``root`` a YOLO data set of red squares, or of ``classes`` in turn, on grey noise, and return it."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(90, 160, (40, 48, 3), dtype=np.uint8)
            x, y, side = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(14, 24))
            label = i % len(classes)
            image[y : y + side, x : x + side] = COLOURS[classes[label]]
            Image.fromarray(image).save(root / split / "images" / f"{i}.png")
            place = (x + side / 2) / 48, (y + side / 2) / 40, side / 48, side / 40
            (root / split / "labels" / f"{i}.txt").write_text(f"{label} " + " ".join(f"{v:.6f}" for v in place) + "\n")
    names = {"train": "train/images", "val": "val/images", "names": [*classes]}
    (root / "data.yaml").write_text(yaml.safe_dump(names))
    return root


def short_run(steps: int, **changes: Any) -> dict[str, Any]:
    """A recipe of a small network on shared maps that trains for a second."""
    return {
        "task": "shared",
        "init": "random",
        "training": {
            "net": {"num_outputs": 2, "norm": "batch", "width": 0.1, "stem": "stride4", "dropout": 0.0},
            "maps": {"image_side": 64, "levels": 2, "region_side": 32},
            "steps": steps,
            "batch_size": 32,
            "regions": 16,
            "statistics_batches": 1,
        },
        "model": {"proposals": {"search_side": None, "max_proposals": 40}},
        **changes,
    }
