"""Truth for the protocols: a data set's flat arrays, or a COCO annotation file with every digit kept.

``detector.data`` reads annotations for training: it mends boxes and leaves out what has no picture. COCO's official
numbers are those of the file as it stands, so for them it is read here, as the reference reads it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.data import Dataset
from detector.evaluation.tables import TruthTable
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


def blacklist_of_dataset(dataset: Dataset) -> list[tuple[str, int]]:
    """ILSVRC's (image id, label) pairs that are left out."""
    return [(dataset.image_ids[image], label) for image, label in dataset.blacklist.tolist()]


def read_coco_truth(path: Path | str) -> CocoTruth:
    """Read a COCO annotation file as pycocotools does: boxes, areas and crowds as they are, no picture needed.

    Annotations of images that the file does not list are left out and counted, as the reference leaves them out.

    Raises:
        UserError: not such a file; an image or category id that occurs twice; an annotation without box or category.
    """
    path = Path(path)
    content = _load(path)
    images: dict[Any, int] = {}
    for entry in content["images"]:
        if entry.get("id") is None or entry["id"] in images:
            raise UserError(f"{path}: image id {entry.get('id')!r} is missing or stands there twice")
        images[entry["id"]] = len(images)
    categories = sorted(content["categories"], key=lambda entry: (isinstance(entry.get("id"), str), entry.get("id")))
    keys = tuple(entry["id"] for entry in categories)
    if len(set(keys)) != len(keys):
        raise UserError(f"{path}: a category id stands there twice")
    label = {key: i for i, key in enumerate(keys)}
    names = [str(entry.get("name", entry["id"])) for entry in categories]
    unique = tuple(n if names.count(n) == 1 else f"{n} ({k})" for n, k in zip(names, keys, strict=True))
    rows: list[tuple[int, int, list[float], float, bool]] = []
    rejected: dict[str, int] = {}
    for number, entry in enumerate(content["annotations"], 1):
        if entry.get("image_id") not in images:
            rejected["image not in the file"] = rejected.get("image not in the file", 0) + 1
            continue
        box = entry.get("bbox")
        if entry.get("category_id") not in label or not _is_box(box):
            raise UserError(
                f"{path}: annotation {number} has no bbox of four numbers, or a category that is not listed"
            )
        area = entry.get("area", box[2] * box[3])
        rows.append((images[entry["image_id"]], label[entry["category_id"]], box, area, bool(entry.get("iscrowd"))))
    boxes = np.array([row[2] for row in rows], np.float64).reshape(-1, 4)
    sides = boxes[:, 2:].copy()
    boxes[:, 2:] += boxes[:, :2]
    sizes = [[entry.get("height") or 0, entry.get("width") or 0] for entry in content["images"]]
    table = TruthTable(
        image_ids=tuple(str(key) for key in images),
        image_sizes=np.array(sizes, np.int64).reshape(-1, 2),
        image=np.array([row[0] for row in rows], np.int64),
        labels=np.array([row[1] for row in rows], np.int64),
        boxes=boxes,
        sides=sides,
        ignore=np.zeros(len(rows), np.bool_),
        crowd=np.array([row[4] for row in rows], np.bool_),
        area=np.array([row[3] for row in rows], np.float64),
        rejected=rejected,
    )
    files = {str(entry["id"]): str(entry.get("file_name", "")) for entry in content["images"]}
    return CocoTruth(table, unique, keys, files)


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in box)
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); truncated? copy it again") from None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key, []), list) and all(isinstance(entry, dict) for entry in content.get(key, []))
        for key in ("images", "annotations", "categories")
    ):
        raise UserError(f"{path}: not a COCO annotation file: images, annotations and categories must be lists")
    return {key: content.get(key, []) for key in ("images", "annotations", "categories")}
