"""R-CNN's crop: each region with some context, warped to a square (R-CNN tech report, appendix A).

The same function serves training and detection. The context is ``context_pad`` pixels on every side *in the crop*, so a
crop of side S shows the region scaled to S - 2p. What lies outside the image is filled with the mean colour, which is 0
after normalisation.
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from proposals.boxes import FloatArray

Interpolation = Literal["bilinear", "area", "nearest", "cubic"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
_CV_FLAGS = {
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}


class CropConfig(BaseModel):
    """How a region becomes the network's input.

    Attributes:
        size: side S of the crop in pixels.
        context_pad: context in pixels of the crop, 16 in R-CNN at S = 227; 0 for the tight region.
        mode: "warp" stretches the region to the square; "square" takes its tightest square and keeps its aspect.
        antialias: shrink large regions by area averaging. R-CNN's bilinear sampling skips pixels when it shrinks, which
            at 64 pixels leaves noise of photographs: with ``False`` the crop is R-CNN's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=224, ge=8, le=1024)
    context_pad: int = Field(default=16, ge=0)
    mode: Literal["warp", "square"] = "warp"
    antialias: bool = True

    @model_validator(mode="after")
    def _pad_fits(self) -> CropConfig:
        if 2 * self.context_pad >= self.size:
            raise ValueError(f"context_pad {self.context_pad} leaves no room in a crop of {self.size} pixels")
        return self


def _round(x: FloatArray) -> NDArray[np.int64]:
    """C's round(): halves away from zero."""
    return np.trunc(x + np.copysign(0.5, x)).astype(np.int64)


def context_windows(boxes: FloatArray, config: CropConfig) -> NDArray[np.int64]:
    """The pixels that each crop shows: ``(N, 4)`` int64 ``x1 y1 x2 y2``, half-open, partly outside the image.

    Args:
        boxes: ``(N, 4)``, half-open, in pixels.

    As in R-CNN's code, both rounded corners belong to the window, so it is a pixel wider than the scaled region.
    """
    boxes = boxes.astype(np.float64)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    if config.mode == "square":
        half = np.repeat(half.max(axis=1, keepdims=True), 2, axis=1)
    half = half * (config.size / (config.size - 2 * config.context_pad))
    # A region may shrink to nothing by rounding; its window is then the pixel at its corner.
    return np.concatenate([_round(centre - half), _round(centre + half) + 1], axis=1)


class ImagePyramid:
    """An image and its halvings, made when first asked for; crops of large regions read from a small level."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self._levels = [image]

    def level(self, index: int) -> NDArray[np.uint8]:
        """The image shrunk ``2 ** index`` times, ``(H', W', 3)`` uint8; sides round up."""
        while len(self._levels) <= index:
            image = self._levels[-1]
            half = (max(1, (image.shape[1] + 1) // 2), max(1, (image.shape[0] + 1) // 2))
            self._levels.append(cv2.resize(image, half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0], 3))
        return self._levels[index]


def crop_regions(
    image: NDArray[np.uint8],
    boxes: FloatArray,
    config: CropConfig,
    fill: tuple[int, int, int],
    *,
    interpolations: list[Interpolation] | None = None,
    pyramid: ImagePyramid | None = None,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Crops ``(N, S, S, 3)`` uint8 RGB of ``boxes`` in ``image``.

    Args:
        image: ``(H, W, 3)`` uint8 RGB. boxes: ``(N, 4)``, half-open pixels, finite.
        fill: the mean colour 0..255 in RGB, where the window leaves the image.
        interpolations: one per box, to vary them while training (GoogLeNet, section 6); by default bilinear.
        pyramid: of ``image``, to share between calls for one image. out: where to write, ``(N, S, S, 3)``.
    """
    size = config.size
    crops = np.empty((len(boxes), size, size, 3), np.uint8) if out is None else out
    crops[:] = np.array(fill, np.uint8)
    if pyramid is None:
        pyramid = ImagePyramid(image)
    for index, window in enumerate(context_windows(boxes, config).tolist()):
        flag = cv2.INTER_LINEAR if interpolations is None else _CV_FLAGS[interpolations[index]]
        _warp_into(crops[index], image, window, config.antialias, flag, pyramid)
    return crops


def _warp_into(
    crop: NDArray[np.uint8],
    image: NDArray[np.uint8],
    window: list[int],
    antialias: bool,
    flag: int,
    pyramid: ImagePyramid,
) -> None:
    """Resize the window's part inside the image and paste it at its place in the crop."""
    size, (height, width) = len(crop), image.shape[:2]
    x1, y1, x2, y2 = window
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if right <= left or bottom <= top:
        return
    scale_x, scale_y = size / (x2 - x1), size / (y2 - y1)
    # int(x + 0.5): rounded as in C; all numbers are positive here.
    new_width = min(size, max(1, int((right - left) * scale_x + 0.5)))
    new_height = min(size, max(1, int((bottom - top) * scale_y + 0.5)))
    at_x = min(int((left - x1) * scale_x + 0.5), size - new_width)
    at_y = min(int((top - y1) * scale_y + 0.5), size - new_height)

    if antialias and flag == cv2.INTER_LINEAR:
        shrink_x, shrink_y = (right - left) / new_width, (bottom - top) / new_height
        if max(shrink_x, shrink_y) > 1:
            flag = cv2.INTER_AREA if min(shrink_x, shrink_y) >= 1 else cv2.INTER_LINEAR
        level = 0
        while min(shrink_x, shrink_y) >= 4 * 2**level:  # leave at least 2 pixels to average for each one of the crop
            level += 1
        if level:
            image = pyramid.level(level)
            left, top = left >> level, top >> level
            right = min(image.shape[1], max(left + 1, -(-right >> level)))
            bottom = min(image.shape[0], max(top + 1, -(-bottom >> level)))
    part = image[top:bottom, left:right]
    cv2.resize(
        part, (new_width, new_height), crop[at_y : at_y + new_height, at_x : at_x + new_width], interpolation=flag
    )
