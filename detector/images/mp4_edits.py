"""Edit lists of MP4 and MOV files (ISO/IEC 14496-12, 8.6.6): which parts of a track are shown."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_LARGEST = 64 << 20  # of a movie header in bytes; that of hours of video has a few megabytes
_SLACK = 0.05  # seconds: durations are rounded, each to its own clock


def shows_parts_only(path: str) -> bool:
    """Whether a video track of the file is shown in part, or in several parts.

    False also where the file is none of this kind or damaged: then its count of frames is all there is to go by.
    """
    try:
        movie = _movie_header(Path(path))
        clock = _clock(_find(movie, b"mvhd"))[0]
        return any(_is_partly_shown(body, clock) for kind, body in _boxes(movie) if kind == b"trak")
    except (OSError, struct.error, LookupError, ZeroDivisionError):
        return False


def _is_partly_shown(track: bytes, movie_clock: int) -> bool:
    media = _find(track, b"mdia")
    if _find(media, b"hdlr")[8:12] != b"vide":
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


def _movie_header(path: Path) -> bytes:
    """What is in the box ``moov``, which stands at the beginning or the end of the file."""
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            body = size - 8
            if size == 1:  # the size follows, in 64 bits
                body = struct.unpack(">Q", file.read(8))[0] - 16
            if body < 0 or size == 0:  # 0: to the end of the file
                break
            if kind == b"moov":
                return file.read(min(body, _LARGEST))
            file.seek(body, 1)
    raise LookupError("moov")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in ``data``."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _find(data: bytes, kind: bytes) -> bytes:
    for found, body in _boxes(data):
        if found == kind:
            return body
    raise LookupError(kind)


def _clock(header: bytes) -> tuple[int, int]:
    """Ticks a second, and the duration in ticks, of ``mvhd`` or ``mdhd``."""
    clock, duration = struct.unpack_from(">IQ", header, 20) if header[0] == 1 else struct.unpack_from(">II", header, 12)
    return clock, duration
