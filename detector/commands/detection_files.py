"""Detections as files: JSON lines (written as they come), COCO results, CSV and Parquet.

``detections.jsonl`` holds one object per image, in the order of detection::

    {"image_id": str, "path": str, "width": W, "height": H,
     "detections": [{"box": [x1, y1, x2, y2], "score": s, "label": int, "class_name": str}, ...]}

Boxes are in pixels of the image, as everywhere in the toolkit; ``path`` is what the user named.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from detector.images.archives import import_arrow
from detector.shown import json_text, one_line, shown
from detector.types import Detections
from proposals.errors import UserError

JSONL_FILE = "detections.jsonl"
COCO_FILE = "detections.coco.json"
COCO_IMAGES_FILE = "images.coco.json"
CSV_FILE = "detections.csv"
PARQUET_FILE = "detections.parquet"
PARQUET_ROWS = 1000  # in memory at a time
PICTURES, PROPOSAL_PICTURES = "pictures", "proposals"
CSV_COLUMNS = ("image_id", "path", "label", "class_name", "score", "x1", "y1", "x2", "y2")


@dataclass(frozen=True, slots=True, eq=False)
class SavedDetections:
    """One line of ``detections.jsonl``.

    Attributes:
        image_id: unique in the file. path: the image's file as the user named it.
        detections: what was found. class_names: ``(N,)`` words, the class of each detection.
    """

    image_id: str
    path: str
    detections: Detections
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.class_names) != len(self.detections):
            raise ValueError(f"{len(self.class_names)} class names for {len(self.detections)} detections")

    @classmethod
    def of(cls, image_id: str, path: str, detections: Detections, names: Sequence[str]) -> SavedDetections:
        """The detections of one image, with ``names`` ``(K,)`` the words of the labels."""
        return cls(image_id, path, detections, tuple(names[label] for label in detections.labels.tolist()))

    def record(self) -> dict[str, Any]:
        """The line's content, of plain types."""
        found = self.detections
        height, width = found.image_size
        entries = [
            {"box": [_short(x) for x in box], "score": _short(score), "label": int(label), "class_name": name}
            for box, score, label, name in zip(found.boxes, found.scores, found.labels, self.class_names, strict=True)
        ]
        return {"image_id": self.image_id, "path": self.path, "width": width, "height": height, "detections": entries}

    def to_json(self) -> str:
        """One line without its end; reading it back gives the same float32 numbers."""
        return json_text(self.record())


def _short(number: np.float32) -> float:
    """The shortest decimal that is this float32: 0.1 and not 0.10000000149."""
    return float(str(number))


def read_detections(path: Path | str) -> Iterator[SavedDetections]:
    """The images of a ``detections.jsonl``, in its order.

    Raises:
        UserError: the file cannot be read, or a line of it is not as :class:`SavedDetections` makes it.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parse(line, f"{path}, line {number}")
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}; check its permissions") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not a {JSONL_FILE}: not UTF-8 text; name a file that detector detect wrote"
        ) from error


def _parse(line: str, where: str) -> SavedDetections:
    try:
        record = json.loads(line)
        entries = record["detections"]
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite, which is a fault
            boxes = np.array([entry["box"] for entry in entries], np.float32).reshape(-1, 4)
            scores = np.array([entry["score"] for entry in entries], np.float32)
        labels = np.array([entry["label"] for entry in entries], np.int64)
        detections = Detections(boxes, scores, labels, (record["height"], record["width"]))
        names = tuple(str(entry["class_name"]) for entry in entries)
        return SavedDetections(str(record["image_id"]), str(record["path"]), detections, names)
    except KeyError as error:
        raise UserError(f"{where}: the key {error} is missing") from error
    except RecursionError as error:
        raise UserError(f"{where}: not a line of {JSONL_FILE}: nested too deep") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: not a line of {JSONL_FILE}: {shown(str(error))}") from error


def coco_ids(ids: Iterable[str]) -> array[int]:
    """COCO wants integers: ids (of images, or of classes) where all are different numbers, or else 1, 2, ..."""
    numbers = array("q")
    count, all_numbers = 0, True
    for name in ids:
        count += 1
        all_numbers = all_numbers and len(name) < 19 and name.isascii() and name.isdigit()
        if all_numbers:
            numbers.append(int(name))
    if all_numbers and len(np.unique(np.frombuffer(numbers, np.int64) if count else [])) == count:
        return numbers
    return array("q", range(1, count + 1))


def write_coco(folder: Path, class_names: Sequence[str], class_keys: Sequence[str] = ()) -> None:
    """COCO results (``detections.coco.json``) and the images and categories that they speak of (``images.coco.json``).

    ``COCO("images.coco.json").loadRes("detections.coco.json")`` reads them. ``category_id`` is the class's own id in
    the training data where all are numbers, as with a model trained on COCO, and label + 1 otherwise. Both are written
    image by image from the folder's ``detections.jsonl``.
    """
    lines = folder / JSONL_FILE
    category_ids = coco_ids(class_keys or class_names).tolist()
    ids = coco_ids(image.image_id for image in read_detections(lines))
    categories = [{"id": number, "name": name} for number, name in zip(category_ids, class_names, strict=True)]
    found = (
        json.dumps(entry)
        for number, image in zip(ids, read_detections(lines), strict=True)
        for entry in image.detections.to_coco(number, category_ids)
    )
    write_list(folder / COCO_FILE, found)
    records = zip(ids, (image.record() for image in read_detections(lines)), strict=True)
    images = (
        json_text({"id": number, "file_name": record["path"], "width": record["width"], "height": record["height"]})
        for number, record in records
    )
    rest = f'], "annotations": [], "categories": {json_text(categories)}}}'
    write_list(folder / COCO_IMAGES_FILE, images, '{"info": {}, "images": [', ", ", rest)


def write_list(path: Path, texts: Iterable[str], begin: str = "[", between: str = ", ", end: str = "]") -> None:
    """A file of JSON with a list of many ``texts``, which are written one by one."""
    with path.open("w", encoding="utf-8") as file:
        file.write(begin)
        for i, text in enumerate(texts):
            file.write((between if i else "") + text)
        file.write(end)


def write_csv(path: Path, images: Iterable[SavedDetections]) -> None:
    """One row per detection under a header row; an image without detections has no row.

    Bytes of a file name that are no UTF-8 stand in it as ``\\udce9``: JSON lines keep such names, CSV shows them.
    """
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for image in images:
            for entry in image.record()["detections"]:
                words = (entry["label"], entry["class_name"], entry["score"])
                writer.writerow([image.image_id, image.path, *words, *entry["box"]])


def write_parquet(path: Path, images: Iterable[SavedDetections], faults: Sequence[str]) -> None:
    """A row for each image, and behind them one for each of ``faults``, which has an ``error`` and nothing else.

    Columns: ``image_id``, ``path``, ``width``, ``height``, ``detections`` (a list of ``box`` ``x1 y1 x2 y2``, float32,
    ``score``, float32, ``label`` and ``class_name``), ``error``. Names that are no UTF-8 stand in it with escapes.

    Raises:
        UserError: pyarrow is not installed.
    """
    arrow = import_arrow()
    word, number, real = arrow.string(), arrow.int32(), arrow.float32()
    detection = arrow.struct({"box": arrow.list_(real, 4), "score": real, "label": number, "class_name": word})
    columns = {"image_id": word, "path": word, "width": number, "height": number}
    schema = arrow.schema({**columns, "detections": arrow.list_(detection), "error": word})
    rows = chain(map(_row, images), ({"error": one_line(fault)} for fault in faults))
    with arrow.parquet.ParquetWriter(path, schema) as file:
        while part := list(islice(rows, PARQUET_ROWS)):
            file.write_table(arrow.Table.from_pylist(part, schema))


def _row(image: SavedDetections) -> dict[str, Any]:
    record = image.record()
    for part in (record, *record["detections"]):
        part.update({name: one_line(word) for name, word in part.items() if isinstance(word, str)})
    return record
