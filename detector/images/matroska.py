"""The elements of Matroska and WebM files (RFC 8794, RFC 9559): do they fit together to the end of the file?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_OPENED = frozenset((0x18538067, 0x1F43B675))  # Segment and Cluster: what is in them is looked at
_PASSED = frozenset(
    (
        *(0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF),
        *(0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0x5854),  # of a Cluster
    )
)


def is_whole(path: Path) -> bool:
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
