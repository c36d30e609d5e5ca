"""Truth for the protocols: a data set's flat arrays, or a COCO annotation file with every digit kept.

``detector.data`` reads annotations for training: it mends boxes and leaves out what has no picture. COCO's official
numbers are those of the file as it stands, so for them it is read here, as the reference reads it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.data import Dataset
from detector.data.classes import Classes
from detector.data.coco_content import load_content, size_of
from detector.evaluation.class_index import id_key, id_text
from detector.evaluation.columns import is_number
from detector.evaluation.tables import TruthTable
from detector.shown import brief
from proposals.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class CocoTruth:
    """A COCO annotation file.

    Attributes:
        table: its objects; image ids as text. class_names, class_keys: by label, in the order of category ids.
        files: file name of each image, by image id.
    """

    table: TruthTable
    class_names: tuple[str, ...]
    class_keys: tuple[int | str, ...]
    files: dict[str, str]


def truth_of_dataset(dataset: Dataset) -> TruthTable:
    """The objects of ``dataset`` as a table."""
    boxes = dataset.boxes.astype(np.float64)
    return TruthTable(
        image_ids=tuple(dataset.image_ids),
        image_sizes=dataset.sizes.astype(np.int64),
        image=dataset.image_of_box().astype(np.int64),
        labels=dataset.labels,
        boxes=boxes,
        sides=boxes[:, 2:] - boxes[:, :2],
        ignore=dataset.ignore,
        crowd=dataset.crowd,
        area=dataset.area,
    )


def read_coco_truth(path: Path | str) -> CocoTruth:
    """Read a COCO annotation file as pycocotools does: boxes, areas and crowds as they are, no picture needed.

    Annotations of images that the file does not list are left out and counted, as the reference leaves them out. An
    area that is absent or null is the box's.

    Raises:
        UserError: not such a file; an image or category without an id, or with one that occurs twice; an annotation
            without a box of four numbers or a listed category, or with an area or crowd mark that is no number.
    """
    path = Path(path)
    content = load_content(path)
    images = {key: i for i, key in enumerate(_ids(content["images"], "image", path))}
    category_ids = _ids(content["categories"], "category", path)
    categories = sorted(
        zip(category_ids.values(), content["categories"], strict=True), key=lambda pair: _order(pair[0])
    )
    keys = tuple(key for key, _ in categories)
    label = {str(key): i for i, key in enumerate(keys)}
    rows: list[tuple[int, int, list[float], float, bool]] = []
    rejected: Counter[str] = Counter()
    for number, entry in enumerate(content["annotations"], 1):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: annotation {number} is {brief(entry)}, no annotation")
        owner, category = id_text(entry.get("image_id")), id_text(entry.get("category_id"))
        image = images.get(owner) if owner is not None else None
        if image is None:
            if owner is None and entry.get("image_id") is not None:
                raise UserError(f"{path}: annotation {number}: image_id is {brief(entry['image_id'])}, which is no id")
            rejected["image not in the file"] += 1
            continue
        box, area, crowd = entry.get("bbox"), entry.get("area"), entry.get("iscrowd", False)
        if category not in label or not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
            raise UserError(
                f"{path}: annotation {number} has no bbox of four numbers, or a category that is not listed: "
                f"bbox {brief(box)}, category_id {brief(entry.get('category_id'))}"
            )
        if area is None:
            area = box[2] * box[3]
        if not is_number(area):
            raise UserError(f"{path}: annotation {number}: area is {brief(area)}, not a number")
        if not (crowd is None or isinstance(crowd, bool) or is_number(crowd)):
            raise UserError(f"{path}: annotation {number}: iscrowd is {brief(crowd)}, neither 0 nor 1")
        rows.append((image, label[category], box, area, bool(crowd)))
    boxes = np.array([row[2] for row in rows], np.float64).reshape(-1, 4)
    sides = boxes[:, 2:].copy()
    boxes[:, 2:] += boxes[:, :2]
    sizes = [size_of(entry) or (0, 0) for entry in content["images"]]
    table = TruthTable(
        image_ids=tuple(images),
        image_sizes=np.array(sizes, np.int64).reshape(-1, 2),
        image=np.array([row[0] for row in rows], np.int64),
        labels=np.array([row[1] for row in rows], np.int64),
        boxes=boxes,
        sides=sides,
        ignore=np.zeros(len(rows), np.bool_),
        crowd=np.array([row[4] for row in rows], np.bool_),
        area=np.array([row[3] for row in rows], np.float64),
        rejected=dict(rejected),
    )
    files = {key: str(entry.get("file_name", "")) for key, entry in zip(images, content["images"], strict=True)}
    classes = Classes.named(keys, [entry.get("name") for _, entry in categories])  # named as for training
    return CocoTruth(table, classes.names, keys, files)


def _ids(entries: list[Any], kind: str, path: Path) -> dict[str, int | str]:
    """The ids of images or categories by their text, in the file's order."""
    found: dict[str, int | str] = {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {kind} {number} is {brief(entry)}, no {kind}")
        key = id_key(entry.get("id"))
        if key is None:
            given = "missing" if entry.get("id") is None else f"{brief(entry['id'])}, neither number nor text"
            raise UserError(f"{path}: the id of {kind} {number} is {given}")
        if str(key) in found:
            raise UserError(f"{path}: {kind} id {brief(key)} stands there twice")
        found[str(key)] = key
    return found


def _order(key: int | str) -> tuple[bool, int, str]:
    """Numbers first, by value; then text."""
    return (True, 0, key) if isinstance(key, str) else (False, key, "")
