"""Numbers and ids out of JSON, whatever stands there."""

from __future__ import annotations

import math
from typing import Any

_NAN = float("nan")
_LARGEST = 1e300


def number(value: Any) -> float:
    """``value`` as a number; not a number (NaN) if it is none, or too large for one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _LARGEST:
        return _NAN
    return float(value)


def identity(value: Any) -> int | str | None:
    """An id: a whole number, also where it is written 1.0, or text; None for anything else."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None
