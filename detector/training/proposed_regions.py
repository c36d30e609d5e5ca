"""Regions that MultiBox proposes while it learns: what is classified at detection is learned from, too.

A classifier that has seen selective search's boxes alone takes MultiBox's, which lie on things and parts of things, for
objects too often. Faster R-CNN (Ren et al., 2015, section 3.2) trains on the proposals of the network itself; here a
share of each image's regions are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detector.nets.region_net import SharedMaps, region_levels
from detector.training.region_batch import RegionBatch
from detector.training.sampling import hidden
from proposals.boxes import encode, iou
from proposals.multibox import MultiBoxOutput, MultiBoxProposalConfig, ranked_boxes
from proposals.multibox_loss import UNSURE

LEAST_SIDE = 4  # pixels of level 0
CANDIDATES = 4  # for each box: some lie on one another


class ProposedRegions:
    """Puts MultiBox's most confident boxes in the place of the last regions of each image, which are background.

    Args:
        batch: on shared maps, with its objects. count: boxes of each image. num_classes: K. maps: how regions are
            pooled. :attr:`batch` is afterwards the batch with these regions.
    """

    def __init__(self, batch: RegionBatch, count: int, num_classes: int, maps: SharedMaps) -> None:
        self.batch, self.count, self.num_classes, self.maps = batch, count, num_classes, maps

    def __call__(self, output: MultiBoxOutput) -> tuple[Tensor, Tensor]:
        """The regions ``rois`` and ``level`` of the new batch, from what MultiBox says of its images."""
        old = self.batch
        assert old.rois is not None
        assert old.objects is not None
        assert old.deltas is not None
        assert old.overlaps is not None
        size = (old.images.shape[2], old.images.shape[3])
        settings = MultiBoxProposalConfig(candidates=CANDIDATES * self.count, keep=self.count)
        parts: list[tuple[Tensor, ...]] = []
        for number in range(len(old.images)):
            one = MultiBoxOutput(
                output.deltas[number : number + 1].detach(), output.logits[number : number + 1].detach(), output.priors
            )
            boxes = ranked_boxes(one, (1.0, 1.0), size, settings).boxes
            objects = old.objects[old.objects[:, 0] == number, 1:].numpy()
            found, cut = objects[objects[:, 4] == 1], objects[objects[:, 4] == 0, :4]
            boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=LEAST_SIDE) >= LEAST_SIDE]
            if len(cut):
                shows = (iou(boxes, found[:, :4]) >= 0.5).any(axis=1)
                boxes = boxes[(iou(boxes, cut).max(axis=1) < UNSURE) & (shows | ~hidden(boxes, cut))]
            rows = (old.rois[:, 0] == number).nonzero()[:, 0]
            kept = rows[: len(rows) - min(len(boxes), len(rows) // 2)]
            boxes = boxes[: len(rows) - len(kept)]
            labels = np.full(len(boxes), self.num_classes, np.int64)
            deltas, overlaps = np.zeros((len(boxes), 4), np.float32), np.zeros(len(boxes), np.float32)
            if len(found):
                table = iou(boxes, found[:, :4])
                nearest, overlaps = table.argmax(axis=1), table.max(axis=1).astype(np.float32)
                shows = overlaps >= 0.5
                labels[shows] = found[nearest[shows], 5].astype(np.int64)
                deltas[shows] = encode(boxes[shows], found[nearest[shows], :4])
            rois = np.insert(boxes, 0, number, axis=1).astype(np.float32)
            own = (old.labels[kept], old.deltas[kept], old.overlaps[kept], old.rois[kept])
            added = (labels, deltas, overlaps, rois)
            parts.append(tuple(torch.cat([a, torch.from_numpy(b)]) for a, b in zip(own, added, strict=True)))
        named, moved, overlap, regions = (torch.cat(column) for column in zip(*parts, strict=True))
        level = torch.from_numpy(region_levels(regions[:, 1:].numpy(), self.maps))
        self.batch = old._replace(labels=named, deltas=moved, overlaps=overlap, rois=regions, level=level, shown=[])
        return regions.to(output.logits.device), level.to(output.logits.device)
