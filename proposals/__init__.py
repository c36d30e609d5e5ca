"""Where could objects be? Selective search, learned proposals, and how to measure them; no classifier needed.

>>> from proposals import selective_search
>>> boxes = selective_search(image).boxes

Names are loaded on first use: ``proposals.types`` and ``proposals.errors`` must not cost the compiler of the hot loops.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proposals.errors import UserError as UserError
    from proposals.selective_search import SelectiveSearch as SelectiveSearch
    from proposals.selective_search import SelectiveSearchConfig as SelectiveSearchConfig
    from proposals.selective_search import selective_search as selective_search
    from proposals.types import Proposals as Proposals
    from proposals.types import ProposalSource as ProposalSource
    from proposals.types import Source as Source

_HOME = {
    "ProposalSource": "proposals.types",
    "Proposals": "proposals.types",
    "SelectiveSearch": "proposals.selective_search",
    "SelectiveSearchConfig": "proposals.selective_search",
    "Source": "proposals.types",
    "UserError": "proposals.errors",
    "selective_search": "proposals.selective_search",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


class _Package(ModuleType):
    """This package, in which ``selective_search`` is always the function and never the module of the same name."""

    @property
    def selective_search(self) -> Any:
        return import_module("proposals.selective_search").selective_search

    @selective_search.setter
    def selective_search(self, module: Any) -> None:
        """The import system puts the module here."""


if not TYPE_CHECKING:
    sys.modules[__name__].__class__ = _Package
