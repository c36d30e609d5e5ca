"""What decides the outcome of a region network's training."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detector.crop import CropConfig
from detector.detection.precision import Precision
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_net import SharedMaps
from detector.nets.weights import Normalization
from detector.training.region_batch import AugmentConfig
from detector.training.sampling import SamplingConfig
from proposals.multibox import MultiBoxConfig


class ScheduleConfig(BaseModel):
    """The learning rate over the run.

    Attributes:
        kind: "cosine" falls to 0 along a half cosine; "linear" along a line; "googlenet" multiplies by 0.96 every 8
            epochs (paper, section 6).
        rate: the peak, for a batch of 128. warmup: share of the steps in which it rises linearly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cosine", "linear", "googlenet"] = "cosine"
    rate: float = Field(default=0.1, gt=0)
    warmup: float = Field(default=0.02, ge=0, lt=1)

    def at(self, step: int, steps: int, steps_per_epoch: float) -> float:
        """The rate of ``step`` in ``[0, steps)``."""
        progress = (step + 1) / steps
        if progress <= self.warmup:
            return self.rate * progress / self.warmup
        if self.kind == "googlenet":
            return float(self.rate * 0.96 ** math.floor(step / steps_per_epoch / 8))
        left = (1 - progress) / (1 - self.warmup)
        return self.rate * (left if self.kind == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


class LearningConfig(BaseModel):
    """How any region network learns.

    Attributes:
        schedule: the learning rate; ``schedule.rate`` is for a batch of 128. steps: batches.
        planned_seconds: that the steps are planned to take. A run that would take a tenth more or less, because the
            machine has become slower or faster, has fewer or more steps (at most twice as many), and its schedule ends
            with them; ``None`` takes whatever they take.
        batch_size: examples in a batch, of all processes together.
        averaged: the result is a running mean of the weights (Polyak averaging) over about so large a share of the
            steps; 0 takes the last weights.
        precision: of the forward and backward pass; "auto" is bfloat16 on a GPU that has it, float16 with a scaled
            loss on an older one, float32 on the CPU. Weights, their mean and the optimizer stay float32.
        patience: stop after so many validations in a row without a better one; 0 never does.
        result: "last" takes the averaged weights of the end, "best" those of the best validation.
        shared_normalization: whether batch normalisation sees the whole batch of several processes, as one process
            would, or each its own part, which waits for nothing.
        seed: of all chance. init_seed: of the new weights alone; ``None`` takes ``seed``. The paper's ensemble had one
            set of first weights for all members, so that they differ by sampling and order alone.
        normalization: of the images. augment: how they are changed.
        optimizer: "sgd" with ``momentum``, of Nesterov's kind or not, or "adamw".
        weight_decay: on convolution and linear weights only.
        head_rate: the last layers' learning rate, relative to the others'; 10 in R-CNN.
        clip: largest norm of a step's gradient; ``None`` leaves it.
        box, overlap: weights of these losses beside the classes'.
        statistics_batches: the averaged net's normalisation statistics are measured anew on so many batches, in a
            short run on one for 8 steps and at least ten; 0 keeps the running ones, which belong to the weights before
            averaging.
        teacher_share: of the classes' loss, cross-entropy with a teacher's answers in place of the labels (Hinton,
            Vinyals and Dean, Distilling the knowledge in a neural network, 2015, at temperature 1); 0 without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: ScheduleConfig = ScheduleConfig()
    steps: int = Field(ge=1)
    planned_seconds: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=128, ge=1)
    averaged: float = Field(default=0.08, ge=0, lt=1)
    precision: Precision = "auto"
    patience: int = Field(default=0, ge=0)
    result: Literal["last", "best"] = "last"
    shared_normalization: bool = True
    seed: int = Field(default=0, ge=0)
    init_seed: int | None = Field(default=None, ge=0)
    normalization: Normalization = Normalization()
    augment: AugmentConfig = AugmentConfig()
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=2e-4, ge=0)
    head_rate: float = Field(default=1.0, gt=0)
    clip: float | None = Field(default=None, gt=0)
    box: float = Field(default=1.0, ge=0)
    overlap: float = Field(default=0.5, ge=0)
    statistics_batches: int = Field(default=20, ge=0)
    teacher_share: float = Field(default=0.0, ge=0, le=1)

    @property
    def decay(self) -> float:
        """Of the running mean of the weights: of so many steps as ``averaged`` says, and of at least ten."""
        return 1 - 1 / max(10.0, self.averaged * self.steps) if self.averaged else 0.0

    @property
    def statistics(self) -> int:
        """Batches that normalisation statistics are measured on."""
        return min(self.statistics_batches, max(10, self.steps // 8))

    @property
    def first_seed(self) -> int:
        """The seed of the new weights."""
        return self.seed if self.init_seed is None else self.init_seed

    @property
    def box_divisor(self) -> float:
        """See :func:`detector.training.region_loss.region_loss`."""
        return 1.0


class RegionTrainingConfig(LearningConfig):
    """Everything that decides the outcome of a run on crops.

    Attributes:
        regions: "drawn" afresh around the objects, or "windows": the model's own proposals and the annotated boxes of
            the whole set, as R-CNN's fine-tuning has them.
        background: whether there is a class of background, K + 1 outputs in all; without it the regions are whole
            images and the outputs K: a classifier to begin detection nets from.
        crop: how regions become crops. sampling: how they are drawn.
        grid: cells a side that boxes and overlaps are predicted from; 0 for a net that only names crops.
    """

    regions: Literal["drawn", "windows"] = "drawn"
    background: bool = True
    crop: CropConfig
    sampling: SamplingConfig = SamplingConfig()
    batch_size: int = Field(default=128, ge=2)
    net: GoogLeNetConfig
    grid: int = Field(default=0, ge=0, le=14)

    @model_validator(mode="after")
    def _whole_images(self) -> RegionTrainingConfig:
        if not self.background and (self.sampling.foreground != 1 or self.regions != "drawn"):
            raise ValueError("without background, sampling.foreground must be 1 and the regions drawn")
        if not self.background and self.grid:
            raise ValueError("grid is for a net with background")
        return self

    @property
    def num_classes(self) -> int:
        """K, by the net's outputs."""
        return self.net.num_outputs - self.background


class SharedTrainingConfig(LearningConfig):
    """How a region network on shared maps is trained; the base class has the settings of every region network.

    Attributes:
        batch_size: regions in a batch, of ``batch_size / regions`` images.
        net, maps: the trunk, and how regions are pooled. grid: cells a side that boxes and overlaps are predicted
            from.
        regions: of each image in a batch. foreground: at most so large a share of them shows objects. near: share of
            the rest with an IoU from 0.1 on.
        copies: perturbed copies of each object among the regions to draw from; see
            :func:`detector.training.sampling.perturbed_boxes` for ``strength``, up to which each is perturbed.
        zoom: range of the random factor of an image's size. visible: an object of which a smaller share than this
            is left on the canvas is neither object nor background.
        balance: images are drawn by the rarest of their classes: 0 all alike, 1 as if classes were equally frequent.
        dropout: before the classifier.
        frozen: whether the layers up to Inception 3b keep their weights and normalisation statistics, as Fast R-CNN
            keeps its first layers (section 4.5): they cost a third of a step.
        multibox: the head that learns to propose from the same maps; ``None`` for none. proposed: share of an image's
            regions that are its boxes; see :class:`detector.training.shared_batches.ProposedRegions`. only_multibox:
            nothing else learns.
    """

    batch_size: int = Field(default=256, ge=2)
    schedule: ScheduleConfig = ScheduleConfig(rate=0.015, warmup=0.02)
    net: GoogLeNetConfig
    maps: SharedMaps = SharedMaps()
    grid: int = Field(default=3, ge=1, le=14)
    regions: int = Field(default=64, ge=2)
    foreground: float = Field(default=0.375, gt=0, lt=1)
    near: float = Field(default=0.6, ge=0, le=1)
    copies: int = Field(default=6, ge=0)
    strength: float = Field(default=0.5, gt=0, le=1)
    zoom: tuple[float, float] = (0.75, 1.4)
    visible: float = Field(default=0.5, gt=0, le=1)
    balance: float = Field(default=0.5, ge=0, le=1)
    head_rate: float = Field(default=3.0, gt=0)
    clip: float | None = Field(default=10.0, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    frozen: bool = False
    multibox: MultiBoxConfig | None = None
    proposed: float = Field(default=0.33, ge=0, le=0.5)
    only_multibox: bool = False
    statistics_batches: int = Field(default=50, ge=0)
    augment: AugmentConfig = AugmentConfig(random_interpolation=False)

    @model_validator(mode="after")
    def _something_learns(self) -> SharedTrainingConfig:
        if self.only_multibox and self.multibox is None:
            raise ValueError("only_multibox needs multibox: what learns then?")
        return self

    @property
    def images(self) -> int:
        """Images in a batch."""
        return max(1, self.batch_size // self.regions)

    @property
    def box_divisor(self) -> float:
        """See the base class: the objects of a full batch weigh as 4 of Fast R-CNN's."""
        return 4 * self.foreground
