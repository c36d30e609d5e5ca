"""Words of others, as from a data set or a file, made fit for a terminal, for JSON and for names of files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import reprlib
import unicodedata
from typing import Any

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 100
_BRIEF.maxlong = 40
_BRIEF.maxlevel = 3

JSON_FAULTS = (ValueError, RecursionError)
"""What ``json`` raises at text that is no JSON, or that it cannot hold: ``JSONDecodeError`` is a ``ValueError``."""

# No encoding can write lone surrogates (Python has them for the bytes of file names that are no UTF-8); DEL and C1 are
# control characters to a terminal, and the last ones turn the direction of writing. JSON has escapes for all of them.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_LONGEST = 200
"""Bytes; file systems commonly end at 255, and a suffix follows."""

_UNSAFE = re.compile(r'[/\\<>:"|?*]' if os.name == "nt" else r"[/\\]")
_UNSAFE_KINDS = ("Cc", "Cs", "Zl", "Zp")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


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


# --- JSON -------------------------------------------------------------------------------------------------------------


def json_fault(error: Exception) -> str:
    """One of ``JSON_FAULTS`` in words."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return "a number of too many digits"


def json_text(value: Any, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """``value`` as JSON, letters as they are; ``json.loads`` gives back every string, lone surrogates included.

    Raises:
        ValueError: NaN or infinity in ``value``; JSON has neither.
        TypeError: something that JSON has no form for.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# --- names of files ---------------------------------------------------------------------------------------------------


def path_part(name: str) -> str:
    """``name`` as one part of a path that every file system takes: itself where it is one already.

    Names that come from data (ids, splits, file names in annotations) may be anything, ``../../.profile`` included.
    What is written under the result lies directly in the folder that it was meant for.

    Otherwise separators, line breaks, control characters, lone surrogates and a leading dot become ``_``, spaces at the
    ends go, a long name is cut, and a digest of the whole name follows, so that different names stay different.
    """
    safe = "".join("_" if unicodedata.category(letter) in _UNSAFE_KINDS else letter for letter in name)
    safe = _UNSAFE.sub("_", safe).strip()
    if safe.startswith("."):
        safe = "_" + safe[1:]
    if os.name == "nt":
        safe = safe.rstrip(". ")
        safe = f"_{safe}" if _DEVICES.fullmatch(safe) else safe
    safe = safe.encode()[:_LONGEST].decode(errors="ignore")
    if safe == name and safe:
        return name
    return f"{safe or '_'}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"


def path_parts(name: str) -> str:
    """``a/b``, an id made of the folders that a file was found in, with each part as :func:`path_part` has it."""
    return "/".join(path_part(part) for part in name.split("/"))
