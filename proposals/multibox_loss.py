"""MultiBox's loss (Erhan et al., Scalable Object Detection using Deep Neural Networks, CVPR 2014).

For one image with boxes l_i, confidences c_i of K priors and M truths g_j, and x_ij = 1 where truth j is matched to
prior i (each truth to one prior, each prior to at most one truth):

    F = alpha / 2 * sum_ij x_ij |l_i - g_j|^2  -  sum_ij x_ij ln c_i  -  sum_i (1 - sum_j x_ij) ln(1 - c_i)

and x is the assignment that makes F least: the cost of a pair is alpha / 2 |l_i - g_j|^2 - ln c_i + ln(1 - c_i), where
the last two terms are minus the logit. Boxes are relative to the image.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from proposals.multibox import MultiBoxOutput


class MultiBoxLossConfig(BaseModel):
    """The loss.

    Attributes:
        alpha: weight of the location's term.
        matching: "predictions" is the paper's; "priors" assigns truths to the nearest priors whatever the network says,
            by |p_i - g_j|^2 alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    matching: Literal["predictions", "priors"] = "predictions"


class Truths(NamedTuple):
    """The objects of a batch: ``boxes`` (T, 4) relative to their images; ``owner`` (T,) int64, rising."""

    boxes: Tensor
    owner: Tensor


class Matches(NamedTuple):
    """Matched pairs: ``truth`` (P,) rows of :class:`Truths`, ``prior`` (P,), both int64, by rising truth."""

    truth: Tensor
    prior: Tensor


class Loss(NamedTuple):
    """Means over the images of a batch; ``total`` is ``location`` (alpha included) plus ``confidence``."""

    total: Tensor
    location: Tensor
    confidence: Tensor


@torch.no_grad()
def pair_costs(output: MultiBoxOutput, priors: Tensor, truths: Truths, config: MultiBoxLossConfig) -> Tensor:
    """Cost ``(T, K)`` of each truth with each prior of its image; ``priors`` ``(K, 4)``."""
    if config.matching == "priors":
        return config.alpha / 2 * (priors[None] - truths.boxes[:, None]).square().sum(2)
    distance = (output.locations[truths.owner] - truths.boxes[:, None]).square().sum(2)
    return config.alpha / 2 * distance - output.logits[truths.owner]


@torch.no_grad()
def match(output: MultiBoxOutput, priors: Tensor, truths: Truths, config: MultiBoxLossConfig) -> Matches:
    """The cheapest assignment of each image's truths to different priors; min(M, K) pairs for an image of M truths.

    The costs are made where the network is, in one piece for the batch; the assignments are scipy's, one per image.
    A batch with costs that are not finite has no matches: its loss is not finite either, and tells.
    """
    device = output.logits.device
    costs = pair_costs(output, priors, truths, config).cpu().double().numpy()
    if not len(costs) or not np.isfinite(costs).all():
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return Matches(none, none)
    _, first, counts = np.unique(truths.owner.cpu().numpy(), return_index=True, return_counts=True)
    pairs = []
    for start, count in zip(first.tolist(), counts.tolist(), strict=True):
        truth, prior = linear_sum_assignment(costs[start : start + count])
        pairs.append(np.stack([truth + start, prior]))
    together = torch.from_numpy(np.concatenate(pairs, axis=1).astype(np.int64)).to(device)
    return Matches(together[0], together[1])


def multibox_loss(output: MultiBoxOutput, truths: Truths, matches: Matches, config: MultiBoxLossConfig) -> Loss:
    """The loss above for given matches, averaged over the N images of ``output``."""
    images = max(len(output.logits), 1)
    image, prior = truths.owner[matches.truth], matches.prior
    off = output.locations[image, prior] - truths.boxes[matches.truth]
    location = config.alpha / 2 * off.square().sum() / images
    target = torch.zeros_like(output.logits)
    target[image, prior] = 1.0
    confidence = F.binary_cross_entropy_with_logits(output.logits, target, reduction="sum") / images
    return Loss(location + confidence, location, confidence)
