"""Training a region classifier: K classes and background, from annotated pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from detector.crop import CropConfig, crop_regions
from detector.nets.googlenet import AUX_LOSS_WEIGHT, GoogLeNet, GoogLeNetConfig, Logits
from detector.nets.weights import Normalization, to_tensor
from detector.sampling import SamplingConfig
from detector.training.augment import AugmentConfig
from detector.training.average import parameter_groups
from detector.training.batches import Batch, RegionBatches
from detector.training.loop import Outcome, Trainer, on_device
from detector.training.pool import ImagePool
from detector.training.scene_background import Scenes
from detector.training.schedule import ScheduleConfig
from proposals.errors import UserError


class RegionTrainingConfig(BaseModel):
    """Everything that decides the outcome of a run.

    Attributes:
        steps: batches. batch_size: crops in a batch. weight_decay: on convolution and linear weights only.
        average: decay of the running mean of the weights (Polyak averaging) that becomes the result.
        crop_sizes: pairs (share of the run, crop side): from that share on crops have that side. Small crops first cost
            less and teach the same; the last entry should be the crop's own size. Empty: always the crop's own.
        statistics_batches: the averaged net's normalisation statistics are measured anew on so many batches; 0 keeps
            the running ones, which belong to the weights before averaging.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    net: GoogLeNetConfig
    crop: CropConfig
    normalization: Normalization = Normalization()
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    steps: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=2)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=2e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    average: float = Field(default=0.999, ge=0, lt=1)
    crop_sizes: tuple[tuple[float, int], ...] = ()
    statistics_batches: int = Field(default=20, ge=0)
    seed: int = Field(default=0, ge=0)

    def crop_size(self, step: int) -> int:
        """The crops' side in ``step``."""
        size = self.crop.size
        for share, side in self.crop_sizes:
            if step >= share * self.steps:
                size = side
        return size


def loss_of(output: Tensor | Logits, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy, plus 0.3 times that of each auxiliary head (paper, section 5)."""
    if isinstance(output, Logits):
        main, *aux = (F.cross_entropy(o, labels, label_smoothing=label_smoothing) for o in output)
        return main + AUX_LOSS_WEIGHT * sum(aux[1:], aux[0])
    return F.cross_entropy(output, labels, label_smoothing=label_smoothing)


@torch.inference_mode()
def truth_accuracy(net: GoogLeNet, pool: ImagePool, config: RegionTrainingConfig, limit: int | None = None) -> float:
    """Top-1 on the annotated boxes of (the first ``limit`` images of) a pool, among K classes and background."""
    was_training = net.training
    net.eval()
    device = next(net.parameters()).device
    crops, labels = [], []
    for image in range(min(limit or len(pool.images), len(pool.images))):
        boxes = pool.truth(image)
        crops.append(to_tensor(crop_regions(pool.images[image], boxes, config.crop, config.normalization.fill)))
        labels.append(torch.from_numpy(pool.labels[pool.first[image] : pool.first[image + 1]]))
    right = 0
    for chunk, truth in zip(torch.split(torch.cat(crops), 256), torch.split(torch.cat(labels), 256), strict=True):
        right += int((net(config.normalization(chunk.to(device))).argmax(1).cpu() == truth).sum())
    net.train(was_training)
    return right / sum(len(x) for x in labels)


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
def measure_statistics(net: GoogLeNet, inputs: Iterable[Tensor]) -> None:
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


class RegionTrainer(Trainer[GoogLeNet, Batch]):
    """Trains one region classifier.

    Args:
        config: what to do. train: pictures to learn from. val: pictures to watch accuracy on, or None.
        num_classes: K; the net must have K + 1 outputs. folder: the run folder, which exists.
        scenes: photographs that give background, or None.
        report: called with each :class:`Progress`. The others: see :class:`detector.training.loop.Trainer`.
    """

    def __init__(
        self,
        config: RegionTrainingConfig,
        train: ImagePool,
        val: ImagePool | None,
        num_classes: int,
        folder: Path,
        *,
        device: torch.device,
        report: Callable[[Progress], None],
        log_every: int = 50,
        validate_every: int = 1000,
        validate_images: int = 2000,
        checkpoint_minutes: float = 5.0,
        scenes: ImagePool | None = None,
    ) -> None:
        if config.net.num_outputs != num_classes + 1:
            raise UserError(f"the net has {config.net.num_outputs} outputs for {num_classes} classes and background")
        if not len(train.boxes):
            raise UserError("the training data hold no usable object")
        torch.manual_seed(config.seed)
        net = on_device(GoogLeNet(config.net), device)
        super().__init__(
            config,
            net,
            torch.optim.SGD(
                parameter_groups(net, config.weight_decay), lr=0.1, momentum=config.momentum, nesterov=True
            ),
            folder,
            device=device,
            log_every=log_every,
            validate_every=validate_every,
            checkpoint_minutes=checkpoint_minutes,
        )
        self.config, self.train, self.val, self.report = config, train, val, report
        self.validate_images = validate_images
        sampling = config.sampling
        self.batches = RegionBatches(
            train,
            num_classes,
            config.crop,
            config.normalization.fill,
            config.sampling,
            config.augment,
            config.batch_size,
            config.seed,
            None if scenes is None else Scenes.search(scenes, sampling.iou_background, sampling.minimum_side),
        )
        self.last_accuracy: float | None = None

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every object is shown once as foreground."""
        return self.batches.steps_per_epoch

    def new_net(self) -> GoogLeNet:
        """See the base class."""
        return GoogLeNet(self.config.net)

    def averaged_net(self) -> GoogLeNet:
        """The averaged net with normalisation statistics of its own, in evaluation mode."""
        net = super().averaged_net()
        batches = range(self.config.steps, self.config.steps + self.config.statistics_batches)
        crops = (self.batches.batch(step, self.config.crop.size).crops for step in batches)
        measure_statistics(net, (self.config.normalization(x.to(self.device)) for x in crops))
        return net

    def stream(self, steps: Iterator[int]) -> Iterator[Batch]:
        """See the base class."""
        return self.batches.stream((step, self.config.crop_size(step)) for step in steps)

    def outcome(self, batch: Batch) -> Outcome:
        """The loss, and how many crops the net had right."""
        labels = batch.labels.to(self.device)
        output = self.net(self.config.normalization(batch.crops.to(self.device)))
        logits = output.main if isinstance(output, Logits) else output
        right = float((logits.detach().argmax(1) == labels).sum())
        return Outcome(loss_of(output, labels, self.config.label_smoothing), len(labels), (right,))

    def validate(self, last: bool) -> float | None:
        """Top-1 on annotated boxes of the validation pictures: of all of them at the end."""
        if self.val is None:
            return None
        limit = None if last else self.validate_images
        self.last_accuracy = truth_accuracy(self.averaged_net(), self.val, self.config, limit)
        return self.last_accuracy

    def _log(self, rate: float, loss: float, figures: Sequence[float], worth: float | None, speed: float) -> None:
        entry = Progress(
            step=self.step,
            epoch=round(self.step / self.steps_per_epoch, 4),
            rate=rate,
            loss=round(loss, 5),
            top1_train=round(figures[0], 5),
            top1_val=None if worth is None else round(worth, 5),
            crops_per_second=round(speed, 1),
            seconds=round(self.seconds, 1),
        )
        self.write_log(entry)
        self.report(entry)
