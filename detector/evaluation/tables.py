"""Detections and truths of many images as flat columns.

The protocols work on these tables: one row per box, float64 throughout, so that numbers read from a file keep every
digit they had there. A box is kept twice, as corners (VOC, ILSVRC) and as width and height (COCO), because
``(x + w) - x`` is not always ``w`` and the official tools each start from their own file's numbers.

Images are put into a canonical order (by number where every id is one, else by text), so that no result depends on
the order in which images were given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.types import Detections, GroundTruth
from proposals.types import check_array

_Layout = Mapping[str, tuple[type, tuple[int, ...]]]
"""The type of each column, and the shape of one of its rows."""
_BOTH: _Layout = {
    "image": (np.int64, ()),
    "labels": (np.int64, ()),
    "boxes": (np.float64, (4,)),
    "sides": (np.float64, (2,)),
}
_DETECTIONS: _Layout = {**_BOTH, "scores": (np.float64, ())}
_TRUTHS: _Layout = {**_BOTH, "ignore": (np.bool_, ()), "crowd": (np.bool_, ()), "area": (np.float64, ())}


@dataclass(frozen=True, slots=True, eq=False)
class DetectionTable:
    """Detections of many images.

    Attributes:
        image_ids: the images that the table speaks of, each once; some may have no row.
        image: ``(N,)`` int64, index into ``image_ids``.
        labels: ``(N,)`` int64; -1 is a class that the data set does not have.
        scores: ``(N,)`` float64, finite.
        boxes: ``(N, 4)`` float64, ``x1 y1 x2 y2`` in pixels, half-open, finite; an inverted box is allowed and can
            match nothing.
        sides: ``(N, 2)`` float64, width and height as their source gave them.
        rejected: rows of a file that did not become a row here, by reason; counted in the result.
        paths: the file of each image as the source names it, "" where it does not; or none at all.
    """

    image_ids: tuple[str, ...]
    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    sides: NDArray[np.float64]
    rejected: dict[str, int] = field(default_factory=dict)
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze(self, _DETECTIONS)
        finite = np.isfinite(self.scores) & np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.sides).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise ValueError(
                f"detection {row} (image {self.image_ids[self.image[row]]!r}) has a score or box that is not finite: "
                f"score {self.scores[row]}, box {self.boxes[row].tolist()}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def arranged(self, image_ids: tuple[str, ...], image: NDArray[np.int64], rows: NDArray[np.int64]) -> DetectionTable:
        """The rows ``rows`` ``(R,)`` in that order; ``image`` ``(N,)`` is each old row's index into ``image_ids``."""
        return DetectionTable(image_ids, **_taken(self, _DETECTIONS, image, rows))

    @classmethod
    def of(cls, detections: Mapping[str, Detections] | DetectionTable) -> DetectionTable:
        """The table of ``{image_id: Detections}``; a table is returned as it is."""
        if isinstance(detections, DetectionTable):
            return detections
        return cls(tuple(detections), **_joined(list(detections.values()), _DETECTIONS))


@dataclass(frozen=True, slots=True, eq=False)
class TruthTable:
    """Annotated objects of many images.

    Attributes:
        image_ids: every image of the data set, each once; an image without objects has no row but its detections count.
        image_sizes: ``(I, 2)`` int64, (height, width) of each image; 0 where unknown.
        image: ``(M,)`` int64, index into ``image_ids``. labels: ``(M,)`` int64 in [0, K).
        boxes: ``(M, 4)`` float64, ``x1 y1 x2 y2`` in pixels, half-open. sides: ``(M, 2)`` float64, width and height.
        ignore, crowd: ``(M,)`` bool, as in :class:`detector.types.GroundTruth`. area: ``(M,)`` float64.
        rejected: objects of a file that did not become a row here, by reason; counted in the result.
    """

    image_ids: tuple[str, ...]
    image_sizes: NDArray[np.int64]
    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    sides: NDArray[np.float64]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    rejected: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = check_array("TruthTable", "image_sizes", self.image_sizes, np.int64, (len(self.image_ids), 2))
        object.__setattr__(self, "image_sizes", sizes)
        _freeze(self, _TRUTHS)
        finite = np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.sides).all(axis=1) & np.isfinite(self.area)
        for fine, fault in ((finite, "a box that is not finite"), (self.labels >= 0, "a negative label")):
            if not fine.all():
                raise ValueError(f"an object of image {self.image_ids[self.image[np.argmin(fine)]]!r} has {fault}")

    def __len__(self) -> int:
        return len(self.boxes)

    def arranged(self, order: Sequence[int], image: NDArray[np.int64], rows: NDArray[np.int64]) -> TruthTable:
        """Images in ``order`` ``(I,)`` and rows in ``rows`` ``(R,)``; ``image`` ``(M,)`` each old row's new image."""
        return TruthTable(
            image_ids=tuple(self.image_ids[i] for i in order),
            image_sizes=self.image_sizes[order],
            rejected=self.rejected,
            **_taken(self, _TRUTHS, image, rows),
        )

    @classmethod
    def of(cls, truth: Mapping[str, GroundTruth] | TruthTable) -> TruthTable:
        """The table of ``{image_id: GroundTruth}``; a table is returned as it is."""
        if isinstance(truth, TruthTable):
            return truth
        sizes = np.zeros((len(truth), 2), np.int64)
        return cls(tuple(truth), sizes, **_joined(list(truth.values()), _TRUTHS))


def _freeze(table: DetectionTable | TruthTable, columns: _Layout) -> None:
    """Check the columns of ``table`` and make them read-only."""
    for name, (dtype, shape) in columns.items():
        array, whole = getattr(table, name), (len(table.boxes), *shape)
        ours = isinstance(array, np.ndarray) and array.flags.owndata and not array.flags.writeable
        if not (ours and array.dtype == dtype and array.shape == whole):  # millions of rows are not copied again
            object.__setattr__(table, name, check_array(type(table).__name__, name, array, dtype, whole))
    ids, image = table.image_ids, table.image
    if len(set(ids)) != len(ids):
        twice = next(name for name, n in Counter(ids).items() if n > 1)
        raise ValueError(f"image id {twice!r} occurs more than once")
    if len(image) and (image.min() < 0 or image.max() >= len(ids)):
        raise ValueError("a row's image index is outside image_ids")


def _taken(
    table: DetectionTable | TruthTable, columns: _Layout, image: NDArray[np.int64], rows: NDArray[np.int64]
) -> dict[str, Any]:
    """The rows ``rows`` of the columns, with ``image`` in the place of the table's own."""
    taken = {name: (image if name == "image" else getattr(table, name))[rows] for name in columns}
    for column in taken.values():
        column.flags.writeable = False  # ours alone, so the new table need not copy it
    return taken


def _joined(records: Sequence[Detections | GroundTruth], columns: _Layout) -> dict[str, Any]:
    """The columns of the images' ``records``, one after another."""
    joined = {
        name: np.concatenate([np.zeros((0, *shape), dtype), *(getattr(record, name) for record in records)])
        for name, (dtype, shape) in columns.items()
        if name not in ("image", "sides")
    }
    image = np.repeat(np.arange(len(records)), [len(record) for record in records]).astype(np.int64)
    return {**joined, "image": image, "sides": joined["boxes"][:, 2:] - joined["boxes"][:, :2]}


def canonical_order(image_ids: Sequence[str]) -> list[int]:
    """Positions of ``image_ids`` in canonical order: by number where every id is a plain integer, else by text."""
    if all(name.isdecimal() and name.isascii() for name in image_ids):
        # A number with more digits is greater; Python refuses to convert thousands of digits.
        digits = [name.lstrip("0") for name in image_ids]
        return sorted(range(len(image_ids)), key=lambda i: (len(digits[i]), digits[i], image_ids[i]))
    return sorted(range(len(image_ids)), key=lambda i: image_ids[i])
