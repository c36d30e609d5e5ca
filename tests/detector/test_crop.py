"""The crop against a plain reading of R-CNN's formula."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.crop import CropConfig, ImagePyramid, context_windows, crop_regions

FILL = (124, 116, 104)


def c_round(x: float) -> int:
    """C's round(): halves away from zero."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def reference_crop(image: NDArray[np.uint8], box: NDArray[np.float32], size: int, pad: int) -> NDArray[np.uint8]:
    """R-CNN's warp, one box, written after Caffe's window data layer; the box as inclusive corners there."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    x2, y2 = x2 - 1, y2 - 1  # inclusive
    scale = size / (size - 2 * pad)
    half_w, half_h = (x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2
    cx, cy = x1 + half_w, y1 + half_h
    left, right = c_round(cx - half_w * scale), c_round(cx + half_w * scale)
    top, bottom = c_round(cy - half_h * scale), c_round(cy + half_h * scale)
    unclipped_w, unclipped_h = right - left + 1, bottom - top + 1
    pad_x, pad_y = max(0, -left), max(0, -top)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width - 1), min(bottom, height - 1)
    out = np.empty((size, size, 3), np.uint8)
    out[:] = FILL
    if right < left or bottom < top:
        return out
    scale_x, scale_y = size / unclipped_w, size / unclipped_h
    new_w = max(1, c_round((right - left + 1) * scale_x))
    new_h = max(1, c_round((bottom - top + 1) * scale_y))
    at_x, at_y = c_round(pad_x * scale_x), c_round(pad_y * scale_y)
    new_w, new_h = min(new_w, size), min(new_h, size)
    at_x, at_y = min(at_x, size - new_w), min(at_y, size - new_h)
    part = np.ascontiguousarray(image[top : bottom + 1, left : right + 1])
    out[at_y : at_y + new_h, at_x : at_x + new_w] = cv2.resize(part, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    return out


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@given(
    corner=st.tuples(st.integers(-30, 110), st.integers(-30, 80)),
    side=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    setting=st.sampled_from([(227, 16), (224, 16), (64, 5), (32, 0), (17, 3)]),
)
def test_warp_is_rcnns(corner: tuple[int, int], side: tuple[int, int], setting: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    size, pad = setting
    box = np.array([[corner[0], corner[1], corner[0] + side[0], corner[1] + side[1]]], np.float32)
    ours = crop_regions(picture, box, CropConfig(size=size, context_pad=pad, antialias=False), FILL)
    np.testing.assert_array_equal(ours[0], reference_crop(picture, box[0], size, pad))


def test_context_is_a_sixth_at_224() -> None:
    # 224 / (224 - 2 * 16) = 1.1667: a region of 96 pixels is shown with 8 on each side.
    windows = context_windows(np.array([[100, 100, 196, 196]], np.float32), CropConfig(size=224, context_pad=16))
    np.testing.assert_array_equal(windows, [[92, 92, 205, 205]])


def test_outside_is_mean(image: NDArray[np.uint8]) -> None:
    crops = crop_regions(image, np.array([[500, 500, 600, 600]], np.float32), CropConfig(size=32, context_pad=2), FILL)
    assert (crops == np.array(FILL, np.uint8)).all()


def test_square_keeps_aspect() -> None:
    windows = context_windows(
        np.array([[10, 20, 110, 60]], np.float32), CropConfig(size=64, context_pad=0, mode="square")
    )
    np.testing.assert_array_equal(windows, [[10, -10, 111, 91]])


def test_batch_equals_one_by_one(image: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(2)
    corners = rng.uniform(-10, 80, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 100, (40, 2))], axis=1).astype(np.float32)
    config = CropConfig(size=24, context_pad=2)
    together = crop_regions(image, boxes, config, FILL, pyramid=ImagePyramid(image))
    for box, crop in zip(boxes, together, strict=True):
        np.testing.assert_array_equal(crop_regions(image, box[None], config, FILL)[0], crop)


def test_no_boxes(image: NDArray[np.uint8]) -> None:
    assert crop_regions(image, np.zeros((0, 4), np.float32), CropConfig(size=16, context_pad=2), FILL).shape == (
        0,
        16,
        16,
        3,
    )


def test_antialias_averages_what_bilinear_skips() -> None:
    # A fine checkerboard shrunk 32 times is grey; bilinear sampling without averaging sees single pixels.
    y, x = np.mgrid[:1024, :1024]
    board = np.repeat((((y + x) % 2) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    box = np.array([[0, 0, 1023, 1023]], np.float32)
    smooth = crop_regions(board, box, CropConfig(size=32, context_pad=0), FILL)
    assert np.abs(smooth.astype(int) - 127).max() <= 3


def test_antialias_leaves_enlarging_alone(image: NDArray[np.uint8]) -> None:
    box = np.array([[30, 30, 50, 50]], np.float32)
    with_it, without = (
        crop_regions(image, box, CropConfig(size=64, context_pad=4, antialias=a), FILL) for a in (True, False)
    )
    np.testing.assert_array_equal(with_it, without)


def test_antialias_keeps_the_place_of_large_regions() -> None:
    # A gradient, shrunk by the pyramid and by plain area averaging, agrees to a grey level or two.
    ramp = np.repeat(np.linspace(0, 255, 1600).astype(np.uint8)[None, :, None], 1200, axis=0).repeat(3, axis=2)
    box = np.array([[203, 101, 1405, 1003]], np.float32)
    crop = crop_regions(ramp, box, CropConfig(size=48, context_pad=0), FILL)[0]
    plain = cv2.resize(ramp[101:1004, 203:1406], (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(crop.astype(int) - plain.astype(int)).max() <= 2


@pytest.mark.parametrize("interpolation", ["bilinear", "area", "nearest", "cubic"])
def test_interpolations_differ_only_in_resampling(image: NDArray[np.uint8], interpolation: str) -> None:
    config = CropConfig(size=40, context_pad=0)
    box = np.array([[0, 0, 39, 39]], np.float32)  # the window is 40 pixels: nothing to resample
    crop = crop_regions(image, box, config, FILL, interpolations=[interpolation])  # type: ignore[list-item]
    np.testing.assert_array_equal(crop[0], image[:40, :40])


def test_pad_must_fit() -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        CropConfig(size=32, context_pad=16)
