"""Training a network to name regions: K classes and background, from annotated pictures."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from detector.crop import CropConfig, crop_regions
from detector.nets.googlenet import AUX_LOSS_WEIGHT, GoogLeNet, GoogLeNetConfig, Logits
from detector.nets.weights import Normalization, to_tensor
from detector.training.augment import AugmentConfig
from detector.training.average import parameter_groups
from detector.training.batches import UNREADABLE, Batch, CropBatches, RegionBatches, loader_threads
from detector.training.loop import Machine, Net, Outcome, Trainer, on_device
from detector.training.pool import ImagePool
from detector.training.processes import ALONE, Processes
from detector.training.sampling import SamplingConfig
from detector.training.scene_background import Scenes
from detector.training.settings import RunSettings
from detector.training.teaching import TaughtBatches, Teacher, TeachingConfig
from detector.training.windows import WindowBatches, Windows
from proposals.errors import UserError

VALIDATION_BATCH = 256
HEADS = ("fc.", "aux1.fc2.", "aux2.fc2.")
"""The layers that name the classes: new wherever the classes are."""


class CropTrainingConfig(RunSettings):
    """What decides the outcome of a run whatever the net; see also :class:`detector.training.settings.RunSettings`.

    Attributes:
        regions: "drawn" afresh around the objects, or "windows": the model's own proposals and the annotated boxes of
            the whole set, as R-CNN's fine-tuning has them.
        background: whether there is a class of background, K + 1 outputs in all; without it the regions are whole
            pictures and the outputs K: a classifier to begin detection nets from.
        weight_decay: on convolution and linear weights only.
        head_rate: the last layers' learning rate, relative to the others'; 10 in R-CNN.
        crop_sizes: pairs (share of the run, crop side): from that share on crops have that side. Small crops first cost
            less and teach the same; the last entry should be the crop's own size. Empty: always the crop's own.
    """

    regions: Literal["drawn", "windows"] = "drawn"
    background: bool = True
    crop: CropConfig
    normalization: Normalization = Normalization()
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    batch_size: int = Field(default=128, ge=2)
    head_rate: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=2e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    crop_sizes: tuple[tuple[float, int], ...] = ()

    @model_validator(mode="after")
    def _whole_pictures(self) -> CropTrainingConfig:
        if not self.background and (self.sampling.foreground != 1 or self.regions != "drawn"):
            raise ValueError("without background, sampling.foreground must be 1 and the regions drawn")
        return self

    def crop_size(self, step: int) -> int:
        """The crops' side in ``step``."""
        size = self.crop.size
        for share, side in self.crop_sizes:
            if step >= share * self.steps:
                size = side
        return size


class RegionTrainingConfig(CropTrainingConfig):
    """Everything that decides the outcome of a run.

    Attributes:
        nesterov: of the momentum.
        statistics_batches: the averaged net's normalisation statistics are measured anew on so many batches; 0 keeps
            the running ones, which belong to the weights before averaging.
        teaching: how the net learns from a teacher, if it has one; see :mod:`detector.training.teaching`.
    """

    net: GoogLeNetConfig
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    statistics_batches: int = Field(default=20, ge=0)
    teaching: TeachingConfig | None = None

    @property
    def num_classes(self) -> int:
        """K, by the net's outputs."""
        return self.net.num_outputs - self.background


def loss_of(
    output: Tensor | Logits,
    labels: Tensor,
    label_smoothing: float,
    answers: Tensor | None = None,
    share: float = 0.0,
) -> Tensor:
    """Cross-entropy, plus 0.3 times that of each auxiliary head (paper, section 5).

    With a teacher's ``answers`` ``(B, K + 1)`` their ``share`` of it is cross-entropy with those.
    """

    def of_one(logits: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        if answers is None:
            return loss
        seen = labels != UNREADABLE
        return (1 - share) * loss + share * F.cross_entropy(logits[seen], answers[seen])

    if isinstance(output, Logits):
        main, *aux = map(of_one, output)
        return main + AUX_LOSS_WEIGHT * sum(aux[1:], aux[0])
    return of_one(output)


@torch.inference_mode()
def truth_accuracy(
    net: nn.Module,
    pool: ImagePool,
    config: CropTrainingConfig,
    limit: int | None = None,
    processes: Processes = ALONE,
) -> float:
    """Top-1 on the annotated boxes of (the first ``limit`` images of) a pool, among all of the net's outputs.

    Each process looks at every ``count``-th image, so that each box counts once; the result is the same in all. NaN
    where there is no box. Images that cannot be read any more are passed over.
    """
    was_training = net.training
    net.eval()
    device = next(net.parameters()).device
    right = seen = 0
    crops: list[Tensor] = []
    labels: list[Tensor] = []

    def flush() -> None:
        nonlocal right, seen
        if crops:
            guess = net(config.normalization(torch.cat(crops).to(device))).argmax(1).cpu()
            right += int((guess == torch.cat(labels)).sum())
            seen += len(guess)
            crops.clear()
            labels.clear()

    for image in range(processes.rank, min(limit or len(pool.images), len(pool.images)), processes.count):
        own = slice(int(pool.first[image]), int(pool.first[image + 1]))
        with contextlib.suppress(UserError):
            found = crop_regions(pool.images[image], pool.boxes[own], config.crop, config.normalization.fill)
            for start in range(0, len(found), VALIDATION_BATCH):
                crops.append(to_tensor(found[start : start + VALIDATION_BATCH]))
                labels.append(torch.from_numpy(pool.labels[own][start : start + VALIDATION_BATCH]))
                if sum(len(part) for part in crops) >= VALIDATION_BATCH:
                    flush()
    flush()
    net.train(was_training)
    right_all, seen_all = processes.total([right, seen], device)
    return right_all / seen_all if seen_all else float("nan")


class Progress(BaseModel):
    """One line of a run's log."""

    step: int
    epoch: float
    rate: float
    loss: float
    top1_train: float
    top1_val: float | None
    crops_per_second: float
    seconds: float


@torch.no_grad()
def measure_statistics(net: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Replace the running means and variances of normalisation by plain means over ``inputs``, ``(N, 3, S, S)`` each.

    A net of averaged weights has other activations than those whose statistics were averaged along (Izmailov et al.,
    Averaging weights leads to wider optima, section 3.2). Without inputs nothing changes.
    """
    net.eval()
    layers = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for count, x in enumerate(inputs):
        for layer in layers:
            if count == 0:
                layer.reset_running_stats()
            layer.momentum = None  # a plain mean
            layer.train()  # dropout stays off: nothing is drawn at random
        net(x)
    net.eval()


class CropTrainer(Trainer[Net, Batch], Generic[Net]):
    """Trains a net to name crops; a subclass says which, and how its weights move.

    Args:
        config: what to do. outputs: of the net. train: pictures to learn from. val: pictures to watch accuracy on, or
            None. num_classes: K; the net must have K + 1 outputs, without background K. folder: the run folder, which
            exists. scenes: photographs that give background, or None. windows: of ``train``, for ``regions: windows``.
        report: called with each :class:`Progress`. The others: see :class:`detector.training.loop.Trainer`.
    """

    def __init__(
        self,
        config: CropTrainingConfig,
        outputs: int,
        train: ImagePool,
        val: ImagePool | None,
        num_classes: int,
        folder: Path,
        *,
        machine: Machine,
        report: Callable[[Progress], None],
        log_every: int = 50,
        validate_every: int = 1000,
        validate_images: int = 2000,
        scenes: ImagePool | None = None,
        windows: Windows | None = None,
    ) -> None:
        if outputs - config.background != num_classes:
            and_background = " and background" if config.background else ""
            raise UserError(f"the net has {outputs} outputs for {num_classes} classes{and_background}")
        if not len(train.boxes):
            raise UserError("the training data hold no usable object")
        torch.manual_seed(config.first_seed)
        net = on_device(self.new_net(), machine.device)
        if config.init_seed is not None:
            torch.manual_seed(config.seed)
        super().__init__(
            config,
            net,
            self.new_optimizer(parameter_groups(net, config.weight_decay, HEADS, config.head_rate)),
            folder,
            machine=machine,
            log_every=log_every,
            validate_every=validate_every,
        )
        self.run_config, self.train, self.val, self.report = config, train, val, report
        self.validate_images = validate_images
        sampling = config.sampling
        about: dict[str, Any] = {
            "num_classes": num_classes,
            "crop": config.crop,
            "fill": config.normalization.fill,
            "sampling": sampling,
            "augment": config.augment,
            "batch_size": config.batch_size,
            "seed": config.seed,
            "scenes": None if scenes is None else Scenes.search(scenes, sampling.iou_background, sampling.minimum_side),
            "processes": machine.processes,
        }
        self.batches: CropBatches | TaughtBatches
        if config.regions == "windows":
            if windows is None:
                raise UserError("regions: windows needs the proposals of the training pictures")
            self.batches = WindowBatches(windows, train, **about)
        else:
            self.batches = RegionBatches(train, **about)
        self.last_accuracy: float | None = None

    @abstractmethod
    def new_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """What moves the weights; its rate is set in every step."""

    def loss(self, output: Tensor | Logits, labels: Tensor, batch: Batch) -> Tensor:
        """Of the net's output; ``labels`` are those of ``batch`` on the device."""
        return loss_of(output, labels, self.run_config.label_smoothing)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every object is shown once as foreground."""
        return self.batches.steps_per_epoch

    def stream(self, steps: Iterator[int]) -> Iterator[Batch]:
        """See the base class."""
        pairs = ((step, self.run_config.crop_size(step)) for step in steps)
        return self.batches.stream(pairs, loader_threads(self.train, self.device))

    def split(self, batch: Batch, parts: int) -> list[Batch]:
        """See the base class."""
        crops, labels = batch.crops.chunk(parts), batch.labels.chunk(parts)
        ends = np.cumsum([len(part) for part in labels])
        shown = [batch.shown[end - len(part) : end] for end, part in zip(ends, labels, strict=True)]
        answers = [None] * len(labels) if batch.answers is None else batch.answers.chunk(parts)
        return [Batch(*part) for part in zip(crops, labels, shown, answers, strict=True)]

    def describe(self, batch: Batch) -> list[str]:
        """See the base class."""
        return [
            f"{shown.picture} [{' '.join(f'{value:.1f}' for value in shown.box.tolist())}] label {label}"
            for shown, label in zip(batch.shown, batch.labels.tolist(), strict=True)
        ]

    def outcome(self, batch: Batch) -> Outcome:
        """The loss, and how many crops the net had right."""
        labels = batch.labels.to(self.device, non_blocking=True)
        output = self.model(self.run_config.normalization(batch.crops.to(self.device, non_blocking=True)))
        logits = output.main if isinstance(output, Logits) else output
        right = float((logits.detach().argmax(1) == labels).sum())
        return Outcome(self.loss(output, labels, batch), len(labels), (right,))

    def validate(self, net: Net, last: bool) -> float | None:
        """Top-1 on annotated boxes of the validation pictures: of all of them at the end."""
        if self.val is None or not len(self.val.boxes):
            return None
        limit = None if last else self.validate_images
        accuracy = truth_accuracy(net, self.val, self.run_config, limit, self.processes)
        self.last_accuracy = None if math.isnan(accuracy) else accuracy
        return self.last_accuracy

    def _log(self, rate: float, loss: float, figures: Sequence[float], metric: float | None, speed: float) -> None:
        entry = Progress(
            step=self.step,
            epoch=round(self.step / self.steps_per_epoch, 4),
            rate=rate,
            loss=round(loss, 5),
            top1_train=round(figures[0], 5),
            top1_val=None if metric is None else round(metric, 5),
            crops_per_second=round(speed, 1),
            seconds=round(self.seconds, 1),
        )
        self.log.write(entry)
        self.report(entry)


class RegionTrainer(CropTrainer[GoogLeNet]):
    """Trains one region classifier, or a classifier of whole pictures (``background: false``).

    Args:
        teacher: of the same classes, for ``config.teaching``. The others: see :class:`CropTrainer`.
    """

    def __init__(
        self,
        config: RegionTrainingConfig,
        train: ImagePool,
        val: ImagePool | None,
        num_classes: int,
        folder: Path,
        *,
        teacher: Teacher | None = None,
        **about: Any,
    ) -> None:
        if (teacher is None) != (config.teaching is None):
            raise UserError("a teacher and training.teaching go together: the one needs the other")
        self.config = config
        super().__init__(config, config.net.num_outputs, train, val, num_classes, folder, **about)
        if teacher is not None and config.teaching is not None:
            assert not isinstance(self.batches, TaughtBatches)
            self.batches = TaughtBatches(self.batches, teacher, config.teaching)

    def new_net(self) -> GoogLeNet:
        """See the base class."""
        return GoogLeNet(self.config.net)

    def new_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """See the base class."""
        momentum = self.config.momentum
        return torch.optim.SGD(groups, lr=0.1, momentum=momentum, nesterov=self.config.nesterov and momentum > 0)

    def averaged_net(self) -> GoogLeNet:
        """The averaged net with normalisation statistics of its own, in evaluation mode."""
        net = super().averaged_net()
        batches = range(self.config.steps, self.config.steps + self.config.statistics_batches)
        crops = (self.batches.batch(step, self.config.crop.size).crops for step in batches)
        measure_statistics(net, (self.config.normalization(x.to(self.device)) for x in crops))
        return net

    def loss(self, output: Tensor | Logits, labels: Tensor, batch: Batch) -> Tensor:
        """See the base class; with a teacher, its answers have their share."""
        teaching = self.config.teaching
        if batch.answers is None or teaching is None:
            return super().loss(output, labels, batch)
        answers = batch.answers.to(self.device, non_blocking=True)
        return loss_of(output, labels, self.config.label_smoothing, answers, teaching.share)
