"""What stands in YOLO's files: the data file, and lines of text files; the first says what is the box in the others.

The data file is ``data.yaml`` of today's tools, or Darknet's ``obj.data``, which CVAT writes as YOLO 1.1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.data.builder import Builder, Object
from detector.data.classes import Classes
from detector.data.paths import list_names, read_lines, read_text, relative_name, tails, whole_number
from detector.strict_yaml import load_yaml_text
from proposals.errors import UserError

YAML_SUFFIXES = (".yaml", ".yml")
DARKNET_SUFFIX = ".data"
SPLITS = ("train", "val", "test")
_DARKNET_SPLITS = ("train", "valid", "test")
_MOST_KEYPOINTS = 10_000
_NOTHING: tuple[object, ...] = ("", "~", "null", "Null", "NULL", [], {})
TASKS = ("", "detect", "segment", "pose", "obb")
"""What ``task`` of a data file may be; ``""``: it does not say."""

_SHARE_TOLERANCE = 0.01
"""How far a polygon may reach over the picture, as a share of it."""


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What a data file says of its rows.

    Attributes:
        task: one of ``TASKS``. keypoints: (number, numbers of each), ``kpt_shape``; (0, 0) if there are none.
    """

    task: str = ""
    keypoints: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file's contents.

    Attributes:
        path: of the file. base: the folder that its places are relative to. classes: keys are the numbers in the rows.
        places: for each split, folders of pictures or lists of them, as the file names them; at least one.
        rows: what it says of the rows.
    """

    path: Path
    base: Path
    classes: Classes
    places: dict[str, tuple[str, ...]]
    rows: RowFormat

    def find(self, item: str) -> Path | None:
        """The folder or list that ``item`` names; None if there is none, or it leads out of the data folder."""
        if self.path.suffix.lower() == DARKNET_SUFFIX:
            # Darknet's paths are relative to where it was started: `data/` is the folder of this file.
            places = [self.base / tail for tail in tails(item)]
            return next((place for place in places if place.is_dir() or place.is_file()), None)
        if Path(item).is_absolute():
            place = Path(item)
        elif os.path.normpath(item) == ".":
            place = self.base
        else:
            name = relative_name(item, self.base)
            if name is None and item.startswith("../"):
                # Exports of annotation services name their own folders as if from one below.
                name = relative_name(item.removeprefix("../"), self.base)
            if name is None:
                return None
            place = self.base / name
        return place if place.is_dir() or place.is_file() else None

    def has(self, split: str) -> bool:
        """Whether any place of ``split`` is there."""
        return any(self.find(item) is not None for item in self.places[split])


def find_data_file(root: Path) -> Path | None:
    """The data file in a folder: ``data.yaml``, another ``.yaml`` with names and train, or ``obj.data``."""
    names = [name for name in list_names(root) if name.lower().endswith((*YAML_SUFFIXES, DARKNET_SUFFIX))]
    names.sort(key=lambda name: (name.lower().endswith(DARKNET_SUFFIX), Path(name).stem != "data", name))
    for name in names:
        if not (root / name).is_file():
            continue
        try:
            text = read_text(root / name)
        except UserError:
            if Path(name).stem == "data":
                raise
            continue
        if "names" in text and "train" in text:
            return root / name
    return None


def read_data_file(path: Path) -> DataFile:
    """The contents of a data file.

    Raises:
        UserError: it cannot be read, or names no pictures or no classes.
    """
    if path.suffix.lower() == DARKNET_SUFFIX:
        return _read_darknet(path)
    content = load_yaml_text(read_text(path), path)
    content = {key: value for key, value in content.items() if key == "names" or value not in _NOTHING}
    places = {split: _texts(path, split, content[split]) for split in SPLITS if split in content}
    if not places:
        raise UserError(f"{path} names no train, val or test images; add e.g. `train: images/train`")
    return DataFile(path, _base(path, content), _names(path, content), places, _rows(path, content))


def _texts(path: Path, key: str, entry: Any) -> tuple[str, ...]:
    items = entry if isinstance(entry, list) else [entry]
    if not all(isinstance(item, str) for item in items):
        raise UserError(f"{path}: `{key}` is not the name of a folder or a list, or several of them; correct it")
    return tuple(items)


def _names(path: Path, content: dict[str, Any]) -> Classes:
    names = content.get("names")
    if isinstance(names, dict):
        numbers = [whole_number(key) for key in names]
        if names and all(number is not None for number in numbers) and len(set(numbers)) == len(numbers):
            pairs = sorted((int(key), name) for key, name in names.items())
            return _classes(path, [key for key, _ in pairs], [name for _, name in pairs])
    elif isinstance(names, list) and names:
        return _classes(path, range(len(names)), names)
    raise UserError(f"{path} has no `names`: the list of class names, or `number: name` lines; add it")


def _classes(path: Path, keys: Sequence[int], names: Sequence[object]) -> Classes:
    wrong = [key for key, name in zip(keys, names, strict=True) if not isinstance(name, str)]
    if wrong:
        raise UserError(f"{path}: the name of class {wrong[0]} is not text; correct `names`")
    return Classes.named(list(keys), names)


def _rows(path: Path, content: dict[str, Any]) -> RowFormat:
    task = content.get("task", "")
    if task not in TASKS:
        raise UserError(f"{path}: `task` is not one of {', '.join(filter(None, TASKS))}; correct or remove it")
    shape = content.get("kpt_shape")
    if not shape:
        return RowFormat(task)
    numbers = [whole_number(n) if isinstance(n, str) else None for n in shape] if isinstance(shape, list) else []
    if len(numbers) == 2 and numbers[0] and numbers[0] <= _MOST_KEYPOINTS and numbers[1] in (2, 3):
        return RowFormat(task, (numbers[0], numbers[1]))
    raise UserError(f"{path}: `kpt_shape` is not [number of keypoints, 2 or 3]; correct it")


def _base(path: Path, content: dict[str, Any]) -> Path:
    """The data folder: ``path`` where it exists, or the data file's own folder."""
    given = content.get("path")
    if not given:
        return path.parent
    if not isinstance(given, str):
        raise UserError(f"{path}: `path` is not the name of a folder; correct or remove it")
    if Path(given).is_absolute():
        if not Path(given).is_dir():
            raise UserError(f"{path}: `path` {given} does not exist; correct it or remove it")
        return Path(given)
    name = relative_name(given, path.parent)
    # `path: .`, and paths that mean the working directory of the tool that wrote them: the file lies in its data.
    return path.parent / name if name and (path.parent / name).is_dir() else path.parent


def _read_darknet(path: Path) -> DataFile:
    """``key = value`` lines: ``names`` is a file of names, one a line, and the splits are lists."""
    content: dict[str, str] = {}
    for line in read_lines(path):
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            content[key.strip()] = value.strip()
    places: dict[str, tuple[str, ...]] = {split: (content[split],) for split in _DARKNET_SPLITS if content.get(split)}
    if not places:
        raise UserError(f"{path} names no train, valid or test list; add e.g. `train = data/train.txt`")
    names = [path.parent / tail for tail in tails(content.get("names", "")) if (path.parent / tail).is_file()]
    if not names:
        given = content.get("names", "`names`")
        raise UserError(f"{path}: its file of class names, {given}, does not exist; put it there")
    return DataFile(path, path.parent, read_class_file(names[0]), places, RowFormat())


def read_class_file(path: Path) -> Classes:
    """Classes of a file of names, one a line: the place of the line is the number in the rows."""
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    return Classes.named(range(len(lines)), lines)


# --- rows -------------------------------------------------------------------------------------------------------------


def read_objects(builder: Builder, label: Path, size: tuple[int, int], rows: RowFormat) -> Iterator[Object]:
    """The objects in a text file; rows that are none are noted as faults.

    Args:
        size: (height, width) of the picture.

    Raises:
        UserError: the file cannot be read.
    """
    height, width = size
    for number, line in enumerate(read_text(label).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            key, values = float(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            builder.fault("not-a-number", label, f"line {number} is not numbers only: {line.strip()[:60]!r}")
            continue
        if not key.is_integer():
            builder.fault("bad-object", label, f"line {number} begins with {words[0][:20]}, which is no class number")
            continue
        try:
            x1, y1, x2, y2 = corners_of(values, rows)
        except ValueError as error:
            builder.fault("bad-object", label, f"line {number} {error}")
            continue
        yield Object(int(key), x1 * width, y1 * height, x2 * width, y2 * height)


def corners_of(values: Sequence[float], rows: RowFormat) -> tuple[float, float, float, float]:
    """``x1 y1 x2 y2`` of the numbers behind the class, all as shares of the picture.

    Four numbers are centre and size. With keypoints they stand behind these four. An even number from six on is a
    polygon, the four corners of an oriented box among them. Five are a box and its confidence where the task is
    ``detect``; elsewhere they could also be a box and an angle, and are refused.

    Raises:
        ValueError: the numbers are of no row of this format.
    """
    count = len(values)
    points, each = rows.keypoints
    if count == 4 or (points and count == 4 + points * each) or (count == 5 and rows.task == "detect"):
        x, y, w, h = values[:4]
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if points:
        raise ValueError(
            f"has {count} numbers behind the class; kpt_shape [{points}, {each}] makes {4 + points * each}"
        )
    if rows.task == "pose":
        raise ValueError(f"has {count} numbers behind the class, and no kpt_shape says which are keypoints")
    if count == 5:
        raise ValueError(
            "has 5 numbers behind the class, and nothing says whether the last is a confidence or an angle"
        )
    if rows.task == "obb" and count != 8:
        raise ValueError(f"has {count} numbers behind the class, not the 8 of an oriented box's corners")
    if count < 6 or count % 2:
        raise ValueError(f"has {count} numbers behind the class, neither a box (4) nor a polygon (an even number)")
    if min(values) < -_SHARE_TOLERANCE or max(values) > 1 + _SHARE_TOLERANCE:
        raise ValueError(f"has {count} numbers behind the class that are no polygon: some are not between 0 and 1")
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
