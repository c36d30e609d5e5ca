"""Classes of a data set: ids as in the source, and unique names of one line each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proposals.errors import UserError


@dataclass(frozen=True, slots=True)
class Classes:
    """K classes: ids as in the source, and unique words for people."""

    keys: tuple[str | int, ...]
    names: tuple[str, ...]

    @classmethod
    def of_names(cls, names: Sequence[str]) -> Classes:
        """Classes that are called by their names in the source."""
        return cls(tuple(names), tuple(names))

    @classmethod
    def named(cls, keys: Sequence[str | int], names: Sequence[object]) -> Classes:
        """Classes with names as the source writes them, made one line each and unique; no name: the key."""
        return cls(
            tuple(keys), distinct([class_name(n) or class_name(k) for k, n in zip(keys, names, strict=True)], keys)
        )

    def chosen(self, wanted: Sequence[str] | None, where: str) -> Classes:
        """These classes, or those that the caller asks for, in the caller's order.

        Names and ids are different keys: numbers are taken for ids only where nothing in the list is a name here. A
        wanted class that the data do not have is kept (a model may know more classes than a data set shows).

        Raises:
            UserError: a wanted class stands twice, or none of them is in the data.
        """
        if wanted is None:
            return self
        names = tuple(str(name) for name in wanted)
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise UserError(f"class list: {', '.join(map(repr, twice))} stands there more than once; remove one")
        key_of: dict[str, str | int] = {key: key for key in self.keys if isinstance(key, str)}
        key_of |= dict(zip(self.names, self.keys, strict=True))
        if not any(name in key_of for name in names):
            key_of = {str(key): key for key in self.keys}
        name_of = dict(zip(self.keys, self.names, strict=True))
        if not any(name in key_of for name in names):
            known = ", ".join(self.names[:10]) + (", ..." if len(self.names) > 10 else "")
            raise UserError(f"{where}: none of the wanted classes is in it; it has {known or 'no class at all'}")
        keys = [key_of.get(name, _unused(name, self.keys)) for name in names]
        if len(set(keys)) != len(keys):
            raise UserError(
                f"class list: {', '.join(map(repr, names))} names a class twice, by name and id; remove one"
            )
        return Classes(tuple(keys), distinct([name_of.get(key, str(key)) for key in keys], keys))


def identity(value: Any) -> int | str | None:
    """An id: a whole number, also where it is written 1.0, or text; None for anything else."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def class_name(text: object) -> str:
    """A name as one line of text without white space around it; ``""`` if there is none.

    Args:
        text: as the source has it; anything but text and numbers is no name.
    """
    if not isinstance(text, (str, int, float)) or isinstance(text, bool):
        return ""
    return " ".join(str(text).encode("utf-8", "replace").decode("utf-8").split())


def distinct(names: Sequence[str], keys: Sequence[str | int]) -> tuple[str, ...]:
    """``names``, unique: one that several classes have gets its key in brackets, and a number if that is taken too."""
    counts = Counter(names)
    taken = {name for name, count in counts.items() if count == 1}
    result = []
    for name, key in zip(names, keys, strict=True):
        unique = name
        if counts[name] > 1:
            first = unique = f"{name} ({class_name(key)})"
            number = 2
            while unique in taken:
                unique, number = f"{first} {number}", number + 1
            taken.add(unique)
        result.append(unique)
    return tuple(result)


def _unused(name: str, keys: Sequence[str | int]) -> str:
    """A key for a class that the data do not have: its name, unless that is the id of another class."""
    while name in keys:
        name += " "
    return name
