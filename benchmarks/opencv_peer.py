"""Selective search of OpenCV's ximgproc, composed through its own API from the strategies of the paper.

Needs a contrib build of OpenCV, which must not share an environment with the project's own OpenCV wheel.
"""

from __future__ import annotations

import ctypes

import cv2
import numpy as np


def _planes(rgb, space):
    return cv2.cvtColor(rgb, {"HSV": cv2.COLOR_RGB2HSV_FULL, "Lab": cv2.COLOR_RGB2Lab}[space])


def composed(rgb, scale=1, measures=("CTSF", "TSF")):
    """OpenCV's boxes ``(N, 4)`` with the strategies of the paper's Fast: HSV and Lab, k = min_size, CTSF and TSF."""
    make = cv2.ximgproc.segmentation
    search = make.createSelectiveSearchSegmentation()
    for space in ("HSV", "Lab"):
        search.addImage(_planes(rgb, space))
    for k in (50 * scale, 100 * scale):
        search.addGraphSegmentation(make.createGraphSegmentation(0.8, float(k), int(k)))
    strategy = {
        "C": make.createSelectiveSearchSegmentationStrategyColor,
        "T": make.createSelectiveSearchSegmentationStrategyTexture,
        "S": make.createSelectiveSearchSegmentationStrategySize,
        "F": make.createSelectiveSearchSegmentationStrategyFill,
    }
    for letters in measures:
        parts = [strategy[letter]() for letter in letters]
        search.addStrategy(make.createSelectiveSearchSegmentationStrategyMultiple(*parts))
    return _corners(search.process())


def switched(rgb, mode):
    """OpenCV's own ``fast`` or ``quality``."""
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(rgb[:, :, ::-1]))
    {"fast": search.switchToSelectiveSearchFast, "quality": search.switchToSelectiveSearchQuality}[mode]()
    return _corners(search.process())


def seed(number=0):
    """Its ranking draws from the C library's ``rand``, which only this can seed."""
    ctypes.CDLL(None).srand(number)


def superpixels(rgb, space, k, min_size):
    """OpenCV's superpixels of a colour space, numbered by first appearance as ours: labels ``(H, W)`` int32."""
    labels = cv2.ximgproc.segmentation.createGraphSegmentation(0.8, k, min_size).processImage(_planes(rgb, space))
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.argsort(np.argsort(first))
    return np.ascontiguousarray(number[inverse].reshape(labels.shape).astype(np.int32))


def neighbours(labels):
    """The pairs ``(E, 2)`` int32 of regions that OpenCV calls neighbours.

    It compares a pixel with the ones to the left, above, and above to the left; the first row and column are left out.
    """
    here = labels[1:, 1:].ravel()
    pairs = np.concatenate([np.stack([here, other.ravel()], axis=1) for other in
                            (labels[1:, :-1], labels[:-1, 1:], labels[:-1, :-1])])  # fmt: skip
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.ascontiguousarray(np.unique(pairs, axis=0).astype(np.int32))


def texture(planes):
    """OpenCV's texture filter in the form of our signed bins ``(C, 4, H, W)``: see ``proposals.regions.texture_bins``.

    Scharr derivatives of the 8-bit planes, the diagonal ones taken on the plane turned by 45 degrees and turned back.
    The positive and the negative half of each are stretched over 0-255 by their own extreme; our range is fixed.
    """
    channels, height, width = planes.shape
    center = np.array([width, height]) / 2
    corners = cv2.boxPoints((tuple(center), (width, height), 45.0))
    size = (np.ceil(corners.max(axis=0)) - np.floor(corners.min(axis=0)) + 1).astype(int)
    turn = cv2.getRotationMatrix2D(tuple(center), 45.0, 1.0)
    turn[:, 2] += size / 2 - center
    back = cv2.getRotationMatrix2D(tuple(size / 2), -45.0, 1.0)
    left, top = (size - [width, height]) // 2
    bins = np.empty((channels, 4, height, width), np.uint8)
    for channel, plane in enumerate(planes):
        turned = cv2.warpAffine(plane, turn, tuple(size.tolist()))
        for axis, (dx, dy) in enumerate(((1, 0), (0, 1))):
            bins[channel, 2 * axis] = _signed_bins(cv2.Scharr(plane, cv2.CV_32F, dx, dy))
            diagonal = cv2.warpAffine(cv2.Scharr(turned, cv2.CV_32F, dx, dy), back, tuple(size.tolist()))
            bins[channel, 2 * axis + 1] = _signed_bins(diagonal[top : top + height, left : left + width])
    return bins


def _signed_bins(slope):
    bins = np.full(slope.shape, 9, np.int64)
    lowest, highest = min(float(slope.min()), 0.0), max(float(slope.max()), 0.0)
    if highest > 0:
        bins += np.rint(np.maximum(slope, 0) * (255 / highest)).astype(np.int64) * 10 // 256
    if lowest < 0:
        # OpenCV's lowest value becomes 0 and 0 becomes 255, so the bins count from the other end.
        bins -= 9 - np.rint((np.minimum(slope, 0) - lowest) * (-255 / lowest)).astype(np.int64) * 10 // 256
    return bins.astype(np.uint8)


def _corners(rectangles):
    boxes = np.asarray(rectangles, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
