"""Where a model looks for objects: its configuration becomes a source of proposals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.model.config import ProposalConfig
from proposals.resized import ResizedSource
from proposals.selective_search import SelectiveSearch
from proposals.store import ProposalStore
from proposals.types import ProposalSource


def search_source(config: ProposalConfig, seed: int = 0, threads: int | None = None) -> ProposalSource:
    """The selective search of ``config``; ``max_proposals`` is left to the caller.

    Args:
        seed: random seed of the ranking. threads: by default all cores.
    """
    return _resized(SelectiveSearch(config.selective_search, seed, threads), config)


def stored_source(config: ProposalConfig, store: Path, seed: int = 0) -> ProposalStore:
    """The proposals that a model with ``config`` would have, made once and kept in ``store``."""
    search = SelectiveSearch(config.selective_search, seed)
    return ProposalStore(store, {**search.settings(), "search_side": config.search_side}, _resized(search, config))


def proposed_boxes(source: ProposalSource, image: NDArray[np.uint8], count: int | None) -> NDArray[np.float32]:
    """The first ``count`` boxes ``(P, 4)`` that ``source`` proposes."""
    return source.propose(image).boxes[:count]


def _resized(search: SelectiveSearch, config: ProposalConfig) -> ProposalSource:
    return search if config.search_side is None else ResizedSource(search, config.search_side)
