"""Text for pictures, with the fonts that Pillow and matplotlib bring along: no font of the system is needed."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_ELLIPSIS = "…"
_MISSING = "□"


@cache
def _plain(size: int) -> Font:
    return ImageFont.load_default(size)


@cache
def _wide_path() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _wide(size: int) -> Font:
    return ImageFont.truetype(str(_wide_path()), size)


@cache
def _wide_letters() -> frozenset[int]:
    from matplotlib.font_manager import get_font

    return frozenset(get_font(str(_wide_path())).get_charmap())


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
    return _plain(size) if text.replace(_ELLIPSIS, "").isascii() else _wide(size)


def width_of(text: str, size: int) -> int:
    """Pixels that one line of ``text`` takes."""
    return int(font_for(text, size).getlength(text) + 0.999)


def fit(text: str, size: int, width: int) -> str:
    """``text``, or as much of its start as fits into ``width`` pixels with an ellipsis; or nothing."""
    if width_of(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(text[:middle].rstrip() + _ELLIPSIS, size) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + _ELLIPSIS if low else ""
