"""Box priors: the boxes that MultiBox's outputs start from.

A prior is a box relative to the image, ``x1 y1 x2 y2`` with 0 and 1 at the image's borders, and a deviation: the unit
of the network's outputs, so that a box is ``prior + deviation * output``. Global priors are the k-means centres of a
data set's boxes (Erhan et al., Scalable Object Detection using Deep Neural Networks, CVPR 2014); :func:`grid_priors`
are those of the convolutional net (Szegedy et al., Scalable, High-Quality Object Detection, 2014).

Two text formats: the toolkit's own, whose head says how many boxes follow, and google/multibox's ``ipriors800.txt``
with one line "deviation mean" for each coordinate. Both are read by :func:`read_priors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proposals.boxes import as_boxes, is_valid
from proposals.errors import UserError

HEAD = "# box priors: x1 y1 x2 y2 relative to the image, then the deviation of each"
LEAST_DEVIATION = 0.01  # that of google/multibox's priors; where clusters have no spread, outputs still need a unit
OUTSIDE = 0.5  # priors further beyond the image are in pixels, or wrong
GRIDS = (8, 6, 4, 3, 2, 1)
SHAPES_PER_CELL = 11


@dataclass(frozen=True, slots=True, eq=False)
class Priors:
    """Box priors.

    Attributes:
        boxes: ``(K, 4)`` float32, ``x1 y1 x2 y2`` relative to the image's width and height. deviation: ``(K, 4)``
            float32, positive, in the same units.
    """

    boxes: NDArray[np.float32]
    deviation: NDArray[np.float32]

    def __post_init__(self) -> None:
        boxes, deviation = as_boxes(self.boxes).copy(), as_boxes(self.deviation).copy()
        if not len(boxes) or boxes.shape != deviation.shape:
            raise ValueError(f"Priors: {len(boxes)} boxes and {len(deviation)} deviations")
        fault = _fault(boxes, deviation)
        if fault is not None:
            raise ValueError(f"Priors: prior {fault[0] + 1} {fault[1]}")
        for name, array in (("boxes", boxes), ("deviation", deviation)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.boxes)


def _fault(boxes: NDArray[np.float32], deviation: NDArray[np.float32]) -> tuple[int, str] | None:
    """The first prior that cannot be one, and why."""
    tests = (
        (np.isfinite(boxes).all(axis=1) & np.isfinite(deviation).all(axis=1), "has a value that is not finite"),
        (is_valid(boxes), "is inverted or without area (it should be x1 y1 x2 y2)"),
        ((np.abs(boxes - 0.5) <= 0.5 + OUTSIDE).all(axis=1), "lies far outside 0..1 (it should be relative)"),
        ((deviation > 0).all(axis=1), "has a deviation that is not positive"),
    )
    faults = [(int(np.argmin(good)), why) for good, why in tests if not good.all()]
    return min(faults, key=lambda fault: fault[0]) if faults else None


def relative_boxes(boxes: ArrayLike, image_sizes: ArrayLike) -> NDArray[np.float32]:
    """Boxes ``(N, 4)`` in pixels of images of ``image_sizes`` ``(N, 2)`` (height, width), relative to those images."""
    sizes = np.asarray(image_sizes, np.float32).reshape(-1, 2)
    return as_boxes(boxes) / sizes[:, [1, 0, 1, 0]]


def fit(boxes: ArrayLike, k: int, *, seed: int = 0) -> Priors:
    """K-means centres of a data set's boxes, by descending area.

    Args:
        boxes: ``(N, 4)`` relative to their images; see :func:`relative_boxes`. k: the number of priors, at least 1.
        seed: of the first centres.

    Returns:
        Priors whose deviation is one number, the boxes' root mean square distance from their centres per coordinate.

    Raises:
        UserError: no boxes, values that are not finite, inverted boxes, or fewer distinct boxes than ``k``.
    """
    array = as_boxes(boxes)
    if k < 1:
        raise UserError(f"the number of priors must be at least 1, not {k}")
    if not len(array):
        raise UserError("no boxes to fit priors to: the data hold no usable object")
    good = is_valid(array)
    if not good.all():
        row = int(np.argmin(good))
        raise UserError(f"box {row + 1} of {len(array)} is not finite or has no area: {array[row].tolist()}")
    distinct = len(np.unique(array, axis=0))
    if distinct < k:
        raise UserError(f"{k} priors cannot be fitted to {distinct} distinct boxes; ask for at most {distinct}")
    from sklearn.cluster import KMeans

    means = KMeans(k, n_init=1, random_state=seed).fit(array.astype(np.float64))
    spread = float(np.sqrt(means.inertia_ / array.size))
    centres = means.cluster_centers_
    sides = centres[:, 2:] - centres[:, :2]
    order = np.lexsort((*centres.T[::-1], -sides.prod(axis=1)))
    deviation = np.full((k, 4), max(spread, LEAST_DEVIATION), np.float32)
    return Priors(centres[order].astype(np.float32), deviation)


def grid_priors(
    grids: Sequence[int] = GRIDS,
    shapes: int = SHAPES_PER_CELL,
    scale: tuple[float, float] = (0.1, 0.95),
    aspect: float = 4.0,
) -> Priors:
    """Priors on grids of cells: ``shapes`` in every cell of each grid and one in a grid of a single cell; 1,420.

    Args:
        grids: cells along a side, finest first. shapes: per cell, all of one area, aspects from 1 / ``aspect`` to
            ``aspect`` in equal ratios. scale: square root of the area, first and last grid; linear between them.

    A box that leaves the image is cut symmetrically, so that it keeps its centre. The order is grid, row, column,
    shape. The deviation is the scale of the prior's grid, so that the outputs mean the same for small and large boxes.
    """
    boxes, deviations = [], []
    for cells, side in zip(grids, np.linspace(*scale, len(grids)), strict=True):
        ratios = np.geomspace(1 / aspect, aspect, shapes) if cells > 1 else np.ones(1)
        place = (np.arange(cells) + 0.5) / cells
        y, x, ratio = np.meshgrid(place, place, ratios, indexing="ij")
        centre = np.stack([x, y], axis=-1).reshape(-1, 2)
        half = side / 2 * np.stack([np.sqrt(ratio), 1 / np.sqrt(ratio)], axis=-1).reshape(-1, 2)
        half = np.minimum(half, np.minimum(centre, 1 - centre))
        boxes.append(np.concatenate([centre - half, centre + half], axis=1))
        deviations.append(np.full((len(centre), 4), side))
    return Priors(np.concatenate(boxes).astype(np.float32), np.concatenate(deviations).astype(np.float32))


def write_priors(path: Path, priors: Priors) -> None:
    """Write ``priors`` in the toolkit's format; :func:`read_priors` gives the same numbers back."""
    rows = np.concatenate([priors.boxes, priors.deviation], axis=1)
    lines = [HEAD, f"priors {len(priors)}", *(" ".join(repr(float(v)) for v in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_google_priors(path: Path, priors: Priors) -> None:
    """Write ``priors`` as google/multibox does: a line "deviation mean" for each coordinate of each box in turn."""
    pairs = np.stack([priors.deviation.reshape(-1), priors.boxes.reshape(-1)], axis=1)
    path.write_text("".join(f"{float(d)!r} {float(m)!r}\n" for d, m in pairs), encoding="utf-8")


def read_priors(path: Path, count: int | None = None) -> Priors:
    """The priors in a text file of either format.

    Args:
        count: how many there must be, if that is known.

    Raises:
        UserError: unreadable, a wrong number of lines or values, values that are not finite, or an inverted box.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such priors file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason})") from None
    rows = [(i, line.split()) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not rows:
        raise UserError(f"{path}: holds no priors")
    if rows[0][1][0] == "priors":
        table = _numbers(path, rows[1:], 8)
        told = rows[0][1][1][:60] if len(rows[0][1]) == 2 else ""
        if told != str(len(table)):
            shown = (told if told.isprintable() else repr(told)) or "no number of"
            raise UserError(f"{path}: its head tells of {shown} priors but {len(table)} follow")
        boxes, deviation = table[:, :4], table[:, 4:]
    else:
        table = _numbers(path, rows, 2)
        if len(table) % 4:
            raise UserError(f"{path}: {len(table)} lines; each prior has 4, 'deviation mean' of x1 y1 x2 y2")
        boxes, deviation = table[:, 1].reshape(-1, 4), table[:, 0].reshape(-1, 4)
    fault = _fault(boxes, deviation) if len(boxes) else (0, "is missing")
    if fault is not None:
        raise UserError(f"{path}: prior {fault[0] + 1} of {len(boxes)} {fault[1]}")
    if count is not None and len(boxes) != count:
        raise UserError(f"{path}: {len(boxes)} priors where {count} are needed")
    return Priors(boxes, deviation)


def _numbers(path: Path, rows: list[tuple[int, list[str]]], columns: int) -> NDArray[np.float32]:
    table = np.zeros((len(rows), columns), np.float32)
    for i, (line, words) in enumerate(rows):
        if len(words) != columns:
            raise UserError(f"{path}: line {line} has {len(words)} numbers, not {columns}")
        try:
            with np.errstate(over="ignore"):  # a number beyond float32 is infinite, which is told of below
                table[i] = [float(word) for word in words]
        except ValueError:
            raise UserError(f"{path}: line {line} is not made of numbers: {' '.join(words)[:60]!r}") from None
    return table
