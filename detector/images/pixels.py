"""From a decoded Pillow picture of any mode to upright RGB, and from RGB to a file.

Strip by strip: beside the decoded picture and the result stands nothing of their size, which for a photograph of
12000 x 9000 pixels would be hundreds of megabytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.strict_yaml import write_whole

_STRIP = 1 << 20  # pixels
_BITS_PER_SAMPLE_TAG = 258


def upright_rgb(file: Image.Image, orientation: int, factor: int = 1) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8, contiguous, writable.

    Args:
        file: decoded, in any of Pillow's modes. orientation: EXIF's, 1 to 8, of its pixels.
        factor: each square of so many pixels becomes one, their mean; sides round up.
    """
    width, height = (-(-side // factor) for side in file.size)
    result = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)
    stored = _as_stored(result, orientation)
    for top, strip in _rgb_strips(file, factor):
        if factor > 1:
            strip = np.asarray(Image.fromarray(strip).reduce(factor))
        stored[top // factor : top // factor + len(strip)] = strip
    return result


def _as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A view of an upright picture with rows and columns as they lie in a file of ``orientation``."""
    if orientation >= 5:
        upright = upright.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 6, 7) else 1
    columns = -1 if orientation in (2, 3, 7, 8) else 1
    return upright[::rows, ::columns]


def _strips(file: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """First row and picture of each strip; all heights but the last are multiples of ``factor``."""
    rows = max(1, _STRIP // (file.width * factor)) * factor
    if rows >= file.height:
        yield 0, file
        return
    for top in range(0, file.height, rows):
        yield top, file.crop((0, top, file.width, min(top + rows, file.height)))


def _rgb_strips(file: Image.Image, factor: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """First row and pixels ``(h, W, 3)`` uint8 RGB of each strip."""
    to_bytes = _grey_scale(file) if file.mode in ("I", "F") or file.mode.startswith("I;16") else None
    for top, strip in _strips(file, factor):
        if to_bytes is not None:
            grey = to_bytes(np.asarray(strip))
            yield top, np.ascontiguousarray(np.broadcast_to(grey[:, :, None], (*grey.shape, 3)))
            continue
        if strip.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in strip.info:
            rgba = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
        yield top, np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _grey_scale(file: Image.Image) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """What makes bytes of the values of a grey picture with more than eight bits."""
    if file.mode.startswith("I;16"):
        bits = _bits_per_sample(file)
        return lambda values: (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if file.mode == "I" and file.format in ("PNG", "PPM"):  # 16 bits in Pillow's 32
        return lambda values: (values >> 8).clip(0, 255).astype(np.uint8)
    ranges = [(float(values.min()), float(values.max())) for _, strip in _strips(file) for values in [_finite(strip)]]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)

    def scaled(values: NDArray[Any]) -> NDArray[np.uint8]:
        values = _finite(values)
        if low < 0 or high > 1:
            values = (values - low) / (high - low) if high > low else np.zeros_like(values)
        return np.rint(values * 255).astype(np.uint8)

    return scaled


def _finite(values: Any) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(values).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _bits_per_sample(file: Image.Image) -> int:
    tags = getattr(file, "tag_v2", None)
    bits = tags.get(_BITS_PER_SAMPLE_TAG, (16,)) if tags is not None else (16,)
    first = bits[0] if isinstance(bits, tuple) else bits
    return first if first in range(9, 17) else 16


def write_picture(path: Path, picture: NDArray[np.uint8], quality: int = 90) -> None:
    """Write ``picture`` ``(H, W, 3)`` uint8 RGB as its ending says, ``.jpg`` or ``.png``, whole or not at all.

    It is encoded in memory: where the disk is full, Pillow ends a JPEG file in silence, half of it missing.

    Raises:
        OSError: the disk is full, or not writable.
    """
    data = io.BytesIO()
    Image.fromarray(picture).save(data, {".jpg": "JPEG", ".png": "PNG"}[path.suffix], quality=quality)
    write_whole(path, data.getvalue())
