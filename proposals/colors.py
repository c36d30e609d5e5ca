"""The eight colour spaces of selective search, each as 8-bit planes.

Every channel is stretched over 0-255, so that one smoothing, one ``k`` and one set of histogram bins serve all of them.

========  ========  ==============================================================================
space     channels  meaning
========  ========  ==============================================================================
``RGB``   3         as given
``I``     1         intensity, 0.299 R + 0.587 G + 0.114 B
``Lab``   3         CIE L*a*b* of sRGB under D65: L * 2.55, a + 128, b + 128
``rgI``   3         r and g of ``rgb``, and ``I``
``HSV``   3         hue (255 is just short of the full turn), saturation, value
``rgb``   3         each channel's share in R + G + B; black counts as grey
``C``     2         opponent colours with intensity divided out: (R - G) / S and (R + G - 2 B) / S, S = R + G + B
``H``     1         the hue of ``HSV``
========  ========  ==============================================================================

Source: Uijlings et al., Selective Search for Object Recognition, IJCV 2013, section 3.2. The paper does not say how the
spaces are scaled, and the authors released that part obfuscated; the scaling is this project's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit, types
from numpy.typing import NDArray

_PLANES = types.Array(types.uint8, 3, "C")
_IMAGE = types.Array(types.uint8, 3, "C", readonly=True)


def to_planes(image: NDArray[np.uint8], space: str) -> NDArray[np.uint8]:
    """``image`` ``(H, W, 3)`` uint8 RGB, contiguous, in one of the colour spaces above: planes ``(C, H, W)`` uint8."""

    if space == "RGB":
        return _planes(image)
    if space == "Lab":
        return _planes(cv2.cvtColor(image, cv2.COLOR_RGB2Lab))
    if space in ("HSV", "H"):
        hsv = _planes(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
        return hsv if space == "HSV" else hsv[:1]
    if space == "I":
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[None]  # type: ignore[no-any-return]
    if space == "C":
        return _opponent(image)  # type: ignore[no-any-return]
    if space not in ("rgb", "rgI"):
        raise ValueError(f"unknown colour space {space!r}")
    shares = _shares(image)
    if space == "rgI":
        shares[2] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return shares  # type: ignore[no-any-return]


def _planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


@njit(_PLANES(_IMAGE), cache=True, nogil=True)
def _shares(image):  # type: ignore[no-untyped-def]
    height, width = image.shape[:2]
    out = np.empty((3, height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            total = np.int32(image[y, x, 0]) + image[y, x, 1] + image[y, x, 2]
            for c in range(3):
                out[c, y, x] = np.uint8(85) if total == 0 else np.uint8((510 * image[y, x, c] + total) // (2 * total))
    return out


@njit(_PLANES(_IMAGE), cache=True, nogil=True)
def _opponent(image):  # type: ignore[no-untyped-def]
    height, width = image.shape[:2]
    out = np.empty((2, height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            red, green, blue = np.int32(image[y, x, 0]), np.int32(image[y, x, 1]), np.int32(image[y, x, 2])
            total = red + green + blue
            # The first lies in [-1, 1], the second in [-2, 1].
            first = 0.0 if total == 0 else (red - green) / total
            second = 0.0 if total == 0 else (red + green - 2 * blue) / total
            out[0, y, x] = np.uint8(np.floor((first + 1.0) * 127.5 + 0.5))
            out[1, y, x] = np.uint8(np.floor((second + 2.0) * 85.0 + 0.5))
    return out
