"""Selective search of OpenCV's ximgproc, composed through its own API from the strategies of the paper.

Needs a contrib build of OpenCV, which must not share an environment with the project's own OpenCV wheel.
"""

from __future__ import annotations

import ctypes

import cv2
import numpy as np


def composed(rgb, scale=1):
    """OpenCV's boxes ``(N, 4)`` with the strategies of the paper's Fast: HSV and Lab, k = min_size, CTSF and TSF."""
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.addImage(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL))
    search.addImage(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab))
    make = cv2.ximgproc.segmentation
    for k in (50 * scale, 100 * scale):
        search.addGraphSegmentation(make.createGraphSegmentation(0.8, float(k), int(k)))
    color, texture, texture_2 = (
        make.createSelectiveSearchSegmentationStrategyColor(),
        make.createSelectiveSearchSegmentationStrategyTexture(),
        make.createSelectiveSearchSegmentationStrategyTexture(),
    )
    size, fill = make.createSelectiveSearchSegmentationStrategySize, make.createSelectiveSearchSegmentationStrategyFill
    multiple = make.createSelectiveSearchSegmentationStrategyMultiple
    search.addStrategy(multiple(color, texture, size(), fill()))
    search.addStrategy(multiple(texture_2, size(), fill()))
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


def _corners(rectangles):
    boxes = np.asarray(rectangles, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
