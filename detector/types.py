"""What the detector returns and what it is measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposals.types import check_array, check_image_size


def _freeze(record: object, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(record, name, value)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Objects found in one image, by descending score (stable).

    Attributes:
        boxes: ``(N, 4)`` float32, ``x1 y1 x2 y2`` in pixels of the image, finite.
        scores: ``(N,)`` float32, finite, descending.
        labels: ``(N,)`` int64 in ``[0, K)``.
        image_size: (height, width) in pixels.
        class_names: the words of the labels, K of them, or none.
        to_html: makes what Jupyter shows in place of the arrays; a model's results have it, see
            :func:`detector.detection.pipeline.drawn`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    image_size: tuple[int, int]
    class_names: tuple[str, ...] = ()
    to_html: Callable[[Detections], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n = len(self.boxes) if isinstance(self.boxes, np.ndarray) else None
        boxes = check_array("Detections", "boxes", self.boxes, np.float32, (None, 4))
        scores = check_array("Detections", "scores", self.scores, np.float32, (n,))
        labels = check_array("Detections", "labels", self.labels, np.int64, (n,))
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("Detections.boxes and Detections.scores must be finite")
        if len(labels) and labels.min() < 0:
            raise ValueError("Detections.labels must not be negative")
        if np.any(scores[1:] > scores[:-1]):
            raise ValueError("Detections must be sorted by descending score; use Detections.sorted()")
        size = check_image_size("Detections", self.image_size)
        _freeze(self, boxes=boxes, scores=scores, labels=labels, image_size=size)

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def empty(cls, image_size: tuple[int, int]) -> Detections:
        """No detections in an image of ``image_size`` (height, width)."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), image_size)

    @classmethod
    def sorted(
        cls,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        labels: NDArray[np.int64],
        image_size: tuple[int, int],
    ) -> Detections:
        """Detections from arrays in any order; ties keep the input's order."""
        order = np.argsort(-scores, kind="stable")
        return cls(boxes[order], scores[order], labels[order], image_size)

    def select(self, index: Any) -> Detections:
        """The detections at ``index``: a slice, a boolean mask ``(N,)`` or ascending integers."""
        return replace(self, boxes=self.boxes[index], scores=self.scores[index], labels=self.labels[index])

    def resized(self, image_size: tuple[int, int]) -> Detections:
        """The same objects in a copy of the image of another ``image_size`` (height, width)."""
        if image_size == self.image_size:
            return self
        height, width = image_size
        factor = np.array([width / self.image_size[1], height / self.image_size[0]] * 2)
        boxes = (self.boxes * factor).clip(0, [width, height, width, height]).astype(np.float32)
        return replace(self, boxes=boxes, image_size=image_size)

    @property
    def names(self) -> list[str]:
        """The class of each detection in words, N of them; its number where ``class_names`` has none."""
        known = len(self.class_names)
        return [self.class_names[label] if label < known else str(label) for label in self.labels.tolist()]

    def _repr_html_(self) -> str | None:
        return None if self.to_html is None else self.to_html(self)

    def to_torchvision(self) -> dict[str, Any]:
        """``{"boxes": (N, 4) float32, "scores": (N,) float32, "labels": (N,) int64}`` as torch tensors."""
        import torch

        return {
            "boxes": torch.tensor(self.boxes),
            "scores": torch.tensor(self.scores),
            "labels": torch.tensor(self.labels),
        }

    def to_coco(self, image_id: int | str, category_ids: list[int] | None = None) -> list[dict[str, Any]]:
        """Entries of a COCO results file: ``bbox`` is ``[x, y, width, height]``.

        Args:
            image_id: the image's id. category_ids: the category of each label; by default label + 1.
        """
        entries = []
        for (x1, y1, x2, y2), score, label in zip(
            self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
        ):
            category = category_ids[label] if category_ids is not None else label + 1
            entries.append(
                {"image_id": image_id, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            )
        return entries

    def to_supervision(self) -> Any:
        """``supervision.Detections`` with ``xyxy``, ``confidence``, ``class_id`` and ``data["class_name"]``."""
        import supervision

        names = {"class_name": np.array(self.names, np.str_)}
        return supervision.Detections(self.boxes.copy(), None, self.scores.copy(), self.labels.copy(), data=names)

    @classmethod
    def from_supervision(cls, found: Any, image_size: tuple[int, int], class_names: tuple[str, ...] = ()) -> Detections:
        """From ``supervision.Detections``; where they have no ``confidence`` it is 1, without a ``class_id`` 0."""
        n = len(found)
        scores = np.ones(n) if found.confidence is None else found.confidence
        labels = np.zeros(n) if found.class_id is None else found.class_id
        boxes = np.asarray(found.xyxy, np.float32).reshape(n, 4)
        made = cls.sorted(boxes, np.asarray(scores, np.float32), np.asarray(labels, np.int64), image_size)
        return replace(made, class_names=class_names)

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame``, a row for each detection: label, class_name, score, x1, y1, x2, y2."""
        import pandas

        columns = {"label": self.labels, "class_name": self.names, "score": self.scores}
        corners = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))
        return pandas.DataFrame({**columns, **corners})


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """The annotated objects of one image.

    Attributes:
        boxes: ``(N, 4)`` float32, ``x1 y1 x2 y2`` in pixels of the image.
        labels: ``(N,)`` int64 in ``[0, K)``.
        ignore: ``(N,)`` bool; VOC's "difficult": neither rewarded nor punished.
        crowd: ``(N,)`` bool; COCO's "iscrowd": one box around many objects.
        area: ``(N,)`` float64, square pixels; COCO's segment area where known, otherwise the box's.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.boxes) if isinstance(self.boxes, np.ndarray) else None
        _freeze(
            self,
            boxes=check_array("GroundTruth", "boxes", self.boxes, np.float32, (None, 4)),
            labels=check_array("GroundTruth", "labels", self.labels, np.int64, (n,)),
            ignore=check_array("GroundTruth", "ignore", self.ignore, np.bool_, (n,)),
            crowd=check_array("GroundTruth", "crowd", self.crowd, np.bool_, (n,)),
            area=check_array("GroundTruth", "area", self.area, np.float64, (n,)),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(cls, boxes: NDArray[np.float32], labels: NDArray[np.int64]) -> GroundTruth:
        """Plain objects: nothing ignored, no crowds, the boxes' own areas."""
        n = len(boxes)
        sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
        return cls(boxes, labels, np.zeros(n, np.bool_), np.zeros(n, np.bool_), sides[:, 0] * sides[:, 1])

    def select(self, index: Any) -> GroundTruth:
        """The objects at ``index``: a slice, a boolean mask ``(N,)`` or integers."""
        return GroundTruth(
            self.boxes[index], self.labels[index], self.ignore[index], self.crowd[index], self.area[index]
        )


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One image of a data set.

    Attributes:
        image_id: unique in the data set. path: the picture's file. image_size: (height, width) in pixels.
        ground_truth: its annotated objects, possibly none.
    """

    image_id: str
    path: Path
    image_size: tuple[int, int]
    ground_truth: GroundTruth
