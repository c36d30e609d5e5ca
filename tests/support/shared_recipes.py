"""Photographs, folders of pictures and recipes so small that a training takes a second."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

NET = {"norm": "batch", "width": 0.1, "stem": "stride4"}
TRAINING: dict[str, Any] = {
    "net": NET,
    "crop": {"size": 32, "context_pad": 2},
    "schedule": {"rate": 0.1, "warmup": 0.1},
    "steps": 4,
    "batch_size": 16,
    "statistics_batches": 1,
}
SEARCH = {"selective_search": {"color_spaces": ["HSV"], "k": [50.0], "min_box_side": 8}, "search_side": None}
RECIPE: dict[str, Any] = {
    "training": {**TRAINING, "regions": "windows", "head_rate": 10.0, "sampling": {"foreground": 0.25}},
    "model": {"licence": "MIT", "proposals": SEARCH},
}
XML = """<annotation><filename>{name}.png</filename><size><width>64</width><height>56</height><depth>3</depth></size>
<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>
</annotation>"""


def draw(rng: np.random.Generator, label: int, place: tuple[int, int, int]) -> np.ndarray:
    x, y, side = place
    image = rng.integers(90, 160, (56, 64, 3), dtype=np.uint8)
    image[y : y + side, x : x + side] = (220, 20, 20) if label == 0 else (20, 20, 220)
    return image


def write_photographs(root: Path) -> Path:
    """A folder of photographs with a labelling tool's VOC XML beside each."""
    rng = np.random.default_rng(0)
    for i in range(8):
        place = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(24, 36))
        Image.fromarray(draw(rng, i % 2, place)).save(root / f"{i}.png")
        x, y, side = place
        fields = {"x1": x + 1, "y1": y + 1, "x2": x + side, "y2": y + side}
        (root / f"{i}.xml").write_text(XML.format(name=i, label=("red", "blue")[i % 2], **fields))
    return root


def write_parts(data: Path, root: Path) -> Path:
    """The same photographs as a VOC set of three parts."""
    for folder, ending in (("JPEGImages", "png"), ("Annotations", "xml")):
        (root / folder).mkdir()
        for path in data.glob(f"*.{ending}"):
            shutil.copy(path, root / folder)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, names in (("train", "0123"), ("val", "45"), ("test", "67")):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def write_class_folders(root: Path) -> Path:
    """Pictures in folders by class, in train and val."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("red", "blue")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draw(rng, label, (2, 2, 50))).save(root / split / name / f"{i}.png")
    return root


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "recipe-to-use.yaml"
    path.write_text(yaml.safe_dump({"train_split": "", "val_split": "", **content}))
    return path


def write_ensemble(folder: Path, members: list[dict[str, Any]]) -> Path:
    path = folder / "ensemble-to-use.yaml"
    base = {"train_split": "", "val_split": "", **RECIPE}
    path.write_text(yaml.safe_dump({"task": "ensemble", "base": base, "members": members}))
    return path
