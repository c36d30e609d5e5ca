"""The proposal methods that ``evaluate-proposals`` knows by name, made so that each source runs once per image.

A name is a preset of selective search (``fast``), ``multibox``, or ``PRESET+multibox`` for both merged as detection
merges them.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.model.load import load_model
from proposals.errors import UserError
from proposals.merge import Budget, MergeConfig, merge
from proposals.resized import ResizedSource
from proposals.selective_search import SelectiveSearch
from proposals.store import ProposalStore
from proposals.types import Proposals, ProposalSource

MULTIBOX = "multibox"


def parse_methods(names: str) -> list[str]:
    """The methods of a comma-separated list.

    Raises:
        UserError: an empty list, or a name twice.
    """
    found = [name for part in names.split(",") if (name := part.strip())]
    if not found or len(set(found)) != len(found):
        raise UserError("--methods needs at least one name, each only once")
    return found


def preset_of(method: str) -> str:
    """The preset of selective search that a method takes; ``""`` for MultiBox alone."""
    return "" if method == MULTIBOX else method.removesuffix(f"+{MULTIBOX}")


class MethodRunner:
    """Runs several methods on an image; each underlying source proposes once, whoever uses its boxes.

    Args:
        methods: what to run. seed: of selective search's ranking. search_side: selective search looks at a copy whose
            longer side has so many pixels; ``None`` for the image as it is. store: where selective search's proposals
            are kept. model: whose MultiBox methods with MultiBox have; ``None`` for the bundled one's.
        budget: MultiBox's boxes in a merged set, in place of the network's own number.

    Raises:
        UserError: an unknown preset, a faulty model folder, or no MultiBox where a method needs one.
    """

    def __init__(
        self,
        methods: list[str],
        *,
        seed: int = 0,
        search_side: int | None = None,
        store: Path | None = None,
        model: Path | None = None,
        budget: int | None = None,
    ) -> None:
        self.methods = methods
        self.sources: dict[str, ProposalSource] = {}
        for preset in dict.fromkeys(filter(None, map(preset_of, methods))):
            search = SelectiveSearch(preset, seed)
            source: ProposalSource = search if store is None else ProposalStore(store, search.settings(), search)
            self.sources[preset] = source if search_side is None else ResizedSource(source, search_side)
        self.merging = MergeConfig()
        if any(preset_of(method) != method for method in methods):
            detector = load_model(model, members=1)
            if detector.multibox is None:
                raise UserError(f"{model or 'the bundled model'}: has no MultiBox; see train --recipe multibox")
            self.merging = detector.merging
            if budget is None and self.merging.budget.multibox == 0:  # left out at detection, but asked for here
                budget = Budget().multibox
            if budget is not None:
                limits = Budget(selective_search=self.merging.budget.selective_search, multibox=budget)
                self.merging = self.merging.model_copy(update={"budget": limits})
            self.sources[MULTIBOX] = detector.multibox

    def propose(self, image: NDArray[np.uint8]) -> dict[str, tuple[Proposals, float]]:
        """The proposals of each method for ``image`` ``(H, W, 3)`` uint8 RGB, best first, and their seconds.

        A merged method's seconds are those of both sources and of the merge, one after another.
        """
        found: dict[str, tuple[Proposals, float]] = {}
        for name, source in self.sources.items():
            start = time.perf_counter()
            boxes = source.propose(image)
            found[name] = boxes, time.perf_counter() - start
        return {method: self._method(method, found) for method in self.methods}

    def _method(self, method: str, found: dict[str, tuple[Proposals, float]]) -> tuple[Proposals, float]:
        preset = preset_of(method)
        if preset in ("", method):
            return found[preset or MULTIBOX]
        (search, first_seconds), (learned, second_seconds) = found[preset], found[MULTIBOX]
        start = time.perf_counter()
        both = merge(search, learned, self.merging)
        return both, first_seconds + second_seconds + time.perf_counter() - start
