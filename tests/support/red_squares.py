"""A small annotated data set that a small network can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image


def red_squares(root: Path, train: int = 12, val: int = 4) -> Path:
    """Make ``root`` a YOLO data set of red squares on grey noise, and return it."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(90, 160, (40, 48, 3), dtype=np.uint8)
            x, y, side = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(14, 24))
            image[y : y + side, x : x + side] = (220, 20, 20)
            Image.fromarray(image).save(root / split / "images" / f"{i}.png")
            place = (x + side / 2) / 48, (y + side / 2) / 40, side / 48, side / 40
            (root / split / "labels" / f"{i}.txt").write_text("0 " + " ".join(f"{v:.6f}" for v in place) + "\n")
    names = {"train": "train/images", "val": "val/images", "names": ["red"]}
    (root / "data.yaml").write_text(yaml.safe_dump(names))
    return root
