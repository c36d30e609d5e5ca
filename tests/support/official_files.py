"""Detections written in the official formats, row by row, as files to read.

Numbers are written with as many digits as they have, so that reading the file back gives the same results. VOC and
ILSVRC boxes name the last pixel inside; see :func:`detector.evaluation.read_files.from_inclusive`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detector.evaluation.read_files import ILSVRC_FIRST_PIXEL, VOC_FIRST_PIXEL
from detector.evaluation.tables import DetectionTable


def write_coco_results(path: Path, table: DetectionTable, category_ids: Sequence[int]) -> None:
    """A COCO results file; image ids that are numbers are written as such. ``category_ids``: by label."""
    images = [int(name) if name.isdecimal() else name for name in table.image_ids]
    with path.open("w", encoding="utf-8") as file:
        for row in range(len(table)):
            entry = {
                "image_id": images[table.image[row]],
                "category_id": category_ids[table.labels[row]],
                "bbox": [*table.boxes[row, :2].tolist(), *table.sides[row].tolist()],
                "score": float(table.scores[row]),
            }
            file.write(f"{',' if row else '['}\n{json.dumps(entry)}")
        file.write("\n]\n" if len(table) else "[]\n")


def write_voc(folder: Path, table: DetectionTable, class_names: Sequence[str], start: str = "comp3_det_test") -> None:
    """The devkit's files, one per class (also without detections): ``<competition>_det_<set>_<class>.txt``."""
    folder.mkdir()
    for label, name in enumerate(class_names):
        with (folder / f"{start}_{name.replace(' ', '_')}.txt").open("w") as file:
            for row in np.flatnonzero(table.labels == label):
                box = _inclusive(table.boxes[row].tolist(), VOC_FIRST_PIXEL)
                file.write(f"{table.image_ids[table.image[row]]} {float(table.scores[row])!r} {box}\n")


def write_ilsvrc(path: Path, table: DetectionTable, image_numbers: Mapping[int, str]) -> None:
    """An ILSVRC submission: lines ``image class score xmin ymin xmax ymax``; images and classes count from 1."""
    number = {image_id: n for n, image_id in image_numbers.items()}
    with path.open("w") as file:
        for row in range(len(table)):
            box = _inclusive(table.boxes[row].tolist(), ILSVRC_FIRST_PIXEL)
            image, label = number[table.image_ids[table.image[row]]], table.labels[row] + 1
            file.write(f"{image} {label} {float(table.scores[row])!r} {box}\n")


def _inclusive(box: Sequence[float], first_pixel: int) -> str:
    """The inverse of :func:`detector.evaluation.read_files.from_inclusive`, in words."""
    x1, y1, x2, y2 = box
    corners = (x1 + first_pixel, y1 + first_pixel, x2 - (1 - first_pixel), y2 - (1 - first_pixel))
    return " ".join(str(int(value)) if value.is_integer() else repr(value) for value in corners)
