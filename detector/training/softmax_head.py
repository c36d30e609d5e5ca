"""A softmax over K classes and background, on fixed features, in place of the machines (R-CNN, appendix B)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field


class SoftmaxConfig(BaseModel):
    """How it is fitted.

    Attributes:
        decay: weight of half the squared length of the weights, features scaled to unit variance on the whole.
        background: what all background together weighs, all foreground weighing 1; R-CNN's batches have 3. The classes
            share the foreground by the number of their regions to the power ``1 - balance``.
        balance: 0 leaves the classes as frequent as they are, 1 makes them equal.
        steps: of L-BFGS, at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decay: float = Field(default=2e-3, ge=0)
    background: float = Field(default=10.0, gt=0)
    balance: float = Field(default=0.5, ge=0, le=1)
    steps: int = Field(default=100, ge=1)


def row_weights(labels: NDArray[np.int64], num_classes: int, config: SoftmaxConfig) -> NDArray[np.float32]:
    """The weight ``(n,)`` of each region in the loss; they add up to 1."""
    counts = np.bincount(labels, minlength=num_classes + 1).astype(np.float64)
    share = np.zeros(num_classes + 1)
    there = counts[:-1] > 0
    share[:-1][there] = counts[:-1][there] ** (1 - config.balance)
    if there.any():
        share[:-1] /= share[:-1].sum()
    share[-1] = config.background if counts[-1] else 0.0
    per_row = np.divide(share, counts, out=np.zeros_like(share), where=counts > 0)
    weights = per_row[labels]
    return np.asarray(weights / weights.sum(), np.float32)


def fit_softmax(
    features: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int, config: SoftmaxConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights ``(K + 1, C)`` and biases ``(K + 1,)`` for features ``(n, C)`` with labels in [0, K].

    A class without regions gets a bias at which it is practically never found.
    """
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    importance = torch.from_numpy(row_weights(labels, num_classes, config))
    scale = float(features.std(dtype=np.float64)) or 1.0
    weight = torch.zeros(num_classes + 1, features.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes + 1, requires_grad=True)
    absent = torch.from_numpy(np.bincount(labels, minlength=num_classes + 1) == 0)
    solver = torch.optim.LBFGS([weight, bias], max_iter=config.steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        logits = F.linear(x, weight / scale, bias).masked_fill(absent, -1e4)
        loss = (F.cross_entropy(logits, y, reduction="none") * importance).sum()
        loss = loss + 0.5 * config.decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    weights = weight.detach().double().numpy() / scale
    biases = bias.detach().double().numpy()
    weights[absent.numpy()], biases[absent.numpy()] = 0.0, -1e4
    return weights, biases
