"""Detections read from files: ours (JSON lines, CSV), COCO results, VOC devkit, ILSVRC submissions.

Every reader keeps memory to the size of the finished columns (72 bytes a detection) and a batch, whatever the file's
size, and keeps every digit. What is wrong ends the reading with one line that names the place, or, where the caller
asks for it, is left out and counted.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from detector.evaluation.class_index import ClassIndex, id_text
from detector.evaluation.columns import Columns, OnFault
from detector.evaluation.json_stream import stream_objects
from detector.evaluation.tables import DetectionTable
from detector.shown import JSON_FAULTS, brief, json_fault
from proposals.errors import UserError

FORMATS = ("jsonl", "csv", "coco", "voc", "ilsvrc_det")
JSONL_FILE = "detections.jsonl"
TWICE = "its image stands in the file a second time"
# What the first pixel of an image is called in the kits' annotations and submissions.
VOC_FIRST_PIXEL = 1
ILSVRC_FIRST_PIXEL = 0


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
        class_names: the data set's, in label order. class_keys: its ids, by which COCO results name classes; all other
            files have the names. By default the ids are the names.
        image_numbers: ILSVRC: image id of each number in the submission.
        format: one of ``FORMATS``, where the name does not tell.
        invalid, unknown_class: "error", or "skip" to leave such rows out and count them in the table's ``rejected``.

    Returns:
        The table; images in the order in which the file first names them.

    Raises:
        UserError: a file that cannot be read or is not what it should be; a row that is faulty.
    """
    path = Path(path)
    kind = format or recognise_format(path)
    keys = class_names if class_keys is None else class_keys
    if kind == "coco":
        hint = _hint(dict(zip(class_names, keys, strict=True)), "name of id {}; this file has ids")
        return _read_coco(path, Columns(str(path), invalid, unknown_class, True, hint), keys)
    classes = ClassIndex(class_names)
    file = path if kind == "voc" else detection_files(path, kind)[0]
    names = {str(key): brief(name) for key, name in zip(keys, class_names, strict=True)}
    hint = _hint(names, "id of {}; this file names classes")
    columns = Columns(str(file), invalid, unknown_class, False, hint)
    if kind == "jsonl":
        return _read_jsonl(file, columns, classes)
    if kind == "csv":
        return _read_csv(file, columns, classes)
    if kind == "voc":
        return _read_voc(file, columns, classes)
    if kind == "ilsvrc_det":
        if image_numbers is None:
            raise UserError(f"{path}: an ILSVRC submission has numbers for images; name their list with --image-list")
        return _read_ilsvrc(file, columns, len(class_names), image_numbers)
    raise UserError(f"{path}: format {kind!r} is unknown; choose one of {', '.join(FORMATS)}")


def recognise_format(path: Path) -> str:
    """The format of a file or folder of detections by its name.

    Raises:
        UserError: there is none, or the name tells no format.
    """
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


def detection_files(path: Path, format: str) -> list[Path]:
    """The files that hold the detections at ``path``, sorted."""
    if format == "voc":
        return sorted(path.glob("*_det_*.txt"))
    return [path / JSONL_FILE if format == "jsonl" and path.is_dir() else path]


def _hint(known: Mapping[str, object], words: str) -> Callable[[str], str]:
    """What to say of an unknown class that is another's id, or its name."""
    return lambda word: f" (there it is the {words.format(known[word])})" if word in known else ""


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; is it a detection file?") from error
    except csv.Error as error:
        raise UserError(f"{path}: not CSV: {error}") from error


def _read_jsonl(path: Path, columns: Columns, classes: ClassIndex) -> DetectionTable:
    with _telling(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
                image_id, entries = id_text(record["image_id"]), record["detections"]
                rows = [(entry["score"], entry["box"], entry["class_name"]) for entry in entries]
            except JSON_FAULTS as error:
                cut = "; the file is truncated, copy it again" if not line.endswith("\n") else ""
                raise UserError(f"{where}: not JSON: {json_fault(error)}{cut}") from None
            except KeyError as error:
                raise UserError(f"{where}: not an image's detections: {error} is missing") from None
            except TypeError:
                raise UserError(f"{where}: not an image's detections, but JSON of another kind") from None
            if image_id is None:
                raise UserError(f"{where}: image_id is {brief(record['image_id'])}, neither text nor number")
            if columns.knows(image_id):
                if columns.invalid == "error":
                    raise UserError(f"{where}: image {brief(image_id)} stands in the file a second time; keep one")
                columns.rejected[TWICE] += len(rows)
                continue
            file_name = record.get("path")
            image = columns.image(image_id, file_name if isinstance(file_name, str) else "")
            for score, box, name in rows:
                word = id_text(name)  # a name may be a number, too
                if word is None:
                    raise UserError(f"{where}: class_name is {brief(name)}, not text")
                columns.add(image, classes.find(word), score, box, word)
    return columns.table()


def _read_csv(path: Path, columns: Columns, classes: ClassIndex) -> DetectionTable:
    needed = ("class_name", "image_id", "score", "x1", "x2", "y1", "y2")
    with _telling(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        place = _columns_of(next(reader, []), needed, path)
        file_name = place.get("path")
        for row in reader:
            if not row:
                continue
            if len(row) <= max(place.values()):
                raise UserError(f"{path}, line {reader.line_num}: {len(row)} fields, fewer than the header has")
            word, box = row[place["class_name"]], [_parse(row[place[name]]) for name in ("x1", "y1", "x2", "y2")]
            image = columns.image(row[place["image_id"]], "" if file_name is None else row[file_name])
            columns.add(image, classes.find(word), _parse(row[place["score"]]), box, word)
    return columns.table()


def _columns_of(header: list[str], needed: Sequence[str], path: Path) -> dict[str, int]:
    """The place of each needed column, and of ``path`` if there is one."""
    counts = Counter(header)
    for name in needed:
        if counts[name] != 1:
            fault = "no" if not counts[name] else f"{counts[name]} times the"
            raise UserError(f"{path}: the header has {fault} column {name}; it needs {', '.join(needed)}, each once")
    return {name: header.index(name) for name in (*needed, "path") if name in counts}


def _read_coco(path: Path, columns: Columns, keys: Sequence[str | int]) -> DetectionTable:
    classes = ClassIndex(keys)
    labels: dict[str, int] = {}
    for number, entry in enumerate(stream_objects(path), 1):
        try:
            image_id, category = id_text(entry["image_id"]), id_text(entry["category_id"])
            score, box = entry["score"], entry["bbox"]
        except KeyError as error:
            raise UserError(f"{path}: entry {number} has no {error}; is it a COCO results file of boxes?") from None
        for name, word in (("image_id", image_id), ("category_id", category)):
            if word is None:
                raise UserError(f"{path}: entry {number}: {name} is {brief(entry[name])}, neither number nor text")
        assert image_id is not None
        assert category is not None
        if category not in labels:
            labels[category] = classes.find(category)
        columns.add(columns.image(image_id), labels[category], score, box, category)
    return columns.table()


def _read_voc(path: Path, columns: Columns, classes: ClassIndex) -> DetectionTable:
    """``<competition>_det_<set>_<class>.txt`` with lines ``image score xmin ymin xmax ymax``, 1-based, inclusive."""
    for file in detection_files(path, "voc"):
        if not file.is_file():
            raise UserError(f"{file}: not a file that can be read; remove it")
        words = file.stem.split("_det_", 1)[1].split("_")[1:]
        # The name of the set may hold an underscore, and so may the class: the longest class that fits is meant.
        label = next((label for i in range(len(words)) if (label := classes.find("_".join(words[i:]))) >= 0), -1)
        for fields in _lines(file, 6):
            score, x1, y1, x2, y2 = (_parse(field) for field in fields[1:])
            box = from_inclusive((x1, y1, x2, y2), VOC_FIRST_PIXEL)
            columns.add(columns.image(fields[0]), label, score, box, "_".join(words))
    return columns.table()


def _read_ilsvrc(path: Path, columns: Columns, num_classes: int, numbers: Mapping[int, str]) -> DetectionTable:
    """Lines ``image class score xmin ymin xmax ymax``: images and classes count from 1, pixels from 0."""
    for fields in _lines(path, 7):
        image, label, score, x1, y1, x2, y2 = (_parse(field) for field in fields)
        image_id = numbers.get(int(image), f"number {fields[0]}") if image == image // 1 else f"number {fields[0]}"
        known = label == label // 1 and 1 <= label <= num_classes
        box = from_inclusive((x1, y1, x2, y2), ILSVRC_FIRST_PIXEL)
        columns.add(columns.image(image_id), int(label) - 1 if known else -1, score, box, fields[1])
    return columns.table()


def from_inclusive(box: Sequence[float], first_pixel: int) -> list[float]:
    """``xmin ymin xmax ymax`` of a kit as half-open ``x1 y1 x2 y2``.

    The kits name the last pixel inside, ours end where it ends. They measure ``xmax - xmin + 1``, so widths, heights
    and overlaps agree exactly; only the origin differs.
    """
    x1, y1, x2, y2 = box
    return [x1 - first_pixel, y1 - first_pixel, x2 + (1 - first_pixel), y2 + (1 - first_pixel)]


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


def _parse(text: str) -> float:
    """A number, NaN where it is none: the columns then say which row it is."""
    try:
        return float(text) if "_" not in text else float("nan")  # Python reads 1_000 as a thousand
    except ValueError:
        return float("nan")


def read_image_numbers(path: Path | str) -> dict[int, str]:
    """Image id by number from a list of the ILSVRC kit, with lines ``name number``.

    Raises:
        UserError: a line of another kind; a number that occurs twice.
    """
    numbers: dict[int, str] = {}
    for fields in _lines(Path(path), 2):
        if not fields[1].isdecimal() or len(fields[1]) > 18 or int(fields[1]) in numbers:
            raise UserError(f"{path}: {brief(' '.join(fields))} is not an image's name and its own number")
        numbers[int(fields[1])] = fields[0].rpartition("/")[2]
    return numbers
