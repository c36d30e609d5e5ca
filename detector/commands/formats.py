"""Detections in the formats of other tools, from ``detections.jsonl``.

VOC XML, YOLO text and the tasks of Label Studio are pre-labels, which people correct in a labelling tool. In XML and
text, boxes lie on whole pixels: such tools round them without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml
from numpy.typing import NDArray

from detector.commands.detection_files import (
    CSV_FILE,
    JSONL_FILE,
    PARQUET_FILE,
    SavedDetections,
    read_detections,
    write_coco,
    write_csv,
    write_list,
    write_parquet,
)
from detector.data.voc_xml import voc_xml
from detector.shown import json_text, path_parts
from detector.types import Detections, GroundTruth, ImageRecord

VOC_FOLDER, YOLO_FOLDER, LABEL_STUDIO_FILE = "voc", "yolo", "labelstudio.json"


def write_formats(
    folder: Path, formats: Sequence[str], class_names: Sequence[str], class_keys: Sequence[str], faults: Sequence[str]
) -> None:
    """The files of ``formats`` from the folder's ``detections.jsonl``, which is read line by line.

    ``faults``: of the inputs that were skipped.
    """
    lines = folder / JSONL_FILE
    if "coco" in formats:
        write_coco(folder, class_names, class_keys)
    if "csv" in formats:
        write_csv(folder / CSV_FILE, read_detections(lines))
    if "parquet" in formats:
        write_parquet(folder / PARQUET_FILE, read_detections(lines), faults)
    if "voc" in formats:
        write_voc(folder, read_detections(lines), class_names)
    if "yolo" in formats:
        write_yolo(folder, read_detections(lines), class_names)
    if "labelstudio" in formats:
        write_label_studio(folder, read_detections(lines))


def whole_pixels(found: Detections) -> NDArray[np.float32]:
    """The boxes ``(N, 4)`` on whole pixels, within the image, of at least one pixel."""
    limits = np.array(found.image_size[::-1])
    first = np.rint(found.boxes[:, :2]).clip(0, limits - 1)
    last = np.rint(found.boxes[:, 2:]).clip(first + 1, limits)
    return np.hstack([first, last]).astype(np.float32)


def voc_text(found: Detections, class_names: Sequence[str], picture: str) -> bytes:
    """The XML file of one image, whose file is called ``picture``; coordinates are 1-based and inclusive."""
    truth = GroundTruth.of(whole_pixels(found), found.labels)
    return voc_xml(ImageRecord("", Path(picture), found.image_size, truth), class_names)


def yolo_text(found: Detections, *, confidence: bool) -> str:
    """A line ``class x y width height`` for each detection, its score behind it where ``confidence``."""
    lines = []
    boxes = whole_pixels(found) / np.tile(found.image_size[::-1], 2)
    for (x1, y1, x2, y2), score, label in zip(boxes.tolist(), found.scores, found.labels, strict=True):
        row = f"{label} {(x1 + x2) / 2:.8f} {(y1 + y2) / 2:.8f} {x2 - x1:.8f} {y2 - y1:.8f}"
        lines.append(f"{row} {score:.4f}\n" if confidence else f"{row}\n")
    return "".join(lines)


def label_studio_task(saved: SavedDetections) -> dict[str, Any]:
    """A task of Label Studio with a prediction; its image is a local file below Label Studio's document root."""
    found = saved.detections
    height, width = found.image_size
    shares = found.boxes.astype(np.float64) * 100 / np.tile([width, height], 2)
    result = [
        {
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0, "rectanglelabels": [name],
            },
            "score": score,
        }
        for (x1, y1, x2, y2), score, name in zip(
            shares.tolist(), found.scores.tolist(), saved.class_names, strict=True
        )
    ]  # fmt: skip
    address = "/data/local-files/?d=" + quote(saved.path.lstrip("/"), errors="surrogateescape")
    return {"data": {"image": address}, "predictions": [{"result": result}]}


def write_voc(folder: Path, images: Iterable[SavedDetections], class_names: Sequence[str]) -> None:
    """``voc/<image_id>.xml`` for each image."""
    for saved in images:
        data = voc_text(saved.detections, class_names, Path(saved.path).name)
        _new(folder / VOC_FOLDER, saved, ".xml").write_bytes(data)


def write_yolo(folder: Path, images: Iterable[SavedDetections], class_names: Sequence[str]) -> None:
    """``yolo/labels/<image_id>.txt`` with confidences, and a ``data.yaml`` for images that are put into ``images``."""
    for saved in images:
        text = yolo_text(saved.detections, confidence=True)
        _new(folder / YOLO_FOLDER / "labels", saved, ".txt").write_text(text, encoding="utf-8")
    described = {"train": "images", "val": "images", "task": "detect", "names": list(class_names)}
    text = yaml.safe_dump(described, allow_unicode=True, sort_keys=False)
    (folder / YOLO_FOLDER / "data.yaml").write_text(text, encoding="utf-8")


def write_label_studio(folder: Path, images: Iterable[SavedDetections]) -> None:
    """``labelstudio.json``, a list with a task for each image."""
    tasks = (json_text(label_studio_task(saved)) for saved in images)
    write_list(folder / LABEL_STUDIO_FILE, tasks, between=",\n", end="]\n")


def _new(folder: Path, saved: SavedDetections, suffix: str) -> Path:
    stem = folder / path_parts(saved.image_id)
    stem.parent.mkdir(parents=True, exist_ok=True)
    return stem.with_name(stem.name + suffix)
