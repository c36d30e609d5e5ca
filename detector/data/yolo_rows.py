"""One line of a YOLO text file: which numbers are the box? What the data file says decides, not the line's length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.data.builder import Builder, Object
from detector.data.paths import read_text

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
        raise ValueError(f"has {count} numbers behind the class; kpt_shape [{points}, {each}] makes {4 + points * each}")
    if rows.task == "pose":
        raise ValueError(f"has {count} numbers behind the class, and no kpt_shape says which are keypoints")
    if count == 5:
        raise ValueError("has 5 numbers behind the class, and nothing says whether the last is a confidence or an angle")
    if rows.task == "obb" and count != 8:
        raise ValueError(f"has {count} numbers behind the class, not the 8 of an oriented box's corners")
    if count < 6 or count % 2:
        raise ValueError(f"has {count} numbers behind the class, neither a box (4) nor a polygon (an even number)")
    if min(values) < -_SHARE_TOLERANCE or max(values) > 1 + _SHARE_TOLERANCE:
        raise ValueError(f"has {count} numbers behind the class that are no polygon: some are not between 0 and 1")
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
