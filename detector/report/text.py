"""Text for pictures, with the fonts that Pillow and matplotlib bring along: no font of the system is needed."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_ELLIPSIS = "…"
_MISSING = "□"


@cache
def _wide_path() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@cache
def _wide_letters() -> frozenset[int]:
    from matplotlib.font_manager import get_font

    return frozenset(get_font(_wide_path()).get_charmap())


def drawable(text: str, instead: str = "") -> str:
    """``text`` on one line, as far as the fonts can draw it.

    Pillow's font has the letters of ASCII; matplotlib's has those of the Latin, Greek, Cyrillic, Hebrew, Arabic,
    Armenian and Georgian alphabets and many signs. Any other letter becomes a hollow square; a text with none but
    such letters becomes ``instead`` if that is given. Control characters and line breaks become spaces.
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join(" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in text)
    if text.isascii():
        return text
    known = [c.isascii() or ord(c) in _wide_letters() for c in text]
    if instead and not any(k and not c.isspace() for k, c in zip(known, text, strict=True)):
        return instead
    return "".join(c if k else _MISSING for k, c in zip(known, text, strict=True))


def font_for(text: str, size: int) -> Font:
    """The font of ``size`` pixels that has the letters of ``text``."""
    return _font(text.replace(_ELLIPSIS, "").isascii(), size)


@cache
def _font(plain: bool, size: int) -> Font:
    return ImageFont.load_default(size) if plain else ImageFont.truetype(_wide_path(), size)


def width_of(text: str, size: int) -> int:
    """Pixels that one line of ``text`` takes."""
    return int(font_for(text, size).getlength(text) + 0.999)


def fit(text: str, size: int, width: int) -> str:
    """``text``, or as much of its start as fits into ``width`` pixels with an ellipsis; or nothing."""
    if width_of(text, size) <= width:
        return text
    count = bisect_right(range(1, len(text) + 1), width, key=lambda n: width_of(text[:n].rstrip() + _ELLIPSIS, size))
    return text[:count].rstrip() + _ELLIPSIS if count else ""
