"""The eight colour spaces of selective search, each as 8-bit planes.

Every channel is stretched over 0-255, so that one smoothing, one ``k`` and one set of histogram bins serve all of them;
those of ``C`` from an image's own least to its greatest value, the others from the least and greatest possible.

========  ========  ==============================================================================
space     channels  meaning
========  ========  ==============================================================================
``RGB``   3         as given
``I``     1         intensity, 0.299 R + 0.587 G + 0.114 B
``Lab``   3         CIE L*a*b* of sRGB under D65: L * 2.55, a + 128, b + 128
``rgI``   3         r and g of ``rgb``, and ``I``
``HSV``   3         hue (255 is just short of the full turn), saturation, value
``rgb``   3         each channel's share in R + G + B; black counts as grey
``C``     3         two opponent colours of the Gaussian colour model, each divided by intensity; the third is 0
``H``     1         the hue of ``HSV``
========  ========  ==============================================================================

Sources: Uijlings et al., Selective Search for Object Recognition, IJCV 2013, section 3.2, which does not say how the
spaces are scaled; ``C`` as ``Rgb2C.m`` and ``Rgb2Ooo.m`` of the authors' code, after Geusebroek et al., Color
Invariance, PAMI 2001.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit, types
from numpy.typing import NDArray

_PLANES = types.Array(types.uint8, 3, "C")
_IMAGE = types.Array(types.uint8, 3, "C", readonly=True)
# Intensity, then yellow against blue and red against green, of R, G and B in 0-255.
_GAUSSIAN_MODEL = 255 * np.array(
    [
        [0.000233846, 0.00261968, 0.00127135],
        [0.000726333, 0.000718106, -0.00121377],
        [0.000846833, -0.00173932, 0.000221515],
    ],
    np.float32,
)


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
        return _color_invariant(image)
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


def _color_invariant(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Separate products round equal pixels alike; cv2.transform does not, and the stretching would show it.
    red, green, blue = np.moveaxis(image.astype(np.float32), 2, 0)
    intensity, *opponents = (r * red + g * green + b * blue for r, g, b in _GAUSSIAN_MODEL)
    planes = np.zeros((3, *image.shape[:2]), np.uint8)
    for plane, opponent in zip(planes, opponents, strict=False):
        ratio = opponent / (intensity + 1)  # as the authors: black divides by 1
        cv2.normalize(ratio, plane, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    return planes
