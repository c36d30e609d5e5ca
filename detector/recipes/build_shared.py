"""The composition root of a training on shared maps: a recipe and a data set become a trainer, and it a detector."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.crop import CropConfig
from detector.data import Dataset
from detector.detection.ensemble import Ensemble, Member
from detector.detection.pipeline import Detector, MultiBoxSource
from detector.model.config import ProposalConfig
from detector.model.proposals import proposed_boxes, stored_source
from detector.nets.region_net import RegionNet
from detector.recipes.initialization import region_heads, trained_head
from detector.recipes.region import SharedRecipe
from detector.training.pool import ImagePool
from detector.training.processes import Processes
from detector.training.region_trainer import RegionTrainer
from detector.training.shared_batches import SharedBatches, SharedTrainingConfig
from detector.types import Detections
from proposals.errors import UserError
from proposals.types import ProposalSource

MEASURED_SCORE = 0.01  # detections below it do not count in the validation's mean AP


def propose_for(
    config: ProposalConfig, pool: ImagePool, store: Path, processes: Processes, advance: Callable[[], None]
) -> Iterator[NDArray[np.float32]]:
    """The proposals ``(P, 4)`` of each image, read from the store one after another.

    They are made at once, and ``advance`` is called after each image; one that cannot be read has none. Each of several
    processes makes its share, in the store of all.
    """
    source = stored_source(config, store)

    def boxes(index: int) -> NDArray[np.float32]:
        try:
            return proposed_boxes(source, pool.images[index], config.max_proposals)
        except UserError:  # a picture that is read when it is needed, and has become unreadable
            return np.zeros((0, 4), np.float32)

    for index in range(processes.rank, len(pool.images), processes.count):
        boxes(index)
        advance()
    processes.wait()
    return map(boxes, range(len(pool.images)))


def shared_trainer(
    config: SharedTrainingConfig, batches: SharedBatches, folder: Path, **about: Any
) -> RegionTrainer[RegionNet]:
    """A trainer of a region network on shared maps; ``about``: see :class:`RegionTrainer`."""
    return RegionTrainer(
        config, lambda: new_shared_net(config, batches.num_classes), batches, folder, metric="ap_val", **about
    )


def new_shared_net(config: SharedTrainingConfig, num_classes: int) -> RegionNet:
    """The net of ``config`` with random weights."""
    net = RegionNet(config.net, region_heads(config.grid), num_classes, config.maps, config.dropout, config.multibox)
    if config.only_multibox:
        net.freeze_all_but_multibox()
    elif config.frozen:
        net.trunk.freeze_stage_3()
    return net


class ValidationAP:
    """Mean AP (VOC 2007's rule) of a net, as a whole detector, on the first images of the validation part.

    Args:
        recipe: of the run. crop: of the model that it ends with. data: the images that are measured. source: of their
            proposals.
    """

    def __init__(self, recipe: SharedRecipe, crop: CropConfig, data: Dataset, source: ProposalSource) -> None:
        self.recipe, self.crop, self.data, self.source = recipe, crop, data, source
        self.found: dict[str, Detections] = {}
        self.proposals: dict[str, NDArray[np.float32]] = {}
        """What the last measured net found, and the regions that it classified, by image id."""

    def __call__(self, net: RegionNet, last: bool = True) -> float:
        """The mean AP in [0, 1]."""
        from detector.evaluation import evaluate_voc, truth_of_dataset

        recipe = self.recipe
        device = next(net.parameters()).device
        trunk = copy.deepcopy(net.trunk)  # normalisation will be folded
        member = Member(trunk, self.crop, recipe.training.normalization, trained_head(net), recipe.maps)
        post = recipe.model.postprocess.model_copy(update={"score_threshold": MEASURED_SCORE})
        ensemble, multibox = Ensemble([member], device), None
        if net.multibox is not None:
            multibox = MultiBoxSource(copy.deepcopy(net.multibox), ensemble, recipe.maps)
        detector = Detector(
            self.source,
            ensemble,
            self.data.class_names,
            post,
            recipe.model.proposals.max_proposals,
            recipe.refinement,
            multibox=multibox,
        )
        for index, name in enumerate(self.data.image_ids):
            self.found[name], proposals = detector.detect(self.data.read(index))
            self.proposals[name] = proposals.boxes
        result = evaluate_voc(self.found, truth_of_dataset(self.data), self.data.class_names)
        return 0.0 if math.isnan(result.mean_ap) else result.mean_ap
