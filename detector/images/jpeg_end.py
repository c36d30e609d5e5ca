"""JPEG files that lack their last bytes.

Cameras and downloads now and then lose the two bytes of the marker that ends a JPEG. All of the picture is there, and
viewers show it. A file that has lost more is a picture with a grey or smeared part.

A decoder that runs out of data makes some up. So the picture is whole if it does not matter what is put behind the
data: it is decoded with the end marker alone and with noise before the marker, and all must give the same pixels.
"""

from __future__ import annotations

import hashlib
import io
import re

from PIL import JpegImagePlugin

_END = b"\xff\xd9"
_RANDOM = b"\xa5\x3c\x5a\xc3\x0f\x69\x96\xe1" * 8
# Two kinds of noise, each bit of one the opposite of the other's. A decoder that waits for one of the eight restart
# markers begins to read again after that one; if it finds the next or the next but one instead, it makes up what is
# between, so the markers stand in another order in each.
_NOISES = tuple(
    noise + b"".join(bytes((0xFF, 0xD0 + (first + i) % 8)) + noise for i in range(8))
    for noise, first in ((_RANDOM, 0), (bytes(255 - byte for byte in _RANDOM), 4))
)
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # a marker that is neither a stuffed byte nor a restart
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = 0xC2
_SCAN = 0xDA
_STRIP = 256  # rows


def with_end(data: bytes) -> bytes | None:
    """``data``, a JPEG without its end marker, with one; None if something of the picture is missing, or nothing is."""
    if data.endswith(_END):
        return None
    data = data.rstrip(b"\xff")  # half of the marker
    if not _has_every_scan(data):
        return None
    digest = _digest(data + _END)
    whole = digest is not None and all(_digest(data + noise + _END) == digest for noise in _NOISES)
    return data + _END if whole else None


def _digest(data: bytes) -> bytes | None:
    """Of the pixels; None if they cannot be decoded. A picture is decoded at a time, so that one fits where one did."""
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
            image.load()
            digest = hashlib.blake2b()
            for top in range(0, image.height, _STRIP):
                digest.update(image.crop((0, top, image.width, min(top + _STRIP, image.height))).tobytes())
            return digest.digest()
    except Exception:  # decoders of damaged files raise anything at all
        return None


def _has_every_scan(data: bytes) -> bool:
    """Whether scans of all coefficients of all components begin in ``data``; a cut may fall between two scans."""
    missing: dict[int, set[int]] = {}
    progressive = False
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
            continue
        body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        at += 4 + len(body)
        if marker in _FRAMES:
            progressive = marker == _PROGRESSIVE
            missing = {component: set(range(64)) for component in body[6::3]}
        elif marker == _SCAN:
            count = body[0] if body else 0
            if len(body) < 4 + 2 * count:
                return False
            first, last, precision = body[1 + 2 * count : 4 + 2 * count]
            for component in body[1 : 1 + 2 * count : 2]:
                if not progressive:
                    missing.pop(component, None)
                elif precision & 15 == 0:  # no later scan refines these
                    missing.get(component, set()).difference_update(range(first, last + 1))
            end = _SCAN_END.search(data, at)
            if end is None:
                break
            at = end.start()
    return not any(missing.values())
