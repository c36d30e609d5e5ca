"""Training a region network on shared maps: classes, boxes and overlaps at once (Fast R-CNN, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor, nn

from detector.nets.region_head import HeadLogits, HeadShape
from detector.nets.region_net import RegionNet, image_levels
from detector.training.average import parameter_groups
from detector.training.batches import loader_threads, make_ahead
from detector.training.loop import Machine, Outcome, Trainer, on_device
from detector.training.shared_batches import SharedBatch, SharedBatches, SharedTrainingConfig

# Deviations of tx ty tw th, by which they are divided to be of one size (Fast R-CNN's code).
DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)


class SharedProgress(BaseModel):
    """One line of a run's log."""

    step: int
    epoch: float
    rate: float
    loss: float
    class_loss: float
    box_loss: float
    overlap_loss: float
    top1_objects: float
    ap_val: float | None
    images_per_second: float
    seconds: float


class FirstWeights(NamedTuple):
    """State dicts of a trunk and of a head whose deltas are in plain tx ty tw th; ``None`` is random."""

    trunk: dict[str, Tensor] | None = None
    head: dict[str, Tensor] | None = None


class SharedTrainer(Trainer[RegionNet, SharedBatch]):
    """Trains one network.

    Args:
        config: what to do. batches: what to learn from. start: the first weights. folder: the run folder. report:
            called with each line of the log. measure: the metric of a net on validation data.
    """

    def __init__(
        self,
        config: SharedTrainingConfig,
        batches: SharedBatches,
        start: FirstWeights,
        folder: Path,
        *,
        machine: Machine,
        report: Callable[[SharedProgress], None],
        measure: Callable[[RegionNet], float] | None = None,
        log_every: int = 50,
        validate_every: int = 1000,
    ) -> None:
        self.config, self.batches, self.report, self.measure = config, batches, report, measure
        self.last_ap: float | None = None
        torch.manual_seed(config.first_seed)
        net = self.new_net()
        if start.trunk is not None:
            net.trunk.load_state_dict(start.trunk)
        if start.head is not None and _shapes(start.head) == _shapes(net.head.state_dict()):
            net.head.load_state_dict(_scaled(start.head, 1 / torch.tensor(DELTA_SCALE)))
        net = on_device(net, machine.device)
        torch.manual_seed(config.seed)
        super().__init__(
            config,
            net,
            torch.optim.SGD(
                parameter_groups(net, config.weight_decay, ("head.",), config.new_rate),
                lr=config.schedule.rate,
                momentum=config.momentum,
                nesterov=config.momentum > 0,
            ),
            folder,
            machine=machine,
            log_every=log_every,
            validate_every=validate_every,
        )

    @property
    def steps_per_epoch(self) -> float:
        """Batches with as many images as there are."""
        return len(self.batches.pool.images) / self.config.images

    def new_net(self) -> RegionNet:
        """See the base class."""
        config = self.config
        shape = HeadShape(kind="softmax", grid=config.grid, shared=True, overlap=config.grid, overlap_link="logistic")
        net = RegionNet(config.net, shape, self.batches.num_classes, config.maps, config.dropout)
        for layer, deviation in ((net.head.classify, 0.01), (net.head.regress, 0.001), (net.head.judge, 0.001)):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)
        return net

    def stream(self, steps: Iterator[int]) -> Iterator[SharedBatch]:
        """See the base class."""
        part = self.processes.part(self.config.images)
        threads = loader_threads(self.batches.pool, self.device)
        return make_ahead(lambda step: self.batches.batch(step, part), steps, threads)

    def split(self, batch: SharedBatch, parts: int) -> list[SharedBatch]:
        """See the base class; images stay with their regions."""
        found = []
        for numbers in torch.arange(len(batch.images)).chunk(parts):
            first, last = int(numbers[0]), int(numbers[-1])
            rows = (batch.rois[:, 0] >= first) & (batch.rois[:, 0] <= last)
            rois = batch.rois[rows] - batch.rois.new_tensor([first, 0, 0, 0, 0])
            level, labels, deltas, overlaps = (
                table[rows] for table in (batch.level, batch.labels, batch.deltas, batch.overlaps)
            )
            names, images = batch.names[first : last + 1], batch.images[first : last + 1]
            found.append(SharedBatch(images, rois, level, labels, deltas, overlaps, names))
        return found

    def outcome(self, batch: SharedBatch) -> Outcome:
        """The weighted sum of the three losses; for the log the losses and how many objects were named right."""
        labels = batch.labels.to(self.device)
        classes, box, overlap = self._losses(self._logits(self.model, batch), batch, labels)
        loss = classes[0] + self.config.box * box + self.config.overlap * overlap
        count = len(labels)
        shows = labels < self.batches.num_classes
        # The log's figures are means over examples: the share of the objects is scaled so that it is one over objects.
        right = float((classes[1] == labels)[shows].float().mean()) if shows.any() else 0.0
        parts = (float(part.detach()) * count for part in (classes[0], box, overlap))
        return Outcome(loss, count, (*parts, right * count))

    def _logits(self, model: nn.Module, batch: SharedBatch) -> HeadLogits:
        x = self.config.normalization(batch.images.to(self.device)).contiguous(memory_format=torch.channels_last)
        levels = image_levels(x, self.config.maps)
        found = model(levels, batch.rois.to(self.device), batch.level.to(self.device))
        return HeadLogits(*(table.float() for table in found))

    def _losses(
        self, found: HeadLogits, batch: SharedBatch, labels: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        assert found.deltas is not None
        assert found.overlap is not None
        shows = labels < self.batches.num_classes
        unit = torch.tensor(DELTA_SCALE, device=self.device)
        wanted = batch.deltas.to(self.device)[shows] / unit
        # By the objects that a full batch has at most, not by those it has: parts of a batch then add up to its loss.
        most = 4 * self.config.foreground * len(labels)
        box = F.smooth_l1_loss(found.deltas[:, 0][shows], wanted, reduction="sum") / most
        overlap = F.binary_cross_entropy_with_logits(found.overlap, batch.overlaps.to(self.device))
        return (F.cross_entropy(found.classes, labels), found.classes.detach().argmax(1)), box, overlap

    def adjust_gradients(self) -> None:
        """Cut the gradient's norm."""
        nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)

    def averaged_net(self) -> RegionNet:
        """The averaged net with normalisation statistics of its own, in evaluation mode."""
        net = super().averaged_net()
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        if self.config.statistics_batches and norms:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean of all batches
            net.train()
            with torch.no_grad():
                for step in range(self.config.steps, self.config.steps + self.config.statistics_batches):
                    self._logits(net, self.batches.batch(step))
        return net.eval()

    def validate(self, net: RegionNet, last: bool) -> float | None:
        """See the base class."""
        self.last_ap = None if self.measure is None else self.measure(net)
        return self.last_ap

    def describe(self, batch: SharedBatch) -> list[str]:
        """See the base class."""
        return batch.names

    def _log(self, rate: float, loss: float, figures: Sequence[float], metric: float | None, speed: float) -> None:
        entry = SharedProgress(
            step=self.step,
            epoch=round(self.step / self.steps_per_epoch, 4),
            rate=rate,
            loss=round(loss, 5),
            class_loss=round(figures[0], 5),
            box_loss=round(figures[1], 5),
            overlap_loss=round(figures[2], 5),
            top1_objects=round(figures[3], 5),
            ap_val=None if metric is None else round(metric, 4),
            images_per_second=round(speed / self.config.regions, 2),
            seconds=round(self.seconds, 1),
        )
        self.log.write(entry)
        self.report(entry)


def head_state(net: RegionNet) -> dict[str, Tensor]:
    """The head's weights, its deltas in plain tx ty tw th."""
    state = {name: tensor.detach().clone() for name, tensor in net.head.state_dict().items()}
    return _scaled(state, torch.tensor(DELTA_SCALE))


def _scaled(state: dict[str, Tensor], unit: Tensor) -> dict[str, Tensor]:
    """A head's weights whose deltas are ``unit`` ``(4,)`` times as large."""
    weight, bias = state["regress.weight"], state["regress.bias"]
    all_units = unit.to(weight).repeat(len(bias) // 4)
    return {**state, "regress.weight": weight * all_units[:, None], "regress.bias": bias * all_units}


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
