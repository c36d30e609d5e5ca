"""What the files of videos say of themselves: is a Matroska file whole, is an MP4 file shown in part?"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_OPENED = frozenset((0x18538067, 0x1F43B675))  # Segment and Cluster: what is in them is looked at
_PASSED = frozenset(
    (
        *(0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF),
        *(0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0x5854),  # of a Cluster
    )
)
_SLACK = 0.05  # seconds: durations are rounded, each to its own clock


def matroska_is_whole(path: Path) -> bool:
    """Whether nothing is missing or foreign between the elements of a file, up to its end.

    The frames themselves are passed over.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        while file.tell() < end:
            kind, size = _number(file, whole=True), _number(file)
            if kind not in _OPENED | _PASSED or size is None or file.tell() + size > end:
                return False
            if kind in _PASSED:
                file.seek(size, os.SEEK_CUR)
    return True


def _number(file: BinaryIO, *, whole: bool = False) -> int | None:
    """A number of variable length: zeros before its first one say how many bytes follow. None at the end of the file.

    Args:
        whole: with the bits of the length, as element ids are written. All ones otherwise mean a size that was not
            known when a stream was written, and give 0.
    """
    first = file.read(1)
    length = 9 - first[0].bit_length() if first else 9
    data = first + file.read(length - 1)
    if length > 8 or len(data) < length:
        return None
    value, mask = int.from_bytes(data, "big"), (1 << 7 * length) - 1
    return value if whole else 0 if value & mask == mask else value & mask


def mp4_shows_parts_only(path: Path) -> bool:
    """Whether a video track of the file is shown in part, or in several parts.

    False also where the file is none of this kind or damaged: then its count of frames is all there is to go by.
    """
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        movie = _find(data, b"moov")
        clock = _clock(_find(movie, b"mvhd"))[0]
        return any(_is_partly_shown(body, clock) for kind, body in _boxes(movie) if kind == b"trak")
    except (OSError, ValueError, struct.error, LookupError, ZeroDivisionError):  # ValueError: an empty file
        return False


def _is_partly_shown(track: memoryview, movie_clock: int) -> bool:
    media = _find(track, b"mdia")
    if bytes(_find(media, b"hdlr")[8:12]) != b"vide":
        return False
    clock, duration = _clock(_find(media, b"mdhd"))
    try:
        edits = _find(_find(track, b"edts"), b"elst")
    except LookupError:
        return False
    layout = ">Qqi" if edits[0] == 1 else ">Iii"  # of an entry: duration on the movie's clock, start, rate
    entries = struct.unpack_from(">I", edits, 4)[0]
    body = edits[8 : 8 + entries * struct.calcsize(layout)]
    shown = [length for length, start, _ in struct.iter_unpack(layout, body) if start >= 0]  # -1: an empty stretch
    return len(shown) > 1 or sum(shown) / movie_clock < duration / clock - _SLACK


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each box in ``data``, up to one that says no size."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:  # the size follows, in 64 bits
            head, size = 16, struct.unpack_from(">Q", data, at + 8)[0]
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size


def _find(data: memoryview, kind: bytes) -> memoryview:
    for found, body in _boxes(data):
        if found == kind:
            return body
    raise LookupError(kind)


def _clock(header: memoryview) -> tuple[int, int]:
    """Ticks a second, and the duration in ticks, of ``mvhd`` or ``mdhd``."""
    clock, duration = struct.unpack_from(">IQ", header, 20) if header[0] == 1 else struct.unpack_from(">II", header, 12)
    return clock, duration
