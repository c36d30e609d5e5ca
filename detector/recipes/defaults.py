"""The training recipes by name, fitted to a data set's size, to the network that they begin from and to a budget."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detector.crop import CropConfig
from detector.detection.precision import fast_bfloat16
from detector.detection.suppression import PostprocessConfig, RefinementConfig
from detector.model.config import ProposalConfig
from detector.nets.googlenet import GoogLeNetConfig, paper_config
from detector.nets.region_net import SharedMaps
from detector.nets.weights import Normalization
from detector.recipes.region import EnsembleRecipe, MemberPlan, ModelFacts, OneRecipe, SharedRecipe, TrainRecipe
from detector.training.region_batch import AugmentConfig
from detector.training.region_settings import RegionTrainingConfig, ScheduleConfig, SharedTrainingConfig
from detector.training.sampling import SamplingConfig
from proposals.multibox import MultiBoxConfig

FINETUNE_SHOWN, FINETUNE_STEPS = 60, (600, 6000)  # foreground windows shown per object, and bounds of the steps
PAPER_EPOCHS = 60  # Caffe's replication; the paper gives none
CLASSIFIER_EPOCHS, CLASSIFIER_STEPS = 30, (300, 50_000)
MEMBERS = 6
SHARED_MINUTES, SHARED_STEPS = 10.0, 400  # the steps where no minutes are asked for
MULTIBOX_ZOOM = (0.8, 1.25)
SHARED_SIDES = {"small": 352, "random": 352, "bundled": 512}
"""Longer sides, in pixels, of one's own photographs at detection; the models' own sides are larger, for VOC's."""
SHARED_SHRINK = 0.9  # training images beside those at detection
ADAMW = {"optimizer": "adamw", "weight_decay": 0.02, "statistics_batches": 0}
"""How a network without batch normalisation learns: its layers differ too much in scale for one rate of SGD."""


class Initialization(NamedTuple):
    """The network that a run begins from, and how it is used; see :func:`detector.recipes.build.start_of`."""

    init: str
    net: GoogLeNetConfig
    crop: CropConfig
    normalization: Normalization
    proposals: ProposalConfig
    maps: SharedMaps | None = None


def finetune_recipe(start: Initialization, objects: int) -> TrainRecipe:
    """R-CNN's fine-tuning (tech report, section 2.3): all windows, 32 + 96 of 128, a new layer ten times as fast.

    Photometric distortions are not R-CNN's: two hundred photographs need them more than VOC did.
    """
    sampling = SamplingConfig(foreground=0.25, iou_foreground=0.5, iou_background=0.5)
    batch = 128
    foreground = batch * sampling.foreground
    learning: dict[str, Any]
    if start.net.norm == "batch":  # a tenth of the rate of the training from random weights, as in R-CNN
        learning = {"schedule": ScheduleConfig(rate=0.01, warmup=0.02), "head_rate": 10.0, "weight_decay": 5e-4}
    else:
        learning = {"schedule": ScheduleConfig(rate=1e-4, warmup=0.05), "head_rate": 3.0, **ADAMW}
    return TrainRecipe(
        init=start.init,
        training=RegionTrainingConfig(
            net=start.net,
            regions="windows",
            crop=start.crop,
            normalization=start.normalization,
            sampling=sampling,
            augment=AugmentConfig(random_interpolation=False),
            steps=int(np.clip(FINETUNE_SHOWN * objects / foreground, *FINETUNE_STEPS)),
            batch_size=batch,
            grid=3,
            **learning,
        ),
        model=ModelFacts(proposals=start.proposals),
    )


def shared_recipe(start: Initialization) -> SharedRecipe:
    """A region network on shared maps for photographs of one's own, in ten minutes by default.

    It learns from smaller images than it detects in, which costs less; ``zoom`` shows it objects of many sizes, of
    which those at detection are in the middle.
    """
    maps = start.maps or SharedMaps()
    side = SHARED_SIDES.get(start.init, maps.image_side)
    smaller = max(32, round(SHARED_SHRINK * side / 32) * 32)
    learning: dict[str, Any]
    if start.net.norm == "batch":
        learning = {"schedule": ScheduleConfig(rate=0.0083, warmup=0.05), "batch_size": 768, "regions": 96}
    else:
        learning = {"schedule": ScheduleConfig(rate=6e-5, warmup=0.05), "batch_size": 512, "regions": 64, **ADAMW}
    return SharedRecipe(
        init=start.init,
        minutes=SHARED_MINUTES,
        training=SharedTrainingConfig(
            net=start.net,
            normalization=start.normalization,
            maps=maps.model_copy(update={"image_side": smaller}),
            steps=SHARED_STEPS,
            frozen=start.net.norm == "lrn",
            zoom=(0.85, 1.25),
            **learning,
            dropout=0.0,
            multibox=MultiBoxConfig(),
            precision="bfloat16" if fast_bfloat16() else "auto",
        ),
        image_side=side,
        val_images=50,
        # R-CNN's 0.3 is for boxes as proposed. Boxes that were moved onto their object overlap their duplicates by
        # more, and a touching neighbour, in crowds of cells or bunches of fruit, may overlap by up to a half.
        model=ModelFacts(
            proposals=start.proposals,
            postprocess=PostprocessConfig(nms_threshold=0.5, max_detections=200, soft_sigma=0.5, overlap_power=1.0),
        ),
        refinement=RefinementConfig(rounds=2, nms_threshold=0.75, max_regions=200),
    )


def multibox_recipe(start: Initialization) -> SharedRecipe:
    """MultiBox for a model that has none: a head on the maps of its first network, which stays as it is."""
    recipe = shared_recipe(start)
    # No region is looked at, so that images may be as large as at detection.
    maps = start.maps or SharedMaps()
    alone = {"only_multibox": True, "statistics_batches": 0, "maps": maps, "zoom": MULTIBOX_ZOOM}
    training = recipe.training.model_copy(update=alone)
    return recipe.model_copy(update={"training": training, "image_side": maps.image_side})


def paper_recipe(objects: int, init: str = "random") -> TrainRecipe:
    """GoogLeNet's training (paper, sections 5 and 6) on regions: Table 1's net, its crops, its schedule, its averaging.

    What the paper does not give is Caffe's replication's: rate 0.01 for a batch of 32, decay 2e-4, 60 epochs.
    """
    sampling = SamplingConfig(foreground=0.25, perturbed=0.0)
    batch = 128
    foreground = batch * sampling.foreground
    return TrainRecipe(
        init=init,
        training=RegionTrainingConfig(
            net=paper_config(),
            crop=CropConfig(),
            sampling=sampling,
            schedule=ScheduleConfig(kind="googlenet", rate=0.04, warmup=0.0),
            steps=max(1, round(PAPER_EPOCHS * objects / foreground)),
            batch_size=batch,
            nesterov=False,
            statistics_batches=0,
        ),
    )


def classifier_recipe(start: Initialization, images: int) -> TrainRecipe:
    """Naming whole images by GoogLeNet's crops, 8 to 100 % of the area and nearly square (paper, section 6)."""
    batch = 128
    return TrainRecipe(
        init=start.init,
        training=RegionTrainingConfig(
            net=start.net,
            background=False,
            crop=start.crop.model_copy(update={"context_pad": 0}),
            normalization=start.normalization,
            sampling=SamplingConfig(foreground=1.0, perturbed=0.0, iou_foreground=1e-3),  # any crop shows its image
            steps=int(np.clip(CLASSIFIER_EPOCHS * images / batch, *CLASSIFIER_STEPS)),
            batch_size=batch,
            schedule=ScheduleConfig(rate=0.1, warmup=0.05),
        ),
    )


def ensemble_recipe(base: OneRecipe, members: int = MEMBERS) -> EnsembleRecipe:
    """The paper's ensemble (section 7): one recipe and one set of first weights, other sampling and order."""
    training = base.training.model_copy(update={"init_seed": base.training.first_seed})
    return EnsembleRecipe(base=base.model_copy(update={"training": training}), members=(MemberPlan(),) * members)


class Plan(NamedTuple):
    """So many of the images are used, in so many steps."""

    images: int
    steps: int


def plan_training(
    seconds: float, available: int, images_in_step: int, *, image: float, step: float, end: float
) -> Plan:
    """The plan that ends after ``seconds``, of a training with ``available`` images.

    An image is worth its cost if it is shown at least once; of more images than that some are left out. There is at
    least one image and one step, however little time there is.

    Args:
        image, step, end: seconds to read an image and to search it for proposals, of a step, and behind the last one.
    """
    room = max(seconds - end, 0.0)
    shown_once = room / (image + step / images_in_step)
    images = max(1, min(available, int(shown_once)))
    return Plan(images, max(1, int((room - images * image) / step)))
