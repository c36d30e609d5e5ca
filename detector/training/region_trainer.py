"""Training a region network: classes, boxes, overlaps, whatever heads it has, on crops or on shared maps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor, nn

from detector.crop import crop_regions
from detector.nets.googlenet import Logits
from detector.nets.int8 import Ranges, record_ranges
from detector.nets.region_head import HeadLogits
from detector.nets.region_net import RegionNet, image_levels
from detector.nets.weights import to_tensor
from detector.training.batches import CropBatches
from detector.training.gradients import Outcome, parameter_groups
from detector.training.loop import Trainer
from detector.training.pool import ImagePool
from detector.training.processes import ALONE, Machine, Net, Processes, on_device
from detector.training.region_batch import RegionBatch
from detector.training.region_loss import region_loss
from detector.training.region_settings import LearningConfig, RegionTrainingConfig, SharedTrainingConfig
from detector.training.shared_batches import ProposedRegions, SharedBatches
from proposals.errors import UserError

Item = TypeVar("Item")
VALIDATION_BATCH = 256
RANGE_BATCHES = 4
HEADS = ("fc.", "aux1.fc2.", "aux2.fc2.")
"""The layers of a classifier that name the classes: new wherever the classes are."""
PROPOSES = "multibox."
"""The head of a region network that proposes."""


class Teacher(Protocol):
    """Anything that names regions; it sees the very ones that its pupil learns from."""

    def name_crops(self, crops: Tensor) -> Tensor:
        """Probabilities ``(R, K + 1)`` float32, background last, of ``(R, 3, S, S)`` crops of 0..255."""
        ...

    def name_regions(self, images: Tensor, rois: Tensor) -> Tensor:
        """The same of ``rois`` ``(R, 5)`` in whole images ``(M, 3, H, W)`` of 0..255."""
        ...


class Progress(BaseModel):
    """One line of a run's log; empty where the net has no such head.

    ``steps``: that the run will have, as it looks now. ``top1_objects``: top-1 among regions of objects.
    """

    step: int
    steps: int
    epoch: float
    rate: float
    loss: float
    class_loss: float
    box_loss: float | None
    overlap_loss: float | None
    proposal_loss: float | None
    top1_train: float
    top1_objects: float
    top1_val: float | None
    ap_val: float | None
    regions_per_second: float
    seconds: float


class RegionTrainer(Trainer[Net], Generic[Net]):
    """Trains one network.

    Args:
        config: what to do. make_net: a net of the run's architecture, random weights. batches: what to learn from.
        folder: the run folder, which exists. report: called with each line of the log.
        start: puts first weights into the net; ``None`` leaves the random ones.
        teacher: what ``config.teacher_share`` of the classes' loss learns from, or ``None``.
        metric: the validation's column in the log. about: see :class:`detector.training.loop.Trainer`.
    """

    def __init__(
        self,
        config: LearningConfig,
        make_net: Callable[[], Net],
        batches: CropBatches | SharedBatches,
        folder: Path,
        *,
        machine: Machine,
        report: Callable[[Progress], None],
        start: Callable[[Net], None] | None = None,
        teacher: Teacher | None = None,
        metric: str = "top1_val",
        **about: Any,
    ) -> None:
        if not len(batches.pool.boxes):
            raise UserError("the training data hold no usable object")
        self.report, self.metric, self.teacher = report, metric, teacher
        torch.manual_seed(config.first_seed)
        net = make_net()
        if start is not None:
            start(net)
        net = on_device(net, machine.device)
        torch.manual_seed(config.seed)
        super().__init__(config, net, new_optimizer(net, config), batches, folder, machine=machine, **about)

    def output(
        self, model: nn.Module, batch: RegionBatch, choose: ProposedRegions | None = None
    ) -> Tensor | Logits | HeadLogits:
        """What ``model`` says of each region, before its link functions; ``choose`` puts others in their place."""
        x = self.config.normalization(batch.images.to(self.device, non_blocking=True))
        if batch.rois is None or batch.level is None:
            found = model(x)
        else:
            assert isinstance(self.net, RegionNet)
            assert self.net.config is not None
            levels = image_levels(x.contiguous(memory_format=torch.channels_last), self.net.config)
            if self.net.head.classify.weight.requires_grad:
                found = model(levels, batch.rois.to(self.device), batch.level.to(self.device), choose)
            else:
                found = model(levels)
        if isinstance(found, HeadLogits):
            deltas, overlap = (None if table is None else table.float() for table in (found.deltas, found.overlap))
            return HeadLogits(found.classes.float(), deltas, overlap, found.proposed)
        return found  # type: ignore[no-any-return]

    def chooser(self, batch: RegionBatch) -> ProposedRegions | None:
        """What puts MultiBox's regions into ``batch``, where they are learned from."""
        config = self.config
        if not isinstance(config, SharedTrainingConfig) or config.multibox is None or config.only_multibox:
            return None
        count = round(config.proposed * config.regions)
        return ProposedRegions(batch, count, self.batches.num_classes, config.maps) if count else None

    def answers(self, batch: RegionBatch) -> Tensor | None:
        """The teacher's probabilities ``(R, K + 1)``, or ``None``."""
        if self.teacher is None:
            return None
        if batch.rois is None:
            return self.teacher.name_crops(batch.images).to(self.device)
        return self.teacher.name_regions(batch.images, batch.rois).to(self.device)

    def outcome(self, batch: RegionBatch) -> Outcome:
        """The loss; for the log its parts, and how many regions, and regions of objects, were named right."""
        config, choose = self.config, self.chooser(batch)
        output = self.output(self.model, batch, choose)
        batch = batch if choose is None else choose.batch
        loss = region_loss(output, batch, self.batches.num_classes, config, self.answers(batch))
        logits = output if isinstance(output, Tensor) else output[0]
        labels, count = batch.labels.to(self.device), len(batch.labels)
        if len(logits) < count:  # MultiBox alone learns, and an image counts as a full one
            assert isinstance(config, SharedTrainingConfig)
            labels, count = labels[:0], config.regions * len(batch.images)
        right = logits.detach().argmax(1) == labels
        shows = (labels >= 0) & (labels < self.batches.num_classes)
        # The log's figures are means over regions: the share of the objects is scaled to be one over objects.
        objects = float(right[shows].float().mean()) * count if shows.any() else 0.0
        parts = (float(part.detach()) * count for part in loss[1:])
        return Outcome(loss.total, count, (*parts, float(right.sum()), objects))

    def adjust_gradients(self) -> None:
        """See the base class: cut the gradient's norm."""
        if self.config.clip is None:
            return
        # MultiBox learns beside the rest, which should not learn less for it.
        named = [(name.startswith(PROPOSES), p) for name, p in self.net.named_parameters() if p.requires_grad]
        for part in (False, True):
            nn.utils.clip_grad_norm_([p for proposes, p in named if proposes == part], self.config.clip)

    def averaged_net(self) -> Net:
        """The averaged net with normalisation statistics of its own, in evaluation mode."""
        net = super().averaged_net()
        steps = range(self.config.steps, self.config.steps + self.config.statistics)
        batches = (self.batches.batch(step) for step in steps)
        measure_statistics(net, batches, lambda net, batch: self.output(net, batch, self.chooser(batch)))
        return net

    def _log(self, rate: float, loss: float, figures: Sequence[float], metric: float | None, speed: float) -> None:
        classes, box, overlap, proposals, right, objects = figures
        located = isinstance(self.net, RegionNet)
        proposes = isinstance(self.net, RegionNet) and self.net.multibox is not None
        measured = {self.metric: None if metric is None else round(metric, 5)}
        entry = Progress(
            step=self.step,
            steps=self.steps,
            epoch=round(self.step / self.batches.steps_per_epoch, 4),
            rate=rate,
            loss=round(loss, 5),
            class_loss=round(classes, 5),
            box_loss=round(box, 5) if located else None,
            overlap_loss=round(overlap, 5) if located else None,
            proposal_loss=round(proposals, 5) if proposes else None,
            top1_train=round(right, 5),
            top1_objects=round(objects, 5),
            **{"top1_val": None, "ap_val": None, **measured},
            regions_per_second=round(speed, 1),
            seconds=round(self.seconds, 1),
        )
        self.log.write(entry)
        self.report(entry)

    @torch.inference_mode()
    def activation_ranges(self, net: nn.Module) -> Ranges | None:
        """How far a region network's activations reach on a few batches, for int8.

        ``None`` of any other network, and where a layer had nothing to say.
        """
        if not isinstance(net, RegionNet) or not net.head.classify.weight.requires_grad:
            return None
        net.eval()
        batches = (self.batches.batch(step) for step in range(RANGE_BATCHES))
        (ranges,) = record_ranges([net.trunk], lambda: [self.output(net, batch) for batch in batches])
        return ranges if min(ranges.values()) > 0 else None


def new_optimizer(net: nn.Module, config: LearningConfig) -> torch.optim.Optimizer:
    """What moves the weights that learn; its rate is set in every step."""
    heads = ("head.", PROPOSES) if isinstance(net, RegionNet) else HEADS
    groups = parameter_groups(net, config.weight_decay, heads, config.head_rate)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=1e-4)
    return torch.optim.SGD(groups, lr=0.1, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0)


@torch.no_grad()
def measure_statistics(net: Net, batches: Iterable[Item], run: Callable[[Net, Item], object]) -> None:
    """Replace the running means and variances of normalisation by plain means over ``batches``.

    A net of averaged weights has other activations than those whose statistics were averaged along (Izmailov et al.,
    Averaging weights leads to wider optima, section 3.2). Without batches nothing changes.

    Args:
        run: puts a batch through the net.
    """
    net.eval()
    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d) and layer.weight.requires_grad]
    for count, batch in enumerate(batches):
        for layer in layers:
            if count == 0:
                layer.reset_running_stats()
            layer.momentum = None  # a plain mean
            layer.train()  # dropout stays off: nothing is drawn at random
        run(net, batch)
    net.eval()


@torch.inference_mode()
def truth_accuracy(
    net: nn.Module,
    pool: ImagePool,
    config: RegionTrainingConfig,
    limit: int | None = None,
    processes: Processes = ALONE,
) -> float:
    """Top-1 on the annotated boxes of (the first ``limit`` images of) a pool, among all of the net's outputs.

    Each process looks at every ``count``-th image, so that each box counts once; the result is the same in all. NaN
    where there is no box. Images that cannot be read any more are passed over. The net ends in evaluation mode.
    """
    net.eval()
    device = next(net.parameters()).device
    shown = _truth_crops(pool, config, range(len(pool.images))[processes.rank : limit : processes.count])
    right = seen = 0
    while some := list(islice(shown, VALIDATION_BATCH)):
        crops, labels = zip(*some, strict=True)
        found = net(config.normalization(to_tensor(np.stack(crops)).to(device)))
        named = (found.classes if isinstance(found, HeadLogits) else found).argmax(1).cpu().numpy()
        right += int((named == np.array(labels)).sum())
        seen += len(labels)
    right_all, seen_all = processes.total([right, seen], device)
    return right_all / seen_all if seen_all else float("nan")


def _truth_crops(
    pool: ImagePool, config: RegionTrainingConfig, images: Iterable[int]
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The crops ``(S, S, 3)`` of annotated boxes, with their labels."""
    for image in images:
        own = pool.of_image(image)
        with contextlib.suppress(UserError):
            crops = crop_regions(pool.images[image], pool.boxes[own], config.crop, config.normalization.fill)
            yield from zip(crops, pool.labels[own].tolist(), strict=True)
