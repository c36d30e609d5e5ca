"""Where the pixels of an image lie in the arrays that the joins of superpixels go through.

Joins visit pixels in no order, and with each pixel a neighbour and the roots of both, which are near it in the image.
In tiles of 4x4 pixels, 16 words of 32 bits, most of these are in one line of the cache; in raster order each row is in
another.
A pixel's *place* is ``rows[y] + columns[x]``; places of tiles that reach beyond the image belong to no pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Images with a side shorter than this are not tiled: much of their tiles might lie outside.
TILED_SIDE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The places of an image's pixels.

    Attributes:
        rows: ``(H,)``, columns: ``(W,)`` uint32, see above.
        steps: ``(64,)`` uint32; the edge ``e`` = ``4 * place + direction`` leads to ``place + steps[e & 63]`` (modulo
            2^32), with the directions right, down, down-right, down-left (0-3).
        places: how many there are, at least ``H W``.
    """

    rows: NDArray[np.uint32]
    columns: NDArray[np.uint32]
    steps: NDArray[np.uint32]
    places: int

    def arrays(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
        """Rows, columns and steps."""
        return self.rows, self.columns, self.steps


def layout_of(height: int, width: int) -> Layout:
    """The layout for an image of this size; the same size has the same layout."""
    return tiles(height, width) if min(height, width) >= TILED_SIDE else raster(height, width)


def raster(height: int, width: int) -> Layout:
    """Row after row."""
    steps = np.tile(np.array([1, width, width + 1, width - 1]), 16)
    return Layout(
        np.arange(height, dtype=np.uint32) * np.uint32(width),
        np.arange(width, dtype=np.uint32),
        steps.astype(np.uint32),
        height * width,
    )


def tiles(height: int, width: int) -> Layout:
    """Row after row of 4x4 tiles, each in raster order."""
    across, down = -(-width // 4), -(-height // 4)
    x, y = np.arange(width), np.arange(height)
    columns = 16 * (x // 4) + x % 4
    rows = 16 * across * (y // 4) + 4 * (y % 4)
    in_tile = np.arange(16)
    right = np.where(in_tile % 4 == 3, 16 - 3, 1)
    left = np.where(in_tile % 4 == 0, -16 + 3, -1)
    below = np.where(in_tile // 4 == 3, 16 * across - 12, 4)
    steps = np.stack([right, below, below + right, below + left], axis=1).reshape(-1)
    return Layout(rows.astype(np.uint32), columns.astype(np.uint32), steps.astype(np.uint32), 16 * across * down)
