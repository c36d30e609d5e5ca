"""Rows of a detection file gathered into a table, checked as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.tables import DetectionTable
from detector.shown import brief
from proposals.errors import UserError

OnFault = Literal["error", "skip"]
_BATCH = 1 << 15
# Numbers from here on are no scores or pixels, and areas of such boxes are not finite.
TOO_LARGE = 1e100

BAD_SCORE = "score is not a finite number"
BAD_BOX = "box is not four finite numbers"
UNKNOWN_CLASS = "class not in the data set"


class Columns:
    """Collects rows; numbers are checked a batch at a time, and one by one only where a batch holds a fault.

    Args:
        source: the file, for messages. invalid: what a row with a bad score or box does: end with an error, or be
            left out and counted. unknown_class: likewise for a class that the data set lacks.
        from_sides: whether boxes come as ``x y w h`` and not as corners.
        explain: what a message says beside an unknown class.
    """

    def __init__(
        self,
        source: str,
        invalid: OnFault,
        unknown_class: OnFault,
        from_sides: bool,
        explain: Callable[[str], str] = lambda word: "",
    ) -> None:
        self.source, self.invalid, self.unknown_class, self.from_sides = source, invalid, unknown_class, from_sides
        self.explain = explain
        self.rejected: Counter[str] = Counter()
        self._index: dict[str, int] = {}
        self._paths: list[str] = []
        self._done: list[tuple[NDArray[Any], ...]] = []
        self._batch: list[tuple[int, int, Any, Any]] = []
        self._rows = 0

    def image(self, image_id: str, path: str = "") -> int:
        """The index of an image, new or known; ``path`` is its file's, if the source says."""
        index = self._index.setdefault(image_id, len(self._index))
        if index == len(self._paths):
            self._paths.append(path)
        return index

    def knows(self, image_id: str) -> bool:
        """Whether the image was met before."""
        return image_id in self._index

    def add(self, image: int, label: int, score: Any, box: Any, class_word: str = "") -> None:
        """One row; ``label`` -1 is an unknown class, ``class_word`` what the file calls it."""
        if label < 0:
            if self.unknown_class == "error":
                raise UserError(
                    f"{self.source}: class {brief(class_word)} is not in the data set{self.explain(class_word)}; map "
                    "it to one of its classes, or leave such detections out with --unknown-classes skip"
                )
            self.rejected[UNKNOWN_CLASS] += 1
            return
        self._batch.append((image, label, score, box))
        if len(self._batch) >= _BATCH:
            self._flush()

    def table(self) -> DetectionTable:
        """Everything gathered."""
        self._flush()
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4)))
        image, labels, scores, boxes = (np.concatenate(parts) for parts in zip(empty, *self._done, strict=True))
        self._done = []
        if self.from_sides:
            sides = boxes[:, 2:].copy()
            boxes[:, 2:] += boxes[:, :2]
        else:
            sides = boxes[:, 2:] - boxes[:, :2]
        for column in (image, labels, scores, boxes, sides):
            column.flags.writeable = False
        paths = tuple(self._paths) if any(self._paths) else ()
        return DetectionTable(tuple(self._index), image, labels, scores, boxes, sides, dict(self.rejected), paths)

    def _flush(self) -> None:
        good, n = self._batch, len(self._batch)
        scores, boxes = _numbers([row[2] for row in good], (n,)), _numbers([row[3] for row in good], (n, 4))
        if scores is None or boxes is None:
            good = [row for number, row in enumerate(good, self._rows + 1) if self._check(number, *row)]
            scores = np.array([float(row[2]) for row in good])
            boxes = np.array([row[3] for row in good], np.float64).reshape(-1, 4)
        image, labels = (np.array([row[column] for row in good], np.int64) for column in (0, 1))
        self._done.append((image, labels, scores, boxes))
        self._rows += n
        self._batch = []

    def _check(self, number: int, image: int, label: int, score: Any, box: Any) -> bool:
        if not is_number(score):
            reason, value = BAD_SCORE, score
        elif not (isinstance(box, list | tuple) and len(box) == 4 and all(is_number(x) for x in box)):
            reason, value = BAD_BOX, box
        else:
            return True
        if self.invalid == "error":
            name = next(name for name, index in self._index.items() if index == image)
            raise UserError(
                f"{self.source}: detection {number} (image {brief(name)}): {reason}: {brief(value)}; mend "
                "the file, or leave such detections out with --invalid skip"
            )
        self.rejected[reason] += 1
        return False


def is_number(value: Any) -> bool:
    """Whether ``value`` is a score, a pixel or an area: finite and not beyond all measure."""
    # NaN is not below anything.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < TOO_LARGE


def _numbers(values: list[Any], shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """``values`` as finite float64 of this shape, or None where one of them is anything else."""
    # Text and truth values would become numbers without a word.
    flat = chain.from_iterable(values) if len(shape) == 2 else values
    try:
        if not set(map(type, flat)) <= {int, float}:
            return None
        array = np.array(values)
    except (TypeError, ValueError, OverflowError):
        return None
    if array.dtype.kind not in "iuf" or array.shape != shape:
        return None
    numbers = array.astype(np.float64, copy=False)
    return numbers if (np.abs(numbers) < TOO_LARGE).all() else None
