"""A trained GoogLeNet made wider without changing what it computes (Net2WiderNet: Chen, Goodfellow, Shlens, 2016).

Every new channel is a copy of an old one. What reads a channel and its copies has its weight split among them, so that
outputs stay the same; it is split at random, differently for every reader, so that training moves the copies apart (the
paper adds noise to the copies instead, which changes the outputs a little).

Glossary: a layer's map ``(new channels,)`` names the old channel that each of its new channels copies.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.nets.googlenet import TABLE_1, GoogLeNetConfig
from detector.nets.inception import InceptionChannels

Map = NDArray[np.int64]
LEAST_SHARE = 0.25  # of a weight that is split in two, in front of the copies' scale


def can_widen(narrow: GoogLeNetConfig, wide: GoogLeNetConfig) -> bool:
    """Whether weights of ``narrow`` can be made those of ``wide``: both but for their width the same, and normalised by
    batch (local response normalisation sees a channel's copies beside it, and answers otherwise).

    Heads do not count: auxiliary classifiers and the number of outputs may differ.
    """
    same = {"width": wide.width, "num_outputs": wide.num_outputs, "aux": wide.aux, "aux_pool": wide.aux_pool}
    same |= {"dropout": wide.dropout}
    counts_grow = all(
        old <= new for name in TABLE_1 for old, new in zip(narrow.inception(name), wide.inception(name), strict=True)
    )
    return narrow.model_copy(update=same) == wide and wide.norm == "batch" and counts_grow


def widen(state: dict[str, Tensor], narrow: GoogLeNetConfig, wide: GoogLeNetConfig, seed: int = 0) -> dict[str, Tensor]:
    """The weights ``state`` of a net ``narrow`` as those of a net ``wide`` with the same outputs.

    Args:
        state: of the whole net or of its trunk (without the last layer ``fc``). Auxiliary classifiers are left out.
        seed: which channels are copied, and how weights are split.

    Raises:
        ValueError: see :func:`can_widen`.
    """
    if not can_widen(narrow, wide):
        raise ValueError(f"a net {narrow} cannot be widened to {wide}")
    rng = np.random.default_rng([seed, 7])
    out: dict[str, Tensor] = {}

    def unit(name: str, read: Map, old: int, new: int) -> Map:
        """Widen a convolution with its normalisation, which reads channels by the map ``read``; returns its own."""
        copied = _copies(rng, old, new)
        out[f"{name}.conv.weight"] = _split(rng, state[f"{name}.conv.weight"][torch.from_numpy(copied)], read)
        for part in ("weight", "bias", "running_mean", "running_var"):
            out[f"{name}.bn.{part}"] = state[f"{name}.bn.{part}"][torch.from_numpy(copied)]
        out[f"{name}.bn.num_batches_tracked"] = state[f"{name}.bn.num_batches_tracked"]
        return copied

    def inception(name: str, read: Map, old: InceptionChannels, new: InceptionChannels) -> Map:
        branch1 = unit(f"{name}.branch1", read, old.n1x1, new.n1x1)
        reduced = unit(f"{name}.branch2.0", read, old.n3x3_reduce, new.n3x3_reduce)
        branch2 = unit(f"{name}.branch2.1", reduced, old.n3x3, new.n3x3)
        reduced = unit(f"{name}.branch3.0", read, old.n5x5_reduce, new.n5x5_reduce)
        branch3 = unit(f"{name}.branch3.1", reduced, old.n5x5, new.n5x5)
        branch4 = unit(f"{name}.branch4.1", read, old.pool_proj, new.pool_proj)
        starts = np.cumsum([0, old.n1x1, old.n3x3, old.n5x5])
        branches = (branch1, branch2, branch3, branch4)
        return np.concatenate([branch + start for branch, start in zip(branches, starts, strict=True)])

    channels = unit("conv1", np.arange(3), narrow.channels(64), wide.channels(64))
    channels = unit("conv2", channels, narrow.channels(64), wide.channels(64))
    channels = unit("conv3", channels, narrow.channels(192), wide.channels(192))
    for name in TABLE_1:
        channels = inception(f"inception{name}", channels, narrow.inception(name), wide.inception(name))
    if "fc.weight" in state:
        out["fc.weight"], out["fc.bias"] = _split(rng, state["fc.weight"], channels), state["fc.bias"]
    return out


def _copies(rng: np.random.Generator, old: int, new: int) -> Map:
    """The map from ``old`` channels to ``new``: the old ones in order, then as evenly chosen copies."""
    rounds = [rng.permutation(old) for _ in range(-(-new // old) - 1)]
    return np.concatenate([np.arange(old), *rounds])[:new]


def _split(rng: np.random.Generator, weight: Tensor, read: Map) -> Tensor:
    """The ``weight`` ``(out, in, ...)`` of a layer that reads channels by the map ``read``: ``(out, new in, ...)``."""
    old, new = weight.shape[1], len(read)
    shares = rng.uniform(LEAST_SHARE, 1.0, (weight.shape[0], new))
    shares /= (shares @ np.eye(old)[read])[:, read]
    scale = torch.from_numpy(shares).to(weight.dtype).reshape(weight.shape[0], new, *(1,) * (weight.ndim - 2))
    return weight[:, torch.from_numpy(read)] * scale
