"""Words of others, as from a data set or a file, made fit for a terminal and for messages of one line."""

from __future__ import annotations

import reprlib
import unicodedata
from typing import Any

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 100
_BRIEF.maxlong = 40
_BRIEF.maxlevel = 3


def one_line(text: str) -> str:
    """``text`` with what a terminal would obey or cannot write as escapes.

    A name may hold escape sequences, which colour, move, erase or set the window's title; line breaks, signs that turn
    the direction of writing, or bytes that are no UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text)


def shown(text: str, most: int = 200) -> str:
    """As :func:`one_line`; of more than ``most`` characters the first ones."""
    return one_line(text if len(text) <= most else text[: most - 3] + "...")


def brief(value: Any) -> str:
    """A value as it stands in Python, on one line, shortened where it is long or deep."""
    return shown(_BRIEF.repr(value))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
