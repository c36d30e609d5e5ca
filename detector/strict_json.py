"""JSON read with its faults told in a few words, and written so that any file name survives."""

from __future__ import annotations

import json
from typing import Any

JSON_FAULTS = (ValueError, RecursionError)
"""What ``json`` raises at text that is no JSON, or that it cannot hold: ``JSONDecodeError`` is a ``ValueError``."""


def json_fault(error: Exception) -> str:
    """One of ``JSON_FAULTS`` in words."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return "a number of too many digits"


def dump_json(value: Any) -> str:
    """JSON without NaN that UTF-8 can hold: readable, or in ASCII where a lone surrogate (a name that is no UTF-8) is.

    Raises:
        ValueError: NaN or an infinity.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text
