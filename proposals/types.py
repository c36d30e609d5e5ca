"""What a proposal source returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Source(IntEnum):
    """Where a box came from; the codes are stored on disk, so they never change."""

    GIVEN = 0
    SELECTIVE_SEARCH = 1
    MULTIBOX = 2


def check_array(owner: str, name: str, array: Any, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """A read-only copy of ``array``, which must have this dtype and shape (``None``: any length).

    Raises:
        TypeError: not an array of ``dtype``. ValueError: another shape.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype):
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{owner}.{name} must be a numpy array of {np.dtype(dtype)}, not {found}")
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        expected = "(" + ", ".join("N" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
        raise ValueError(f"{owner}.{name} must have shape {expected}, not {array.shape}")
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def check_image_size(owner: str, image_size: Any) -> tuple[int, int]:
    """``image_size`` as a tuple of two positive ints (height, width); anything else raises ValueError."""
    try:
        height, width = (int(n) for n in image_size)
    except (TypeError, ValueError):
        raise ValueError(f"{owner}.image_size must be (height, width), not {image_size!r}") from None
    if height < 1 or width < 1:
        raise ValueError(f"{owner}.image_size must be positive (height, width), not {image_size!r}")
    return height, width


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Boxes that may hold an object, best first.

    Attributes:
        boxes: ``(N, 4)`` float32, ``x1 y1 x2 y2`` in pixels of the image, finite.
        scores: ``(N,)`` float32, higher is better; they compare only within one source.
        source: ``(N,)`` uint8, codes of :class:`Source`.
        image_size: (height, width) in pixels.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    source: NDArray[np.uint8]
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        n = len(self.boxes) if isinstance(self.boxes, np.ndarray) else None
        put: Callable[[str, Any], None] = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("boxes", check_array("Proposals", "boxes", self.boxes, np.float32, (None, 4)))
        put("scores", check_array("Proposals", "scores", self.scores, np.float32, (n,)))
        put("source", check_array("Proposals", "source", self.source, np.uint8, (n,)))
        put("image_size", check_image_size("Proposals", self.image_size))
        if not np.isfinite(self.boxes).all():
            raise ValueError("Proposals.boxes must be finite")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def empty(cls, image_size: tuple[int, int]) -> Proposals:
        """No proposals for an image of ``image_size`` (height, width)."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint8), image_size)

    def select(self, index: Any) -> Proposals:
        """The proposals at ``index``: a slice, a boolean mask ``(N,)`` or integers."""
        return Proposals(self.boxes[index], self.scores[index], self.source[index], self.image_size)


class ProposalSource(Protocol):
    """Anything that proposes boxes for an image by looking at it alone: selective search, resized or from a store."""

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        """Proposals for ``image`` ``(H, W, 3)`` uint8 RGB."""
        ...
