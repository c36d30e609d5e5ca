"""Short videos, whole and damaged."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray


def write_video(path: Path, codec: str, frames: int = 30) -> Path:
    """A clip of a picture that moves, ten frames a second."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    return write_frames(path, codec, [np.roll(picture, 5 * number, 1)[:, :, ::-1] for number in range(frames)])


def write_frames(path: Path, codec: str, frames: Sequence[NDArray[np.uint8]]) -> Path:
    """A clip of ``frames`` ``(H, W, 3)`` uint8 RGB."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 10, (width, height))
    if not writer.isOpened():
        pytest.skip(f"this build of OpenCV does not write {codec}")
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def spoil(path: Path, *numbers: int) -> None:
    """Put noise in the place of some frames of an AVI file."""
    data = bytearray(path.read_bytes())
    at, starts = data.index(b"movi"), []
    while (at := data.find(b"00dc", at + 4)) >= 0 and b"idx1" not in data[:at]:
        starts.append(at)
    for number in numbers:
        length = struct.unpack_from("<I", data, starts[number] + 4)[0]
        begin = starts[number] + 8
        data[begin : begin + length] = np.random.default_rng(number).bytes(length)
    path.write_bytes(bytes(data))
