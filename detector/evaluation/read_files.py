"""Detections read from files: ours (JSON lines, CSV), COCO results, VOC devkit, ILSVRC submissions.

Every reader keeps memory to the size of the finished columns (72 bytes a detection) and a batch, whatever the file's
size, and keeps every digit. What is wrong ends the reading with one line that names the place, or, where the caller
asks for it, is left out and counted.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detector.evaluation.columns import ClassIndex, Columns, OnFault
from detector.evaluation.inclusive import ILSVRC_FIRST_PIXEL, VOC_FIRST_PIXEL, from_inclusive
from detector.evaluation.json_stream import stream_objects
from detector.evaluation.tables import DetectionTable
from proposals.errors import UserError

FORMATS = ("jsonl", "csv", "coco", "voc", "ilsvrc_det")
JSONL_FILE = "detections.jsonl"
TWICE = "its image stands in the file a second time"


def read_detections(
    path: Path | str,
    class_names: Sequence[str],
    *,
    class_keys: Sequence[str | int] | None = None,
    image_numbers: Mapping[int, str] | None = None,
    format: str | None = None,
    invalid: OnFault = "error",
    unknown_class: OnFault = "error",
) -> DetectionTable:
    """Read a file or folder of detections.

    Args:
        path: ``*.jsonl`` or a run folder with ``detections.jsonl``; ``*.csv``; ``*.json`` (COCO results); a folder of
            the VOC devkit's per-class files; ``*.txt`` (ILSVRC submission).
        class_names: the data set's, in label order. class_keys: its ids (COCO category ids), if they are not names.
        image_numbers: ILSVRC: image id of each number in the submission.
        format: one of ``FORMATS``, where the name does not tell.
        invalid, unknown_class: "error", or "skip" to leave such rows out and count them in the table's ``rejected``.

    Returns:
        The table; images in the order in which the file first names them.

    Raises:
        UserError: a file that cannot be read or is not what it should be; a row that is faulty.
    """
    path = Path(path)
    kind = format or _recognise(path)
    classes = ClassIndex(class_names, class_keys)
    if kind == "jsonl":
        return _read_jsonl(path / JSONL_FILE if path.is_dir() else path, classes, invalid, unknown_class)
    if kind == "csv":
        return _read_csv(path, classes, invalid, unknown_class)
    if kind == "coco":
        return _read_coco(path, classes, invalid, unknown_class)
    if kind == "voc":
        return _read_voc(path, classes, invalid, unknown_class)
    if kind == "ilsvrc_det":
        if image_numbers is None:
            raise UserError(f"{path}: an ILSVRC submission names images by number; the list of the images is needed")
        return _read_ilsvrc(path, classes, image_numbers, invalid, unknown_class)
    raise UserError(f"{path}: format {kind!r} is unknown; choose one of {', '.join(FORMATS)}")


def _recognise(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path of the detections")
    if path.is_dir():
        if (path / JSONL_FILE).is_file():
            return "jsonl"
        if any(path.glob("*_det_*.txt")):
            return "voc"
        raise UserError(f"{path} holds neither {JSONL_FILE} nor the VOC devkit's *_det_*.txt; name a detection file")
    known = {".jsonl": "jsonl", ".csv": "csv", ".json": "coco", ".txt": "ilsvrc_det"}
    if path.suffix.lower() not in known:
        raise UserError(f"{path}: {path.suffix or 'no'} ending tells no format; say which with --format")
    return known[path.suffix.lower()]


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; is it a detection file?") from error


def _read_jsonl(path: Path, classes: ClassIndex, invalid: OnFault, unknown: OnFault) -> DetectionTable:
    columns = Columns(str(path), invalid, unknown, from_sides=False)
    with _telling(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
                image_id, entries = str(record["image_id"]), record["detections"]
                rows = [(entry["score"], entry["box"], _class_word(entry)) for entry in entries]
            except json.JSONDecodeError as error:
                cut = "; the file is truncated, copy it again" if not line.endswith("\n") else ""
                raise UserError(f"{where}: not JSON: {error.msg}{cut}") from None
            except (KeyError, TypeError) as error:
                raise UserError(f"{where}: not an image's detections: {error} is missing or of another kind") from None
            if columns.knows(image_id):
                if invalid == "error":
                    raise UserError(f"{where}: image {image_id!r} stands in the file a second time; keep one of them")
                columns.reject(TWICE, len(rows))
                continue
            image = columns.image(image_id)
            for score, box, word in rows:
                columns.add(image, classes.find(word), score, box, word)
    return columns.table()


def _class_word(entry: dict[str, Any]) -> str:
    return str(entry["class_name"])


def _read_csv(path: Path, classes: ClassIndex, invalid: OnFault, unknown: OnFault) -> DetectionTable:
    columns = Columns(str(path), invalid, unknown, from_sides=False)
    with _telling(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        needed = {"image_id", "class_name", "score", "x1", "y1", "x2", "y2"}
        missing = sorted(needed - set(reader.fieldnames or ()))
        if missing:
            raise UserError(f"{path}: the header has no column {missing[0]}; it needs {', '.join(sorted(needed))}")
        for row in reader:
            box = [_parse(row[name]) for name in ("x1", "y1", "x2", "y2")]
            word = row["class_name"] or ""
            columns.add(columns.image(row["image_id"]), classes.find(word), _parse(row["score"]), box, word)
    return columns.table()


def _read_coco(path: Path, classes: ClassIndex, invalid: OnFault, unknown: OnFault) -> DetectionTable:
    columns = Columns(str(path), invalid, unknown, from_sides=True)
    labels: dict[Any, int] = {}
    for number, entry in enumerate(stream_objects(path), 1):
        try:
            category, image = entry["category_id"], columns.image(str(entry["image_id"]))
            if category not in labels:
                labels[category] = classes.find(str(category))
            columns.add(image, labels[category], entry["score"], entry["bbox"], str(category))
        except KeyError as error:
            raise UserError(f"{path}: entry {number} has no {error}; is it a COCO results file of boxes?") from None
        except TypeError:
            raise UserError(f"{path}: entry {number}: category_id is {category!r}, neither number nor text") from None
    return columns.table()


def _read_voc(path: Path, classes: ClassIndex, invalid: OnFault, unknown: OnFault) -> DetectionTable:
    """``<competition>_det_<set>_<class>.txt`` with lines ``image score xmin ymin xmax ymax``, 1-based, inclusive."""
    columns = Columns(str(path), invalid, unknown, from_sides=False)
    for file in sorted(path.glob("*_det_*.txt")):
        words = file.stem.split("_det_", 1)[1].split("_")[1:]
        # The name of the set may hold an underscore, and so may the class: the longest class that fits is meant.
        label = next((label for i in range(len(words)) if (label := classes.find("_".join(words[i:]))) >= 0), -1)
        for fields in _lines(file, 6):
            score, x1, y1, x2, y2 = (_parse(field) for field in fields[1:])
            columns.add(
                columns.image(fields[0]),
                label,
                score,
                from_inclusive((x1, y1, x2, y2), VOC_FIRST_PIXEL),
                "_".join(words),
            )
    return columns.table()


def _read_ilsvrc(
    path: Path, classes: ClassIndex, numbers: Mapping[int, str], invalid: OnFault, unknown: OnFault
) -> DetectionTable:
    """Lines ``image class score xmin ymin xmax ymax``: images and classes count from 1, pixels from 0."""
    columns = Columns(str(path), invalid, unknown, from_sides=False)
    for fields in _lines(path, 7):
        image, label, score, x1, y1, x2, y2 = (_parse(field) for field in fields)
        image_id = numbers.get(int(image), f"number {fields[0]}") if image == image // 1 else f"number {fields[0]}"
        known = label == label // 1 and 1 <= label <= len(classes.names)
        box = from_inclusive((x1, y1, x2, y2), ILSVRC_FIRST_PIXEL)
        columns.add(columns.image(image_id), int(label) - 1 if known else -1, score, box, fields[1])
    return columns.table()


def _lines(path: Path, fields: int) -> Iterator[list[str]]:
    with _telling(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            found = line.split()
            if found and len(found) != fields:
                raise UserError(
                    f"{path}, line {number}: {len(found)} fields in place of {fields}; truncated, or another format?"
                )
            if found:
                yield found


def _parse(text: str | None) -> float:
    """A number, NaN where it is none: the columns then say which row it is."""
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")


def read_image_numbers(path: Path | str) -> dict[int, str]:
    """Image id by number from a list of the ILSVRC kit, with lines ``name number``.

    Raises:
        UserError: a line of another kind; a number that occurs twice.
    """
    numbers: dict[int, str] = {}
    for fields in _lines(Path(path), 2):
        if not fields[1].isdecimal() or int(fields[1]) in numbers:
            raise UserError(f"{path}: {' '.join(fields)!r} is not an image's name and its own number")
        numbers[int(fields[1])] = fields[0].rpartition("/")[2]
    return numbers
