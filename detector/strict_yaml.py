"""YAML into typed settings: unknown keys refused, faults in one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from detector.shown import brief, shown
from proposals.errors import UserError

T = TypeVar("T", bound=BaseModel)

LARGEST_INTEGER = 2**63
MAX_EXPANSION = 100_000
"""Values that the aliases of a file may add to those that stand in it; ten lines of nested aliases make billions."""


# What PyYAML raises beside its own errors, at a date that does not exist, at !!bool 7, at a number of 5000 digits...
_FAULTS = (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
# What is told first: keys that are wrong, then values, then what is not there.
_RANK = {"extra_forbidden": 0, "invalid_key": 0, "missing": 2}


class _BoundedComposer(yaml.composer.Composer):
    """Refuses aliases that stand for too much, or for themselves, before anything is made of them."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            sizes: dict[int, int] = {}
            if _expanded_size(node, sizes) - len(sizes) > MAX_EXPANSION:
                raise yaml.constructor.ConstructorError(None, None, "its aliases expand to too much", node.start_mark)
        return node


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values in ``node`` with every alias written out; ``sizes`` keeps that of each node, 0 while it is counted."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise yaml.constructor.ConstructorError(None, None, "an alias stands for itself", node.start_mark)
        return sizes[id(node)]
    sizes[id(node)] = 0
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_expanded_size(child, sizes) for child in node.value)
    elif isinstance(node, yaml.MappingNode):
        size += sum(_expanded_size(child, sizes) for pair in node.value for child in pair)
    sizes[id(node)] = size
    return size


class _Loader(_BoundedComposer, yaml.SafeLoader):
    """PyYAML's safe loader, which in addition refuses a key given twice and numbers that are huge."""


class _TextLoader(_BoundedComposer, yaml.BaseLoader):
    """Every value as the text that stands there: ``yes``, ``1e3``, ``null`` and dates are names like others."""


def _mapping_without_repeats(loader: _Loader | _TextLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if isinstance(key, str):
            if key in seen:
                text = f"the key {key!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, text, key_node.start_mark)
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


for _loader in (_Loader, _TextLoader):
    _loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _finite)


def load_yaml_text(text: str, origin: Path | str) -> dict[str, Any]:
    """The mapping in YAML ``text``, of text, lists and mappings: no scalar is taken for a number, a date or a truth.

    Raises:
        UserError: not YAML, or not a mapping; names ``origin``, with the line where there is one.
    """
    return _load(text, _TextLoader, origin)


def _load(text: str, loader: type[_Loader | _TextLoader], origin: Path | str) -> dict[str, Any]:
    try:
        value = yaml.load(text, loader)  # a SafeLoader, or one that makes text alone
    except _FAULTS as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = "nested too deep" if isinstance(error, RecursionError) else getattr(error, "problem", None) or error
        raise UserError(f"{origin}:{line} not valid YAML ({shown(' '.join(str(problem).split()))})") from None
    if not isinstance(value, dict):
        raise UserError(f"{origin}: should hold settings as 'key: value' lines")
    return value


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
    return _load(text, _Loader, path)


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
    write_whole(path, dump_yaml(settings))


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all: under a temporary name first."""
    temporary = path.with_name(path.name + ".unfinished")
    try:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def dump_yaml(settings: BaseModel) -> str:
    """Settings as YAML that :func:`read_settings` reads back equal."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
