"""Training a localizer: how much of an object does a region cover, and where does the object lie?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from detector.crop import crop_regions
from detector.nets.localizer import DELTA_SCALE, Localizer, LocalizerOutput
from detector.nets.weights import to_tensor
from detector.training.average import parameter_groups
from detector.training.batches import loader_threads
from detector.training.localizer_batches import (
    LocalizerBatch,
    LocalizerBatches,
    LocalizerTrainingConfig,
    Proposed,
    draw_regions,
)
from detector.training.loop import Machine, Outcome, Trainer, on_device
from detector.training.pool import ImagePool
from detector.training.region_trainer import measure_statistics
from detector.training.sampling import paired_iou
from proposals.boxes import decode, iou
from proposals.errors import UserError

VALIDATION_REGIONS = 8  # of each object
VALIDATION_BATCH = 256


class LocalizerLoss(NamedTuple):
    """Means over the batch; the total is the overlap's loss and ``move_weight`` times the move's."""

    overlap: Tensor
    move: Tensor


def localizer_loss(
    output: LocalizerOutput, overlaps: Tensor, deltas: Tensor, config: LocalizerTrainingConfig
) -> LocalizerLoss:
    """Cross-entropy of the IoU as a probability, and smooth L1 of the deltas (Fast R-CNN's) where they are learned."""
    overlap = F.binary_cross_entropy_with_logits(output.logits, overlaps)
    unit = deltas.new_tensor(DELTA_SCALE)
    each = F.smooth_l1_loss(output.deltas / unit, deltas / unit, reduction="none").sum(1)
    near = overlaps >= config.move_iou
    return LocalizerLoss(overlap, (each * near).sum() / len(each))


class Validation(NamedTuple):
    """On regions drawn around validation objects.

    Attributes:
        correlation: of predicted and true IoU, over all regions.
        error: mean absolute difference of the two.
        before, after: mean IoU with the object, of regions of at least ``move_iou``, as drawn and once moved.
        proposed: the correlation among proposals instead, where pictures were searched.
    """

    correlation: float
    error: float
    before: float
    after: float
    proposed: float = math.nan


def validate_localizer(
    net: Localizer,
    pool: ImagePool,
    config: LocalizerTrainingConfig,
    limit: int | None = None,
    searched: Proposed = MappingProxyType({}),
) -> Validation:
    """Measure ``net`` on regions of (the first ``limit`` pictures of) ``pool``, the same ones every time.

    ``searched``: all proposals of some of its pictures.
    """
    rng = np.random.default_rng([config.seed, 4])
    objects = np.flatnonzero(pool.owner < (limit or len(pool.images)))
    regions = draw_regions(rng, pool, np.repeat(objects, VALIDATION_REGIONS), config.jitter)
    predicted, moved = _look(net, pool, np.repeat(pool.owner[objects], VALIDATION_REGIONS), regions.boxes, config)
    near = regions.overlaps >= config.move_iou
    proposed = math.nan
    if searched:
        owner = np.repeat(list(searched), [len(boxes) for boxes in searched.values()])
        boxes = np.concatenate(list(searched.values()))
        overlaps = [iou(found, pool.truth(number)).max(axis=1, initial=0.0) for number, found in searched.items()]
        proposed = _correlation(_look(net, pool, owner, boxes, config)[0], np.concatenate(overlaps))
    return Validation(
        correlation=_correlation(predicted, regions.overlaps),
        error=float(np.abs(predicted - regions.overlaps).mean()) if len(predicted) else math.nan,
        before=float(regions.overlaps[near].mean()) if near.any() else math.nan,
        after=float(paired_iou(moved[near], regions.objects[near]).mean()) if near.any() else math.nan,
        proposed=proposed,
    )


def _correlation(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    spread = min(predicted.std(), true.std()) if len(true) else 0.0
    return float(np.corrcoef(predicted, true)[0, 1]) if spread > 0 else math.nan


@torch.inference_mode()
def _look(
    net: Localizer,
    pool: ImagePool,
    owner: NDArray[np.integer],
    boxes: NDArray[np.float32],
    config: LocalizerTrainingConfig,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What ``net`` says of ``boxes`` ``(N, 4)`` in pictures ``owner`` ``(N,)``: IoUs ``(N,)``, boxes ``(N, 4)``."""
    was_training = net.training
    net.eval()
    device = next(net.parameters()).device
    predicted, moved = np.empty(len(owner), np.float32), np.empty((len(owner), 4), np.float32)
    for start in range(0, len(owner), VALIDATION_BATCH):
        part = range(start, min(start + VALIDATION_BATCH, len(owner)))
        crops = [
            crop_regions(pool.images[owner[i]], boxes[i][None], config.crop, config.normalization.fill) for i in part
        ]
        output = net(config.normalization(to_tensor(np.concatenate(crops)).to(device)))
        predicted[part] = output.logits.sigmoid().cpu().numpy()
        moved[part] = decode(boxes[part], output.deltas.cpu().numpy())
    net.train(was_training)
    return predicted, moved


class SearchedPictures(NamedTuple):
    """Proposals of some of the training pictures, of the scenes, and of some of the validation pictures."""

    train: Proposed = MappingProxyType({})
    scenes: Proposed = MappingProxyType({})
    val: Proposed = MappingProxyType({})


NOTHING_SEARCHED = SearchedPictures()


class LocalizerProgress(BaseModel):
    """One line of a run's log."""

    step: int
    epoch: float
    rate: float
    loss: float
    overlap_loss: float
    move_loss: float
    correlation_val: float | None
    iou_moved_val: float | None
    correlation_proposed_val: float | None
    crops_per_second: float
    seconds: float


class LocalizerTrainer(Trainer[Localizer, LocalizerBatch]):
    """Trains one localizer.

    Args:
        config: what to do. train: pictures to learn from. val: pictures to watch, or None.
        scenes: more pictures to learn from, or None. searched: proposals of some pictures of each of the three.
        folder: the run folder, which exists.
        report: called with each :class:`LocalizerProgress`. The others: see :class:`detector.training.loop.Trainer`.
    """

    def __init__(
        self,
        config: LocalizerTrainingConfig,
        train: ImagePool,
        val: ImagePool | None,
        scenes: ImagePool | None,
        folder: Path,
        *,
        searched: SearchedPictures = NOTHING_SEARCHED,
        machine: Machine,
        report: Callable[[LocalizerProgress], None],
        log_every: int = 50,
        validate_every: int = 1000,
        validate_images: int = 1000,
    ) -> None:
        for pool in (train, scenes):
            if pool is not None and not len(pool.boxes):
                raise UserError("the training data hold no usable object")
        self.config, self.train, self.val, self.report = config, train, val, report
        torch.manual_seed(config.first_seed)
        net = on_device(Localizer(config.trunk, config.grid), machine.device)
        if config.init_seed is not None:
            torch.manual_seed(config.seed)
        super().__init__(
            config,
            net,
            torch.optim.SGD(
                parameter_groups(net, config.weight_decay),
                lr=config.schedule.rate,
                momentum=config.momentum,
                nesterov=config.momentum > 0,
            ),
            folder,
            machine=machine,
            log_every=log_every,
            validate_every=validate_every,
        )
        self.validate_images = validate_images
        self.batches = LocalizerBatches(train, scenes, config, searched.train, searched.scenes)
        self.searched_val = searched.val
        self.last_validation: Validation | None = None

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every object is shown once."""
        return self.batches.steps_per_epoch

    def averaged_net(self) -> Localizer:
        """The averaged net with normalisation statistics of its own, in evaluation mode."""
        net = super().averaged_net()
        steps = range(self.config.steps, self.config.steps + self.config.statistics_batches)
        crops = (self.batches.batch(step).crops for step in steps)
        measure_statistics(net, crops, lambda net, x: net(self.config.normalization(x.to(self.device))))
        return net

    def stream(self, steps: Iterator[int]) -> Iterator[LocalizerBatch]:
        """See the base class."""
        return self.batches.stream(steps, loader_threads(self.train, self.device))

    def outcome(self, batch: LocalizerBatch) -> Outcome:
        """The loss and its two parts."""
        output = self.net(self.config.normalization(batch.crops.to(self.device)))
        output = LocalizerOutput(*(table.float() for table in output))
        parts = localizer_loss(output, batch.overlaps.to(self.device), batch.deltas.to(self.device), self.config)
        count = len(batch.crops)
        figures = (float(parts.overlap.detach()) * count, float(parts.move.detach()) * count)
        return Outcome(parts.overlap + self.config.move_weight * parts.move, count, figures)

    def split(self, batch: LocalizerBatch, parts: int) -> list[LocalizerBatch]:
        """See the base class."""
        tables = zip(*(table.chunk(parts) for table in batch[:3]), strict=True)
        found: list[LocalizerBatch] = []
        for crops, overlaps, deltas in tables:
            start = sum(len(part.crops) for part in found)
            found.append(LocalizerBatch(crops, overlaps, deltas, batch.shown[start : start + len(crops)]))
        return found

    def describe(self, batch: LocalizerBatch) -> list[str]:
        """See the base class."""
        return [f"{name} IoU {overlap:.2f}" for name, overlap in zip(batch.shown, batch.overlaps.tolist(), strict=True)]

    def validate(self, net: Localizer, last: bool) -> float | None:
        """Correlation of predicted and true IoU on regions of validation pictures: of all of them at the end."""
        if self.val is None or not len(self.val.boxes):
            return None
        limit = None if last else self.validate_images
        self.last_validation = validate_localizer(net, self.val, self.config, limit, self.searched_val)
        metric = self.last_validation.correlation
        return metric if math.isfinite(metric) else None

    def _log(self, rate: float, loss: float, figures: Sequence[float], metric: float | None, speed: float) -> None:
        measured = None if metric is None else self.last_validation
        entry = LocalizerProgress(
            step=self.step,
            epoch=round(self.step / self.steps_per_epoch, 4),
            rate=rate,
            loss=round(loss, 5),
            overlap_loss=round(figures[0], 5),
            move_loss=round(figures[1], 5),
            correlation_val=None if metric is None else round(metric, 5),
            iou_moved_val=None if measured is None else _known(measured.after),
            correlation_proposed_val=None if measured is None else _known(measured.proposed),
            crops_per_second=round(speed, 1),
            seconds=round(self.seconds, 1),
        )
        self.log.write(entry)
        self.report(entry)


def _known(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
