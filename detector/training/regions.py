"""Training a region classifier: K classes and background, from annotated pictures."""

from __future__ import annotations

import csv
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from detector.crop import CropConfig, crop_regions
from detector.nets.googlenet import AUX_LOSS_WEIGHT, GoogLeNet, GoogLeNetConfig, Logits
from detector.nets.weights import Normalization, to_tensor
from detector.sampling import SamplingConfig
from detector.training.augment import AugmentConfig
from detector.training.batches import RegionBatches
from detector.training.checkpoint import load_checkpoint, save_checkpoint
from detector.training.pool import ImagePool
from proposals.errors import UserError


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


class RegionTrainingConfig(BaseModel):
    """Everything that decides the outcome of a run.

    Attributes:
        steps: batches. batch_size: crops in a batch. weight_decay: on convolution and linear weights only.
        average: decay of the running mean of the weights (Polyak averaging) that becomes the result.
        crop_sizes: pairs (share of the run, crop side): from that share on crops have that side. Small crops first cost
            less and teach the same; the last entry should be the crop's own size. Empty: always the crop's own.
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
    seed: int = Field(default=0, ge=0)

    def crop_size(self, step: int) -> int:
        """The crops' side in ``step``."""
        size = self.crop.size
        for share, side in self.crop_sizes:
            if step >= share * self.steps:
                size = side
        return size


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay; biases and normalisation without."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def loss_of(output: Tensor | Logits, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy, plus 0.3 times that of each auxiliary head (paper, section 5)."""
    if isinstance(output, Logits):
        main, *aux = (F.cross_entropy(o, labels, label_smoothing=label_smoothing) for o in output)
        return main + AUX_LOSS_WEIGHT * sum(aux[1:], aux[0])
    return F.cross_entropy(output, labels, label_smoothing=label_smoothing)


class WeightAverage:
    """Running mean of a net's parameters and normalisation statistics (Polyak averaging, paper section 6)."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: t.detach().clone() for name, t in net.state_dict().items()}

    def update(self, net: nn.Module, step: int) -> None:
        """Move towards the net's present weights; early on faster, so that the start is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            mean = self.state[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


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


class Interrupted(Exception):
    """The run was told to stop and saved a checkpoint."""


class RegionTrainer:
    """Trains one network and keeps its run folder: ``log.csv`` and ``checkpoint.pt``, both written as it goes.

    Args:
        config: what to do. train: pictures to learn from. val: pictures to watch accuracy on, or None.
        num_classes: K; the net must have K + 1 outputs. folder: the run folder, which exists.
        report: called with each :class:`Progress`.
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
    ) -> None:
        if config.net.num_outputs != num_classes + 1:
            raise UserError(f"the net has {config.net.num_outputs} outputs for {num_classes} classes and background")
        if not len(train.boxes):
            raise UserError("the training data hold no usable object")
        self.config, self.train, self.val, self.folder, self.report = config, train, val, folder, report
        self.device, self.log_every, self.validate_every = device, log_every, validate_every
        self.validate_images, self.checkpoint_minutes = validate_images, checkpoint_minutes
        torch.manual_seed(config.seed)
        self.net = GoogLeNet(config.net).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batches = RegionBatches(
            train,
            num_classes,
            config.crop,
            config.normalization.fill,
            config.sampling,
            config.augment,
            config.batch_size,
            config.seed,
        )
        self.optimizer = torch.optim.SGD(
            parameter_groups(self.net, config.weight_decay), lr=0.1, momentum=config.momentum, nesterov=True
        )
        self.average = WeightAverage(self.net, config.average)
        self.step = 0
        self.seconds = 0.0
        self.last_accuracy: float | None = None
        self._stop = False

    @property
    def checkpoint_path(self) -> Path:
        """The one checkpoint of the run, always the latest."""
        return self.folder / "checkpoint.pt"

    def restart_average(self) -> None:
        """Begin the averaged weights anew from the net's present ones, as after loading first weights into it."""
        self.average = WeightAverage(self.net, self.config.average)

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self.checkpoint_path,
            {
                "step": self.step,
                "seconds": self.seconds,
                "config": self.config.model_dump(mode="json"),
                "net": self.net.state_dict(),
                "average": self.average.state,
                "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state(),
            },
        )

    def resume(self) -> None:
        """Go on from the run folder's checkpoint; the configuration must be the same."""
        state = load_checkpoint(self.checkpoint_path)
        if state["config"] != self.config.model_dump(mode="json"):
            raise UserError(f"{self.checkpoint_path}: made with another configuration; start a new run instead")
        self.net.load_state_dict(state["net"])
        self.average.state = {name: t.to(self.device) for name, t in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.step, self.seconds = state["step"], state["seconds"]
        self._cut_log()

    def _cut_log(self) -> None:
        """Drop the lines of steps after the checkpoint, which are about to be run again."""
        path = self.folder / "log.csv"
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) <= self.step]
            path.write_text("".join(kept))

    def averaged_net(self) -> GoogLeNet:
        """A copy of the net with the averaged weights, in evaluation mode."""
        net = GoogLeNet(self.config.net).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        net.load_state_dict(self.average.state)
        return net.eval()

    def run(self) -> GoogLeNet:
        """Train to the end and return the averaged net.

        Raises:
            Interrupted: SIGTERM or Ctrl-C came; the checkpoint is saved. UserError: the loss is not finite any more.
        """
        handlers = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._run()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self.save()
        return self.averaged_net()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _steps(self) -> Iterator[tuple[int, int]]:
        for step in range(self.step, self.config.steps):
            yield step, self.config.crop_size(step)

    def _run(self) -> None:
        config = self.config
        self.net.train()
        saved = mark = time.monotonic()
        loss_sum, right, seen = 0.0, 0, 0
        for batch in self.batches.stream(self._steps()):
            rate = config.schedule.at(self.step, config.steps, self.batches.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * config.batch_size / 128
            labels = batch.labels.to(self.device)
            output = self.net(config.normalization(batch.crops.to(self.device)))
            loss = loss_of(output, labels, config.label_smoothing)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise UserError(f"the loss became {value} at step {self.step}; lower schedule.rate and start a new run")
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.average.update(self.net, self.step)
            logits = output.main if isinstance(output, Logits) else output
            loss_sum += value
            right += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
            self.step += 1
            last = self.step == config.steps
            if self.step % self.log_every == 0 or last:
                now = time.monotonic()
                self.seconds += now - mark
                accuracy = None
                if self.val is not None and (self.step % self.validate_every == 0 or last):
                    limit = None if last else self.validate_images
                    accuracy = truth_accuracy(self.averaged_net(), self.val, config, limit)
                    self.last_accuracy = accuracy
                self._log(rate, loss_sum / (seen / config.batch_size), right / seen, accuracy, seen / (now - mark))
                loss_sum, right, seen, mark = 0.0, 0, 0, time.monotonic()
            if self._stop or time.monotonic() - saved > 60 * self.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
            if self._stop and not last:
                raise Interrupted(f"stopped at step {self.step} of {config.steps}; {self.checkpoint_path} is saved")

    def _log(self, rate: float, loss: float, top1: float, accuracy: float | None, speed: float) -> None:
        entry = Progress(
            step=self.step,
            epoch=round(self.step / self.batches.steps_per_epoch, 4),
            rate=rate,
            loss=round(loss, 5),
            top1_train=round(top1, 5),
            top1_val=None if accuracy is None else round(accuracy, 5),
            crops_per_second=round(speed, 1),
            seconds=round(self.seconds, 1),
        )
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(entry.model_dump()))
            if new:
                writer.writeheader()
            writer.writerow(entry.model_dump())
        self.report(entry)
