"""Detections written in the official formats, row by row.

Numbers are written with as many digits as they have, so that reading the file back gives the same results. VOC and
ILSVRC boxes name the last pixel inside; see :func:`detector.evaluation.read_files.from_inclusive`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from detector.evaluation.read_files import ILSVRC_FIRST_PIXEL, VOC_FIRST_PIXEL
from detector.evaluation.tables import DetectionTable
from proposals.errors import UserError

_BATCH = 1 << 15


def write_coco_results(path: Path, table: DetectionTable, category_ids: Sequence[int | str]) -> None:
    """A COCO results file; image ids that are numbers are written as such. ``category_ids``: by label.

    Raises:
        UserError: the file exists, or two image ids are one number. ValueError: a label without a category.
    """
    _check_labels(table, len(category_ids))
    images = [_json_id(name) for name in table.image_ids]
    number, times = next(iter(Counter(images).most_common(1)), ("", 0))
    if times > 1:
        raise UserError(f"{path}: {times} images have the number {number}; give them ids of different numbers")
    categories = [json.dumps(category) for category in category_ids]
    with _new(path) as file:
        file.write("[")
        for start in range(0, len(table), _BATCH):
            part = slice(start, start + _BATCH)
            boxes = np.concatenate([table.boxes[part, :2], table.sides[part]], axis=1).tolist()
            columns = (table.image[part].tolist(), table.labels[part].tolist(), boxes, table.scores[part].tolist())
            rows = (
                f'{{"image_id": {images[image]}, "category_id": {categories[label]}, '
                f'"bbox": [{", ".join(map(repr, box))}], "score": {score!r}}}'
                for image, label, box, score in zip(*columns, strict=True)
            )
            file.write((",\n" if start else "\n") + ",\n".join(rows))
        file.write("\n]\n")


def write_voc(
    folder: Path,
    table: DetectionTable,
    class_names: Sequence[str],
    *,
    competition: str = "comp3",
    image_set: str = "test",
) -> list[Path]:
    """The devkit's files, one per class (also without detections): ``<competition>_det_<set>_<class>.txt``.

    Raises:
        UserError: one of the files exists, an image's id has a space in it, or a class's name cannot be part of a
            file's. ValueError: a label without a name.
    """
    _check_labels(table, len(class_names))
    _check_ids(table)
    for name in class_names:
        if not name or not name.isprintable() or set(name) & {"/", "\\"}:
            raise UserError(f"class {name!r}: a name with such characters cannot be part of a file's name; rename it")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for label, name in enumerate(class_names):
        path = folder / f"{competition}_det_{image_set}_{name.replace(' ', '_')}.txt"
        with _new(path) as file:
            for row in np.flatnonzero(table.labels == label):
                box = _words(to_inclusive(table.boxes[row].tolist(), VOC_FIRST_PIXEL))
                file.write(f"{table.image_ids[table.image[row]]} {float(table.scores[row])!r} {box}\n")
        paths.append(path)
    return paths


def write_ilsvrc(path: Path, table: DetectionTable, image_numbers: Mapping[int, str]) -> None:
    """An ILSVRC submission: lines ``image class score xmin ymin xmax ymax``.

    Images and classes count from 1, pixels from 0.

    Args:
        image_numbers: the image id of each number, as :func:`detector.evaluation.read_files.read_image_numbers` reads.

    Raises:
        UserError: the file exists, or a detection's image has no number.
    """
    number = {image_id: n for n, image_id in image_numbers.items()}
    with _new(path) as file:
        for image, label, score, box in zip(
            table.image.tolist(), table.labels.tolist(), table.scores.tolist(), table.boxes, strict=True
        ):
            image_id = table.image_ids[image]
            if image_id not in number:
                raise UserError(f"{path}: image {image_id!r} is not in the list of images")
            words = _words(to_inclusive(box.tolist(), ILSVRC_FIRST_PIXEL))
            file.write(f"{number[image_id]} {label + 1} {score!r} {words}\n")


@contextmanager
def _new(path: Path) -> Iterator[TextIO]:
    """A file that must not exist yet; removed again if writing fails."""
    try:
        file = path.open("x", encoding="utf-8", newline="\n")
    except FileExistsError:
        raise UserError(f"{path} exists already; name a new file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot write: {error.strerror}") from error
    try:
        with file:
            yield file
    except BaseException:
        path.unlink()
        raise


def _json_id(name: str) -> str:
    """An image id in JSON: a number where it is one."""
    return json.dumps(int(name) if name.isascii() and name.isdecimal() and len(name) <= 18 else name)


def to_inclusive(box: Sequence[float], first_pixel: int) -> list[float]:
    """The inverse of :func:`detector.evaluation.read_files.from_inclusive`."""
    x1, y1, x2, y2 = box
    return [x1 + first_pixel, y1 + first_pixel, x2 - (1 - first_pixel), y2 - (1 - first_pixel)]


def _words(box: list[float]) -> str:
    return " ".join(str(int(value)) if value.is_integer() else repr(value) for value in box)


def _check_labels(table: DetectionTable, n: int) -> None:
    if len(table.labels) and not 0 <= table.labels.min() <= table.labels.max() < n:
        raise ValueError(f"labels must be in [0, {n})")


def _check_ids(table: DetectionTable) -> None:
    for name in table.image_ids:
        if len(name.split()) != 1:
            raise UserError(f"image id {name!r} has a space in it, which the devkit's files cannot hold")
