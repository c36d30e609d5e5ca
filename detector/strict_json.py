"""The faults of JSON that is read, in a few words."""

from __future__ import annotations

import json

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
