"""Pictures for the tests of reading and writing."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image


def picture(height: int = 12, width: int = 17) -> NDArray[np.uint8]:
    """A picture without any symmetry, so that each wrong orientation differs."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x // width, 255 * y // height, (x * 7 + y * 13) % 256], axis=2).astype(np.uint8)


def noise(height: int = 64, width: int = 80) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: Image.Image | NDArray[np.generic], format_name: str = "PNG", **options: object) -> bytes:
    """An image, or an array of pixels, as a file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format_name, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    """EXIF data of this orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif
