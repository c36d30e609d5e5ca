"""In which order a run shows things, once each per epoch or, for the balance of classes, some more often."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.training.sampling import BalanceConfig


def class_weights(labels: NDArray[np.int64], config: BalanceConfig) -> NDArray[np.float64] | None:
    """How often each of N things of class ``labels`` ``(N,)`` is shown per epoch; ``None`` for once each.

    "repeat": max(1, sqrt(share / f)) for a class that has the share f of them (LVIS, Gupta et al. 2019,
    there by images). "uniform": all classes equally often, with N shown in all.
    """
    if config.kind == "none" or not len(labels):
        return None
    counts = np.bincount(labels)
    shares = np.maximum(counts, 1) / len(labels)
    if config.kind == "repeat":
        weights = np.maximum(1.0, np.sqrt(config.share / shares))
    else:
        weights = 1.0 / (shares * np.count_nonzero(counts))
    return np.asarray(weights[labels], np.float64)


class EpochOrder:
    """An endless order of ``n`` things that depends on the seed alone; each epoch has its own.

    Args:
        weights: ``(n,)``, how often each is shown per epoch; a fraction is rounded up in some epochs and down in
            others. ``None``: once each.
    """

    def __init__(self, n: int, seed: int, weights: NDArray[np.float64] | None = None) -> None:
        self.seed, self.n = seed, n
        self._edges = None if weights is None else np.cumsum(weights)
        self.length = n if self._edges is None else max(1, round(float(self._edges[-1])))
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def __getitem__(self, position: int) -> int:
        """The thing at ``position``, counted from the first epoch's beginning."""
        epoch, place = divmod(position, self.length)
        order = self._epochs.get(epoch)
        if order is None:
            order = self._epoch(epoch)
            # Loader threads may be an epoch apart; the dictionary is replaced, never changed, under their hands.
            self._epochs = {e: o for e, o in self._epochs.items() if e >= epoch - 1} | {epoch: order}
        return int(order[place])

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, 1, epoch])
        if self._edges is None:
            return rng.permutation(self.n)
        # Points in even steps along the weights in a row: each thing is met floor or ceil of its weight times.
        points = (np.arange(self.length) + rng.random()) * (self._edges[-1] / self.length)
        picked = np.minimum(np.searchsorted(self._edges, points, side="right"), self.n - 1)
        return rng.permutation(picked.astype(np.int64))
