"""Detections and truths of many images as flat columns.

The protocols work on these tables: one row per box, float64 throughout, so that numbers read from a file keep every
digit they had there. A box is kept twice, as corners (VOC, ILSVRC) and as width and height (COCO), because
``(x + w) - x`` is not always ``w`` and the official tools each start from their own file's numbers.

Images are put into a canonical order (by number where every id is one, else by text), so that no result depends on
the order in which images were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.types import Detections, GroundTruth
from proposals.types import check_array


def _put(record: object, name: str, value: object) -> None:
    object.__setattr__(record, name, value)


def _freeze(record: object, name: str, dtype: type, shape: tuple[int | None, ...]) -> None:
    array = getattr(record, name)
    if isinstance(array, np.ndarray) and array.flags.owndata and not array.flags.writeable:
        owner = type(record).__name__
        if array.dtype == np.dtype(dtype) and array.ndim == len(shape):
            if any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
                raise ValueError(f"{owner}.{name} must have shape {shape}, not {array.shape}")
            return  # already frozen: tables of millions of rows are not copied again
    _put(record, name, check_array(type(record).__name__, name, array, dtype, shape))


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
        n = len(self.boxes)
        for name, dtype, shape in (
            ("image", np.int64, (n,)),
            ("labels", np.int64, (n,)),
            ("scores", np.float64, (n,)),
            ("boxes", np.float64, (n, 4)),
            ("sides", np.float64, (n, 2)),
        ):
            _freeze(self, name, dtype, shape)
        _check_images(self.image_ids, self.image)
        bad = ~(np.isfinite(self.scores) & np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.sides).all(axis=1))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"detection {row} (image {self.image_ids[self.image[row]]!r}) has a score or box that is not finite: "
                f"score {self.scores[row]}, box {self.boxes[row].tolist()}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def arranged(self, image_ids: tuple[str, ...], image: NDArray[np.int64], rows: NDArray[np.int64]) -> DetectionTable:
        """The rows ``rows`` ``(R,)`` in that order; ``image`` ``(N,)`` is each old row's index into ``image_ids``."""
        return DetectionTable(
            image_ids=image_ids,
            image=_take(image, rows),
            labels=_take(self.labels, rows),
            scores=_take(self.scores, rows),
            boxes=_take(self.boxes, rows),
            sides=_take(self.sides, rows),
        )

    @classmethod
    def of(cls, detections: Mapping[str, Detections] | DetectionTable) -> DetectionTable:
        """The table of ``{image_id: Detections}``; a table is returned as it is."""
        if isinstance(detections, DetectionTable):
            return detections
        values = list(detections.values())
        boxes = _stack([d.boxes for d in values], 4)
        return cls(
            tuple(detections),
            np.repeat(np.arange(len(values)), [len(d) for d in values]).astype(np.int64),
            np.concatenate([np.zeros(0, np.int64), *(d.labels for d in values)]),
            np.concatenate([np.zeros(0), *(d.scores for d in values)]),
            boxes,
            boxes[:, 2:] - boxes[:, :2],
        )


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
        n = len(self.boxes)
        for name, dtype, shape in (
            ("image_sizes", np.int64, (len(self.image_ids), 2)),
            ("image", np.int64, (n,)),
            ("labels", np.int64, (n,)),
            ("boxes", np.float64, (n, 4)),
            ("sides", np.float64, (n, 2)),
            ("ignore", np.bool_, (n,)),
            ("crowd", np.bool_, (n,)),
            ("area", np.float64, (n,)),
        ):
            _freeze(self, name, dtype, shape)
        _check_images(self.image_ids, self.image)
        bad = ~(np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.sides).all(axis=1) & np.isfinite(self.area))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"an object of image {self.image_ids[self.image[row]]!r} has a box that is not finite")
        if len(self.labels) and self.labels.min() < 0:
            row = int(np.argmin(self.labels))
            raise ValueError(f"an object of image {self.image_ids[self.image[row]]!r} has a negative label")

    def __len__(self) -> int:
        return len(self.boxes)

    def arranged(self, order: Sequence[int], image: NDArray[np.int64], rows: NDArray[np.int64]) -> TruthTable:
        """Images in ``order`` ``(I,)`` and rows in ``rows`` ``(R,)``; ``image`` ``(M,)`` each old row's new image."""
        return TruthTable(
            image_ids=tuple(self.image_ids[i] for i in order),
            image_sizes=_take(self.image_sizes, np.array(order, np.int64)),
            image=_take(image, rows),
            labels=_take(self.labels, rows),
            boxes=_take(self.boxes, rows),
            sides=_take(self.sides, rows),
            ignore=_take(self.ignore, rows),
            crowd=_take(self.crowd, rows),
            area=_take(self.area, rows),
            rejected=self.rejected,
        )

    @classmethod
    def of(cls, truth: Mapping[str, GroundTruth] | TruthTable) -> TruthTable:
        """The table of ``{image_id: GroundTruth}``; a table is returned as it is."""
        if isinstance(truth, TruthTable):
            return truth
        values = list(truth.values())
        boxes = _stack([t.boxes for t in values], 4)
        none = np.zeros(0, np.bool_)
        return cls(
            tuple(truth),
            np.zeros((len(truth), 2), np.int64),
            np.repeat(np.arange(len(values)), [len(t) for t in values]).astype(np.int64),
            np.concatenate([np.zeros(0, np.int64), *(t.labels for t in values)]),
            boxes,
            boxes[:, 2:] - boxes[:, :2],
            np.concatenate([none, *(t.ignore for t in values)]),
            np.concatenate([none, *(t.crowd for t in values)]),
            np.concatenate([np.zeros(0), *(t.area for t in values)]),
        )


def _take(column: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    taken = column[rows]
    taken.flags.writeable = False  # ours alone, so the table need not copy it
    return taken


def _stack(arrays: list[NDArray[np.float32]], columns: int) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((0, columns)), *arrays]).astype(np.float64, copy=False)


def _check_images(image_ids: tuple[str, ...], image: NDArray[np.int64]) -> None:
    if len(set(image_ids)) != len(image_ids):
        seen: set[str] = set()
        twice = next(name for name in image_ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"image id {twice!r} occurs more than once")
    if len(image) and (image.min() < 0 or image.max() >= len(image_ids)):
        raise ValueError("a row's image index is outside image_ids")


def canonical_order(image_ids: Sequence[str]) -> list[int]:
    """Positions of ``image_ids`` in canonical order: by number where every id is a plain integer, else by text."""
    if all(name.isdecimal() and name.isascii() for name in image_ids):
        # A number with more digits is greater; Python refuses to convert thousands of digits.
        digits = [name.lstrip("0") for name in image_ids]
        return sorted(range(len(image_ids)), key=lambda i: (len(digits[i]), digits[i], image_ids[i]))
    return sorted(range(len(image_ids)), key=lambda i: image_ids[i])
