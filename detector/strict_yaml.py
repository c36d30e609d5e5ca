"""YAML into typed settings: unknown keys refused, faults in one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from detector.shown import brief, shown
from proposals.errors import UserError

MOST_VALUES = 100_000
"""As many values as a settings file may hold once its aliases stand for what they name."""
LARGEST_INTEGER = 2**63

# What PyYAML raises beside its own errors, at a date that does not exist, at !!bool 7, at a number of 5000 digits...
_FAULTS = (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)

# What is told first: keys that are wrong, then values, then what is not there.
_RANK = {"extra_forbidden": 0, "invalid_key": 0, "missing": 2}

T = TypeVar("T", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key given twice, numbers that are huge, and aliases that multiply."""

    def get_single_node(self) -> yaml.Node | None:
        """The document, once it is known to be of a size that can be worked with."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values ``node`` stands for; ``counts`` holds what is known by node, 0 for one that is being counted."""
    known = counts.get(id(node))
    if known == 0:
        raise yaml.composer.ComposerError(None, None, "an alias names what it is part of", node.start_mark)
    if known is not None:
        return known
    counts[id(node)] = 0
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count_values(item, counts) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_count_values(item, counts) for pair in node.value for item in pair)
    if total > MOST_VALUES:
        raise yaml.composer.ComposerError(None, None, f"more than {MOST_VALUES:,} values", node.start_mark)
    counts[id(node)] = total
    return total


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if isinstance(key, str):
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if abs(value) >= LARGEST_INTEGER:
        raise yaml.constructor.ConstructorError(None, None, f"the number {brief(value)} is too large", node.start_mark)
    return value


def _finite(loader: _Loader, node: yaml.ScalarNode) -> float:
    value: float = loader.construct_yaml_float(node)
    if not math.isfinite(value):
        raise yaml.constructor.ConstructorError(None, None, f"{node.value!r} is not a finite number", node.start_mark)
    return value


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _finite)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: missing, unreadable, not YAML, or not a mapping; with the line where there is one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason})") from None
    try:
        value = yaml.load(text, _Loader)  # _Loader is a SafeLoader
    except _FAULTS as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = "nested too deep" if isinstance(error, RecursionError) else getattr(error, "problem", None) or error
        raise UserError(f"{path}:{line} not valid YAML ({shown(' '.join(str(problem).split()))})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: should hold settings as 'key: value' lines")
    return value


def parse(cls: type[T], value: Any, origin: Path | str) -> T:
    """``value`` as settings of type ``cls``.

    Raises:
        UserError: names ``origin``, an unknown key, or else the first wrong one, and its fault; counts the others.
    """
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        # A misspelled key is both unknown and missing; what stands in the file is easier to find there.
        first, *others = sorted(error.errors(include_url=False), key=lambda fault: _RANK.get(fault["type"], 1))
        where = shown(".".join(str(part) for part in first["loc"])) or "settings"
        reason = "unknown key" if first["type"] == "extra_forbidden" else shown(first["msg"])
        more = f" (and {len(others)} more fault{'s' * (len(others) > 1)})" if others else ""
        raise UserError(f"{origin}: {where}: {reason}{more}") from None


def read_settings(cls: type[T], path: Path) -> T:
    """The settings in the YAML file ``path``, checked; see :func:`read_yaml` and :func:`parse` for the faults."""
    return parse(cls, read_yaml(path), path)


def write_settings(path: Path, settings: BaseModel) -> None:
    """Write ``settings`` to ``path``, whole or not at all."""
    temporary = path.with_name(path.name + ".unfinished")
    temporary.write_text(dump_yaml(settings), encoding="utf-8")
    temporary.replace(path)


def dump_yaml(settings: BaseModel) -> str:
    """Settings as YAML that :func:`read_settings` reads back equal."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
