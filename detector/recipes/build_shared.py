"""The composition root of a training on shared maps: a recipe and a data set become a trainer, and it a detector."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.crop import CropConfig
from detector.data import Dataset
from detector.detection.ensemble import Ensemble, Member
from detector.detection.pipeline import Detector
from detector.evaluation import evaluate_voc, truth_of_dataset
from detector.model.config import named_folder, read_model_config
from detector.model.load import read_member
from detector.model.proposals import proposed_boxes, stored_source
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import RegionNet
from detector.recipes.initialization import initial_weights
from detector.recipes.region import SharedRecipe
from detector.training.loop import Machine
from detector.training.pool import ImagePool
from detector.training.processes import Processes
from detector.training.region_loss import DELTA_SCALE
from detector.training.region_trainer import Progress, RegionTrainer
from detector.training.shared_batches import SharedBatches, SharedTrainingConfig
from detector.types import Detections
from proposals.types import ProposalSource

MEASURED_SCORE = 0.01  # detections below it do not count in the validation's mean AP


def propose_for(
    recipe: SharedRecipe, pool: ImagePool, store: Path, processes: Processes, advance: Callable[[], None]
) -> list[NDArray[np.float32]]:
    """The proposals ``(P, 4)`` of each image; each of several processes makes its share, in the store of all."""
    config = recipe.model.proposals
    source = stored_source(config, store)
    for index in range(processes.rank, len(pool.images), processes.count):
        proposed_boxes(source, pool.images[index], config.max_proposals)
        advance()
    processes.wait()
    return [proposed_boxes(source, image, config.max_proposals) for image in pool.images]


def shared_trainer(
    config: SharedTrainingConfig, batches: SharedBatches, folder: Path, **about: Any
) -> RegionTrainer[RegionNet]:
    """A trainer of a region network on shared maps; ``about``: see :class:`RegionTrainer`."""

    def new_net() -> RegionNet:
        shape = HeadShape(kind="softmax", grid=config.grid, shared=True, overlap=config.grid, overlap_link="logistic")
        return RegionNet(config.net, shape, batches.num_classes, config.maps, config.dropout)

    return RegionTrainer(config, new_net, batches, folder, metric="ap_val", **about)


def build_shared_trainer(
    recipe: SharedRecipe,
    pool: ImagePool,
    proposals: Sequence[NDArray[np.float32]],
    class_keys: tuple[str, ...],
    folder: Path,
    *,
    machine: Machine,
    report: Callable[[Progress], None],
    measure: Callable[[RegionNet, bool], float] | None = None,
) -> RegionTrainer[RegionNet]:
    """A trainer whose net has its first weights.

    Raises:
        UserError: they cannot be had, or belong to another architecture.
    """
    batches = SharedBatches(pool, proposals, len(class_keys), recipe.training, machine.processes)
    trunk, head = trunk_weights(recipe), head_weights(recipe.init, class_keys)

    def start(net: RegionNet) -> None:
        if trunk is not None:
            net.trunk.load_state_dict(trunk)
        put_head(net, head)

    return shared_trainer(
        recipe.training, batches, folder, machine=machine, report=report, start=start, measure=measure
    )


def trunk_weights(recipe: SharedRecipe) -> dict[str, Tensor] | None:
    """The trunk's first weights by the recipe; ``None`` for random ones."""
    state = initial_weights(recipe.init)
    return None if state is None else {n: t for n, t in state.items() if not n.startswith(("fc.", "aux"))}


def head_weights(init: str, class_keys: tuple[str, ...]) -> dict[str, Tensor] | None:
    """The weights of the head that the model ``init`` has, if it was trained on shared maps for these classes."""
    if init in ("random", "torchvision") or init.endswith(".pth"):
        return None
    folder = named_folder(init)
    config = read_model_config(folder)
    head = read_member(folder, config.members[0], len(config.class_names)).head
    same = config.class_keys == class_keys and config.members[0].shared is not None
    return head.state_dict() if same and head is not None else None


def put_head(net: RegionNet, state: dict[str, Tensor] | None) -> None:
    """Load a model's head into a net that will be trained, if there is one of the same shape."""
    own = net.head.state_dict()
    if state is not None and {n: t.shape for n, t in state.items()} == {n: t.shape for n, t in own.items()}:
        net.head.load_state_dict(_scaled(state, 1 / torch.tensor(DELTA_SCALE)))


def trained_head(net: RegionNet) -> RegionHead:
    """The head of a trained net as a model has it: its deltas in plain tx ty tw th."""
    head = RegionHead(net.head.shape, net.head.num_classes, net.trunk.num_features)
    state = {name: tensor.detach().clone() for name, tensor in net.head.state_dict().items()}
    head.load_state_dict(_scaled(state, torch.tensor(DELTA_SCALE)))
    return head.eval()


def _scaled(state: dict[str, Tensor], unit: Tensor) -> dict[str, Tensor]:
    """A head's weights whose deltas are ``unit`` ``(4,)`` times as large."""
    weight, bias = state["regress.weight"], state["regress.bias"]
    units = unit.to(weight).repeat(len(bias) // 4)
    return {**state, "regress.weight": weight * units[:, None], "regress.bias": bias * units}


class ValidationAP:
    """Mean AP (VOC 2007's rule) of a net, as a whole detector, on the first images of the validation part.

    Args:
        recipe: of the run. crop: of the model that it ends with. data: the images that are measured. source: of their
            proposals.
    """

    def __init__(self, recipe: SharedRecipe, crop: CropConfig, data: Dataset, source: ProposalSource) -> None:
        self.recipe, self.crop, self.data, self.source = recipe, crop, data, source

    def __call__(self, net: RegionNet, last: bool = True) -> float:
        """The mean AP in [0, 1]."""
        recipe = self.recipe
        device = next(net.parameters()).device
        trunk = copy.deepcopy(net.trunk)  # normalisation will be folded
        member = Member(trunk, self.crop, recipe.training.normalization, trained_head(net), recipe.maps)
        post = recipe.model.postprocess.model_copy(update={"score_threshold": MEASURED_SCORE})
        detector = Detector(
            self.source,
            Ensemble([member], device),
            self.data.class_names,
            post,
            recipe.model.proposals.max_proposals,
            recipe.refinement,
        )
        found: dict[str, Detections] = {}
        for index, name in enumerate(self.data.image_ids):
            found[name] = detector(self.data.read(index))
        result = evaluate_voc(found, truth_of_dataset(self.data), self.data.class_names)
        return 0.0 if math.isnan(result.mean_ap) else result.mean_ap
