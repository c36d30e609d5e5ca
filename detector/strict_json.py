"""JSON: the faults of what is read in a few words, and what is written so that any text survives."""

from __future__ import annotations

import json
import re
from typing import Any

JSON_FAULTS = (ValueError, RecursionError)
"""What ``json`` raises at text that is no JSON, or that it cannot hold: ``JSONDecodeError`` is a ``ValueError``."""


# No encoding can write lone surrogates (Python has them for the bytes of file names that are no UTF-8); DEL and C1 are
# control characters to a terminal, and the last ones turn the direction of writing. JSON has escapes for all of them.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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
