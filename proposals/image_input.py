"""Any picture in a numpy array, as the RGB bytes that selective search works on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposals.errors import UserError

# Edges are numbered by int32, four to a pixel.
MAX_PIXELS = 2**29 - 1


def as_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """``image`` as a contiguous ``(H, W, 3)`` uint8 array; a copy is made only where needed.

    Args:
        image: ``(H, W, 3)`` RGB, or ``(H, W)`` or ``(H, W, 1)`` grey; uint8, uint16 over its whole range, bool, or
            float in [0, 1].

    Raises:
        UserError: anything else: other shapes and types, no pixel, too many pixels, floats out of range or not finite.
    """
    if not isinstance(image, np.ndarray):
        raise UserError(f"the image must be a numpy array, not {type(image).__name__}; use numpy.asarray(image)")
    if image.ndim == 3 and image.shape[2] == 4:
        raise UserError("the image has 4 channels; blend or drop the alpha channel: image[:, :, :3]")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise UserError(f"the image must have shape (H, W, 3) or (H, W), not {image.shape}")
    if image.size == 0:
        raise UserError(f"the image has no pixels: its shape is {image.shape}")
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise UserError(f"the image has more than {MAX_PIXELS:,} pixels; make it smaller first")
    if image.dtype == np.uint8:
        values = image
    elif image.dtype == np.bool_:
        values = image.astype(np.uint8) * np.uint8(255)
    elif image.dtype == np.uint16:
        values = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        if not (low >= 0.0 and high <= 1.0):
            raise UserError(f"a float image must lie in [0, 1], not {low:g} to {high:g}; convert it to uint8")
        values = np.rint(image.astype(np.float32) * 255).astype(np.uint8)
    else:
        raise UserError(f"the image must be uint8, uint16, bool or float in [0, 1], not {image.dtype}")
    if values.ndim == 2:
        values = values[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))
