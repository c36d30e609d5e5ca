"""MultiBox's loss: which priors are to find which objects, and how well they do.

A prior with an IoU of one half or more with an object is to find it, and so is the nearest prior of every object (SSD,
section 2.2, in place of the one prior for each object of the CVPR 2014 paper). Boxes learn by smooth L1, confidences by
cross-entropy: with the IoU that the prior's box has with the object now, or with 0 for background, of which the hardest
three for each match count (SSD, section 2.2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from proposals.boxes import FloatArray, area, decode, encode, intersection, iou, paired_iou
from proposals.multibox import DEVIATION

FOUND, BACKGROUND = 0.5, 0.4  # IoU with an object from which on a prior is to find it, and below which it shows none
NEAREST = 0.2  # the least IoU of an object's nearest prior
UNSURE = 0.3  # IoU with an object that is cut off or ignored, from which on a prior is neither
HIDDEN = 0.5  # likewise the share of a prior that lies in one
HARD, LEAST = 3, 64  # background for each match, and how much there is at least


class Matches(NamedTuple):
    """Of K priors: ``rows`` (P,) that are to find ``objects`` (P,), both int64; ``background`` (K,) bool."""

    rows: NDArray[np.int64]
    objects: NDArray[np.int64]
    background: NDArray[np.bool_]


class MultiBoxLoss(NamedTuple):
    """Scalars: of the boxes, and of the confidences."""

    box: Tensor
    confidence: Tensor


def match_priors(priors: FloatArray, objects: FloatArray, unsure: FloatArray) -> Matches:
    """What each of ``priors`` ``(K, 4)`` is to do in an image with ``objects`` ``(T, 4)``.

    Args:
        unsure: ``(U, 4)``, objects that are neither to be found nor background.
    """
    background = np.ones(len(priors), np.bool_)
    if len(unsure):
        background &= iou(priors, unsure).max(axis=1) < UNSURE
        background &= intersection(priors, unsure).max(axis=1) < HIDDEN * area(priors)
    if not len(objects):
        return Matches(np.zeros(0, np.int64), np.zeros(0, np.int64), background)
    table = iou(priors, objects)
    owner, best = table.argmax(axis=1), table.max(axis=1)
    finds = best >= FOUND
    nearest = table.argmax(axis=0)
    near = table[nearest, np.arange(len(objects))] >= NEAREST
    finds[nearest[near]], owner[nearest[near]] = True, np.flatnonzero(near)
    rows = np.flatnonzero(finds)
    return Matches(rows, owner[rows].astype(np.int64), background & ~finds & (best < BACKGROUND))


def multibox_loss(
    deltas: Tensor, logits: Tensor, priors: FloatArray, objects: FloatArray, matches: Matches
) -> MultiBoxLoss:
    """The loss of one image: ``deltas`` ``(K, 4)`` and ``logits`` ``(K,)`` of ``priors`` ``(K, 4)``.

    Args:
        objects: ``(T, 4)``. matches: of :func:`match_priors`.
    """
    rows = torch.from_numpy(matches.rows).to(logits.device)
    count = max(len(rows), 1)
    found, targets = deltas[rows], objects[matches.objects].astype(np.float64)
    starts = priors[matches.rows].astype(np.float64)
    wanted = found.new_tensor(encode(starts, targets))
    unit = found.new_tensor(DEVIATION)
    box = F.smooth_l1_loss(found / unit, wanted / unit, reduction="sum") / count
    overlaps = np.clip(paired_iou(decode(starts, found.detach().cpu().numpy()), targets), 0, 1)
    goal = logits.new_tensor(overlaps)
    matched = F.binary_cross_entropy_with_logits(logits[rows], goal, reduction="sum")
    # Softplus is the cross-entropy with 0, and rises with the logit.
    rest = F.softplus(logits[torch.from_numpy(matches.background).to(logits.device)])
    hardest = rest.topk(min(len(rest), max(LEAST, HARD * len(rows)))).values.sum()
    confidence = (matched + hardest) / max(LEAST, len(rows))
    return MultiBoxLoss(box, confidence)
