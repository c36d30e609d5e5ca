"""The frames of a video, and how many of them could not be read.

A frame that cannot be decoded does not end the video: reading goes on to the number of frames that the file announces.

Frames that a decoder passes over in silence, and those that a file has lost at its end, are told by that number. AVI,
MP4 and MOV hold it, unless an edit list shows parts only (a clip that a phone trimmed). Matroska, WebM and MPEG hold
a duration at best, of which frames at a steady rate must fill most; in a damaged Matroska or WebM file, all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.images.containers import matroska_is_whole, mp4_shows_parts_only
from proposals.errors import UserError

SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"))
_MP4_SUFFIXES = frozenset((".mp4", ".m4v", ".mov"))
_MATROSKA_SUFFIXES = frozenset((".mkv", ".webm"))

MOST_FAILURES = 1000
"""Frames in a row that cannot be read before the rest is given up: a damaged header may announce billions."""


class Video:
    """A video file.

    Args:
        path: of the file; it is opened when frames are asked for.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def announced(self) -> int:
        """The number of frames that the header tells, right or wrong; 0 where it tells none.

        Raises:
            UserError: the file cannot be opened as a video.
        """
        capture = self._open()
        try:
            return _announced(capture)
        finally:
            capture.release()

    def frames(self, step: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Number and pixels ``(H, W, 3)`` uint8 RGB of every ``step``-th frame from the first, 0.

        Raises:
            UserError: the file cannot be opened as a video or none of its frames can be read; or, after the last
                frame, some of them could not be read.
        """
        import cv2

        capture = self._open()
        announced, rate = _announced(capture), float(capture.get(cv2.CAP_PROP_FPS))
        number = good = failed = in_a_row = regular = 0
        last = 0.0  # seconds
        try:
            while in_a_row < MOST_FAILURES:
                if not capture.grab():
                    if number >= announced:
                        break
                    in_a_row += 1
                else:
                    failed, in_a_row = failed + in_a_row, 0  # what failed before a good frame was no end
                    before, last = last, float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
                    regular += abs((last - before) * rate - 1) < 0.1
                    read, image = capture.retrieve() if number % step == 0 else (True, None)
                    good += read
                    failed += not read
                    if read and image is not None:
                        yield number, np.ascontiguousarray(image[:, :, ::-1])
                number += 1
        finally:
            capture.release()
        if not good:
            raise UserError(f"{self.path}: no frame of this video can be decoded; convert it to H.264 in .mp4")
        steady = 2 * regular > good
        if self._lacks(announced - good, announced, rate, last, steady):
            failed = max(failed, announced - good)
        if failed > 0:
            raise UserError(
                f"{self.path}: {failed} of {max(announced, good + failed)} frames could not be read (the file is cut "
                "short or damaged); copy it again"
            )

    def _lacks(self, missing: int, announced: int, rate: float, last: float, steady: bool) -> bool:
        """Whether ``missing`` of ``announced`` frames are lost and not only announced in error.

        Args:
            rate: frames a second. last: time of the last frame in seconds. steady: most frames follow at that rate.
        """
        suffix = Path(self.path).suffix.lower()
        if suffix in _MP4_SUFFIXES:
            return missing > 0 and not mp4_shows_parts_only(Path(self.path))
        if suffix == ".avi":
            return missing > 0
        if suffix in _MATROSKA_SUFFIXES and missing > 0 and not matroska_is_whole(Path(self.path)):
            return True
        if not rate > 0:
            return False
        duration = announced / rate
        if last < duration - max(1.0, 0.05 * duration):  # sound may last a little longer than the frames
            return True
        return steady and missing > max(rate, 0.1 * announced)

    def _open(self) -> Any:
        """The video, opened quietly: OpenCV's own complaints would stand beside our one line."""
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        try:
            with Path(self.path).open("rb"):
                pass
        except OSError as error:
            raise UserError(f"{self.path}: cannot read: {error.strerror}") from None
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(self.path)
        if not capture.isOpened():
            raise UserError(f"{self.path}: not a video that can be decoded; convert it to H.264 in .mp4")
        return capture


def _announced(capture: Any) -> int:
    import cv2

    return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
