"""Boxes of the official kits, which name the last pixel inside, and ours, which end where it ends.

Both kits measure ``xmax - xmin + 1``, so widths, heights and overlaps agree exactly; only the origin differs.
"""

from __future__ import annotations

from collections.abc import Sequence

# What the first pixel of an image is called in the kits' annotations and submissions.
VOC_FIRST_PIXEL = 1
ILSVRC_FIRST_PIXEL = 0


def from_inclusive(box: Sequence[float], first_pixel: int) -> list[float]:
    """``xmin ymin xmax ymax`` of a kit as half-open ``x1 y1 x2 y2``."""
    x1, y1, x2, y2 = box
    return [x1 - first_pixel, y1 - first_pixel, x2 + (1 - first_pixel), y2 + (1 - first_pixel)]
