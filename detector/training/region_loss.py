"""The loss of a region network: a weighted sum over its heads, with a teacher's share in the classes'."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.nets.googlenet import AUX_LOSS_WEIGHT, Logits
from detector.nets.region_head import HeadLogits
from detector.training.region_batch import UNREADABLE, RegionBatch
from detector.training.region_settings import LearningConfig
from proposals.multibox import MultiBoxOutput
from proposals.multibox_loss import match_priors, multibox_loss

# Deviations of tx ty tw th, by which they are divided to be of one size (Fast R-CNN's code).
DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)
BOX_WEIGHT = 0.5  # of MultiBox's boxes beside its confidences


class RegionLoss(NamedTuple):
    """Scalars: the weighted sum, and its parts before they are weighted; 0 for a head that there is none of.

    ``proposals`` is MultiBox's, boxes and confidences together.
    """

    total: Tensor
    classes: Tensor
    box: Tensor
    overlap: Tensor
    proposals: Tensor


def class_loss(output: Tensor | Logits, labels: Tensor, answers: Tensor | None = None, share: float = 0.0) -> Tensor:
    """Cross-entropy, plus 0.3 times that of each auxiliary head (paper, section 5).

    With a teacher's ``answers`` ``(R, K + 1)`` their ``share`` of it is cross-entropy with those.
    """

    def of_one(logits: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, labels)
        if answers is None:
            return loss
        seen = labels != UNREADABLE
        return (1 - share) * loss + share * F.cross_entropy(logits[seen], answers[seen])

    if isinstance(output, Logits):
        main, *aux = map(of_one, output)
        return main + AUX_LOSS_WEIGHT * sum(aux[1:], aux[0])
    return of_one(output)


def region_loss(
    output: Tensor | Logits | HeadLogits,
    batch: RegionBatch,
    num_classes: int,
    config: LearningConfig,
    answers: Tensor | None = None,
) -> RegionLoss:
    """The loss of a net's ``output`` for ``batch``, K = ``num_classes``, and a teacher's ``answers``, if there is one.

    Boxes: smooth L1 (Fast R-CNN, section 2.3) of the regions that show an object, divided by the number of all regions
    and ``box_divisor``: by what a full batch has, so that parts of a batch add up to its loss. Overlaps: cross-entropy
    of the IoU as a probability, over all regions. MultiBox: see :func:`proposal_loss`.
    """
    named, deltas, overlaps, proposed = output if isinstance(output, HeadLogits) else (output, None, None, None)
    if proposed is not None and not len(named):
        proposals = proposal_loss(proposed, batch, torch.ones(len(batch.images)))
        nothing = proposals.new_zeros(())
        return RegionLoss(proposals, nothing, nothing, nothing, proposals)
    device = (named if isinstance(named, Tensor) else named.main).device
    labels = batch.labels.to(device, non_blocking=True)
    classes = class_loss(named, labels, answers, config.teacher_share)
    box = overlap = classes.new_zeros(())
    if deltas is not None:
        shows = (labels >= 0) & (labels < num_classes)
        wanted = batch.deltas.to(device)[shows] / classes.new_tensor(DELTA_SCALE)
        box = F.smooth_l1_loss(deltas[:, 0][shows], wanted, reduction="sum") / (config.box_divisor * len(labels))
    if overlaps is not None:
        overlap = F.binary_cross_entropy_with_logits(overlaps, batch.overlaps.to(device))
    total = classes + config.box * box + config.overlap * overlap
    if proposed is None:
        return RegionLoss(total, classes, box, overlap, classes.new_zeros(()))
    assert batch.rois is not None
    proposals = proposal_loss(proposed, batch, torch.bincount(batch.rois[:, 0].long(), minlength=len(batch.images)))
    return RegionLoss(total + proposals, classes, box, overlap, proposals)


def proposal_loss(output: MultiBoxOutput, batch: RegionBatch, regions: Tensor) -> Tensor:
    """MultiBox's loss, the mean over the images of ``batch``.

    Args:
        regions: ``(M,)``, by how many regions each image counts, so that parts of a batch add up to its loss.
    """
    assert batch.objects is not None
    priors = output.priors.cpu().numpy()
    total = output.logits.new_zeros(())
    for number, weight in enumerate((regions / regions.sum()).tolist()):
        own = batch.objects[batch.objects[:, 0] == number, 1:].numpy()
        found, unsure = own[own[:, 4] == 1, :4], own[own[:, 4] == 0, :4]
        matches = match_priors(priors, found, unsure)
        loss = multibox_loss(output.deltas[number], output.logits[number], priors, found, matches)
        total = total + weight * (BOX_WEIGHT * loss.box + loss.confidence)
    return total
