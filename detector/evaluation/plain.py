"""Results to plain JSON values and back, driven by the dataclasses' own type hints."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

import numpy as np

from detector.shown import brief

T = TypeVar("T")
IN_MEMORY = "in memory only"
"""In the metadata of a field that no file keeps."""


def to_plain(value: Any) -> Any:
    """Dataclasses as dicts, arrays and tuples as lists, NaN and infinities as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if IN_MEMORY not in f.metadata
        }
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def from_plain(kind: type[T], plain: Any) -> T:
    """An object of the dataclass ``kind`` from what :func:`to_plain` made of one; fields left out take their default.

    Raises:
        ValueError: a field without default is absent, there is one that ``kind`` does not have, or a value is of
            another type than its field.
    """
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(plain, dict) or set(plain) - set(fields):
        raise ValueError(f"not a {kind.__name__}: {brief(plain)}")
    values = {}
    for name, item in plain.items():
        try:
            values[name] = _restore(hints[name], item)
        except (TypeError, OverflowError):
            raise ValueError(f"not a {kind.__name__}: {name} is {brief(item)}") from None
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from None


def _restore(hint: Any, value: Any) -> Any:
    """``value`` as the type hint says; TypeError where it is of another type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _restore(next(arg for arg in args if arg is not type(None)), value)
    if origin is np.ndarray:
        dtype = typing.get_args(args[1])[0]
        _check(value, list)
        return np.array(_numbers(value, np.issubdtype(dtype, np.floating)), dtype)
    if hint is float:
        return math.nan if value is None else _finite(value)
    if origin is tuple:
        return tuple(_restore(args[0], item) for item in _check(value, list))
    if origin is dict:
        return {key: _restore(args[1], item) for key, item in _check(value, dict).items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_plain(hint, value)
    return _check(value, hint) if hint in (int, str, bool) else value


def _finite(value: Any) -> float:
    number = float(_check(value, int, float))
    if not math.isfinite(number):
        raise TypeError
    return number


def _check(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError
    return value


def _numbers(value: Any, nan: bool) -> Any:
    """Nested lists with nothing in them but numbers; null is NaN where ``nan`` says so."""
    if isinstance(value, list):
        return [_numbers(item, nan) for item in value]
    if not nan:
        return _check(value, int)
    return math.nan if value is None else _finite(value)
