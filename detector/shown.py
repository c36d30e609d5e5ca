"""Words of others, as from a data set or a file, made fit for a terminal and for messages of one line."""

from __future__ import annotations

import reprlib
import unicodedata
from typing import Any

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 100
_BRIEF.maxlong = 40
_BRIEF.maxlevel = 3


def shown(text: str, most: int = 200) -> str:
    """``text`` with what a terminal would obey or cannot write (control characters, surrogates...) as escapes.

    Of more than ``most`` characters the first ones are shown.
    """
    if len(text) > most:
        text = text[: most - 3] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text)


def brief(value: Any) -> str:
    """A value as it stands in Python, on one line, shortened where it is long or deep."""
    return shown(_BRIEF.repr(value))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
