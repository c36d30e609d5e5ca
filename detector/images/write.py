"""The one writer of pictures: sheets, and images with boxes drawn in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_FORMATS = {".jpg": "JPEG", ".png": "PNG"}


def write_picture(path: Path, picture: NDArray[np.uint8], quality: int = 90) -> None:
    """Write ``picture`` ``(H, W, 3)`` uint8 RGB as its ending says, ``.jpg`` or ``.png``.

    It is encoded in memory: where the disk is full, Pillow ends a JPEG file in silence, half of it missing.

    Raises:
        OSError: the disk is full, or not writable; there is no file then.
    """
    data = io.BytesIO()
    Image.fromarray(picture).save(data, _FORMATS[path.suffix], quality=quality)
    try:
        path.write_bytes(data.getvalue())
    except OSError:
        path.unlink(missing_ok=True)
        raise
