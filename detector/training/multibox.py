"""Training MultiBox: where objects are, whatever they are, from annotated pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor, nn

from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, to_tensor
from detector.training.augment import AugmentConfig, apply_distortion, draw_distortion
from detector.training.average import parameter_groups
from detector.training.batches import make_ahead
from detector.training.loop import Machine, Outcome, Trainer, on_device
from detector.training.machine import mixed_seed
from detector.training.order import EpochOrder
from detector.training.pool import ImagePool
from detector.training.processes import ALONE, Processes
from detector.training.sampling import paired_iou
from detector.training.scenes import SceneConfig, make_scene
from detector.training.schedule import ScheduleConfig
from detector.training.settings import RunSettings
from proposals.boxes import flip_horizontal, iou
from proposals.calibration import Calibration, fit_calibration
from proposals.errors import UserError
from proposals.multibox import MultiBoxConfig, MultiBoxNet, MultiBoxOutput
from proposals.multibox_loss import MultiBoxLossConfig, Truths, match, multibox_loss
from proposals.multibox_source import squash
from proposals.priors import Priors, fit, grid_priors, relative_boxes
from proposals.recall import best_overlaps

VALIDATION_BOXES = 50
PRIOR_SCENES = (1_000, 20_000)  # training pictures whose boxes the priors are fitted to
CALIBRATION_BOXES = 200  # of each picture; as many as detection keeps by default


class MultiBoxTrainingConfig(RunSettings):
    """Everything that decides the outcome of a run; see also :class:`detector.training.settings.RunSettings`.

    Attributes:
        trunk: the network below the head; its ``num_outputs``, ``aux`` and ``dropout`` have no meaning.
        num_priors: K of the global head, fitted to the training boxes; the convolutional head has its own 1,420.
        scenes, augment: how training pictures are made and changed.
        optimizer: "adamw", or "sgd" with Nesterov's ``momentum``. ``schedule.rate`` is for a batch of 128.
        weight_decay: on convolution and linear weights only.
        clip: the gradient's norm is cut to this, because a rare picture with a far match has a very large one.
    """

    trunk: GoogLeNetConfig
    multibox: MultiBoxConfig = MultiBoxConfig()
    num_priors: int = Field(default=200, ge=1)
    loss: MultiBoxLossConfig = MultiBoxLossConfig()
    normalization: Normalization = Normalization()
    scenes: SceneConfig = SceneConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: ScheduleConfig = ScheduleConfig(rate=0.002)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip: float = Field(default=100.0, gt=0)


def fit_priors(config: MultiBoxTrainingConfig, pool: ImagePool) -> Priors:
    """The run's priors: the convolutional head's own, or k-means on the boxes of the run's kind of pictures.

    The boxes are those of training pictures (mosaics and crops included), so that the priors lie where the net will be
    asked to find objects.

    Raises:
        UserError: the pool has no object, or too few different ones.
    """
    if not len(pool.boxes):
        raise UserError("the training data hold no usable object")
    if config.multibox.head == "convolutional":
        return grid_priors()
    size = config.multibox.input_size
    boxes = []
    scenes = int(np.clip(len(pool.images), *PRIOR_SCENES))  # of a small pool, several of each picture
    for i, image in enumerate(np.linspace(0, len(pool.images) - 1, scenes).astype(int).tolist()):
        rng = np.random.default_rng([config.seed, 3, i])
        boxes.append(make_scene(rng, pool, image, size, config.scenes).boxes)
    return fit(np.concatenate([np.zeros((0, 4), np.float32), *boxes]), config.num_priors, seed=config.seed)


class SceneBatch(NamedTuple):
    """Pictures ``(B, 3, S, S)`` float32 0..255, channels last, their objects, and the name of each one's main image."""

    pictures: Tensor
    truths: Truths
    main: list[str]


class SceneBatches:
    """Draws batches of training pictures; each depends on the seed and the step alone.

    Every picture of the pool is the main one of a training picture once per epoch. Each of several ``processes`` makes
    its part of a batch.
    """

    def __init__(self, pool: ImagePool, config: MultiBoxTrainingConfig, processes: Processes = ALONE) -> None:
        self.pool, self.config, self.processes = pool, config, processes
        self.order = EpochOrder(len(pool.images), config.seed)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every picture is shown once."""
        return len(self.pool.images) / self.config.batch_size

    def batch(self, step: int) -> SceneBatch:
        """This process's part of the batch of ``step``."""
        config, size = self.config, self.config.multibox.input_size
        part = self.processes.part(config.batch_size)
        pictures = np.empty((part.stop - part.start, size, size, 3), np.uint8)
        boxes, main = [], []
        for place, i in enumerate(range(part.start, part.stop)):
            rng = np.random.default_rng([config.seed, 2, step, i])
            image = self.order[step * config.batch_size + i]
            main.append(self.pool.name(image))
            scene = make_scene(
                rng, self.pool, image, size, config.scenes, random_interpolation=config.augment.random_interpolation
            )
            mirrored = rng.random() < config.augment.mirror
            pictures[place] = scene.picture[:, ::-1] if mirrored else scene.picture
            boxes.append(flip_horizontal(scene.boxes, 1) if mirrored else scene.boxes)
        generator = torch.Generator().manual_seed(mixed_seed(config.seed, 2, step))
        amounts = draw_distortion(config.batch_size, config.augment, generator).part(part)
        owner = np.repeat(np.arange(len(boxes), dtype=np.int64), [len(b) for b in boxes])
        together = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
        truths = Truths(torch.from_numpy(together), torch.from_numpy(owner))
        return SceneBatch(apply_distortion(to_tensor(pictures), amounts), truths, main)

    def stream(self, steps: Iterator[int]) -> Iterator[SceneBatch]:
        """The batches of ``steps``, made ahead in one thread while the net computes."""
        return make_ahead(self.batch, steps)


class Ranked(NamedTuple):
    """Boxes ``(n, 4)`` of one picture relative to it, best first, and their logits ``(n,)``."""

    boxes: NDArray[np.float32]
    logits: NDArray[np.float32]


@torch.inference_mode()
def propose_whole(
    net: MultiBoxNet, pool: ImagePool, normalization: Normalization, images: Sequence[int], keep: int
) -> list[Ranked]:
    """The best ``keep`` boxes of whole pictures, those at ``images`` in the pool."""
    device, size = net.priors.device, net.config.input_size
    found = []
    for start in range(0, len(images), 64):
        views = [squash(pool.images[i], size) for i in images[start : start + 64]]
        output = net(normalization(to_tensor(np.stack(views)).to(device)))
        best = output.logits.sort(dim=1, descending=True, stable=True)
        order = best.indices[:, :keep]
        boxes = output.locations.gather(1, order[:, :, None].expand(-1, -1, 4)).cpu().numpy()
        logits = best.values[:, :keep].cpu().numpy()
        found += [Ranked(b, v) for b, v in zip(boxes.clip(0, 1), logits, strict=True)]
    return found


def relative_truths(pool: ImagePool, images: Sequence[int]) -> list[NDArray[np.float32]]:
    """Objects ``(M, 4)`` of each of the pictures at ``images``, relative to it."""
    return [relative_boxes(pool.truth(i), np.tile(pool.sizes[i], (len(pool.truth(i)), 1))) for i in images]


def validation_recall(
    net: MultiBoxNet, pool: ImagePool, normalization: Normalization, limit: int | None, processes: Processes = ALONE
) -> float:
    """Share of the objects on (the first ``limit``) whole pictures that one of the best 50 boxes overlaps by 0.5 (IoU).

    Each process looks at every ``count``-th picture; the result is the same in all.
    """
    own = range(processes.rank, min(limit or len(pool.images), len(pool.images)), processes.count)
    found = propose_whole(net, pool, normalization, own, VALIDATION_BOXES)
    overlaps = best_overlaps([f.boxes for f in found], relative_truths(pool, own), [VALIDATION_BOXES])
    covered, objects = processes.total([int((overlaps >= 0.5).sum()), overlaps.size], net.priors.device)
    return covered / objects if objects else math.nan


def calibrate(net: MultiBoxNet, pool: ImagePool, normalization: Normalization) -> Calibration:
    """Calibrate the confidences on whole pictures; as they are where the pool does not tell good boxes from bad."""
    images = range(len(pool.images))
    found = propose_whole(net, pool, normalization, images, CALIBRATION_BOXES)
    hits = [np.zeros(0, np.bool_)]
    for ranked, truth in zip(found, relative_truths(pool, images), strict=True):
        overlap = iou(ranked.boxes, truth)
        hits.append(overlap.max(axis=1, initial=0) >= 0.5)
    try:
        return fit_calibration(
            np.concatenate([np.zeros(0, np.float32), *(f.logits for f in found)]), np.concatenate(hits)
        )
    except UserError:
        return Calibration()


class MultiBoxProgress(BaseModel):
    """One line of a run's log."""

    step: int
    epoch: float
    rate: float
    loss: float
    location_loss: float
    confidence_loss: float
    iou_matched: float
    recall_val: float | None
    pictures_per_second: float
    seconds: float


def make_optimizer(net: nn.Module, config: MultiBoxTrainingConfig) -> torch.optim.Optimizer:
    """The run's optimizer; the schedule sets its rate."""
    groups = parameter_groups(net, config.weight_decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.schedule.rate)
    return torch.optim.SGD(groups, lr=config.schedule.rate, momentum=config.momentum, nesterov=config.momentum > 0)


class MultiBoxTrainer(Trainer[MultiBoxNet, SceneBatch]):
    """Trains one MultiBox network.

    Args:
        config: what to do. priors: those of :func:`fit_priors`, or others. train: pictures to learn from. val: pictures
            to watch recall on, or None. folder: the run folder, which exists.
        report: called with each :class:`MultiBoxProgress`. The others: see :class:`detector.training.loop.Trainer`.
    """

    def __init__(
        self,
        config: MultiBoxTrainingConfig,
        priors: Priors,
        train: ImagePool,
        val: ImagePool | None,
        folder: Path,
        *,
        machine: Machine,
        report: Callable[[MultiBoxProgress], None],
        log_every: int = 50,
        validate_every: int = 1000,
        validate_images: int = 2000,
    ) -> None:
        if not len(train.boxes):
            raise UserError("the training data hold no usable object")
        torch.manual_seed(config.first_seed)
        self.config, self.priors, self.train, self.val, self.report = config, priors, train, val, report
        net = on_device(MultiBoxNet(Trunk(config.trunk), priors, config.multibox), machine.device)
        if config.init_seed is not None:
            torch.manual_seed(config.seed)
        super().__init__(
            config,
            net,
            make_optimizer(net, config),
            folder,
            machine=machine,
            log_every=log_every,
            validate_every=validate_every,
        )
        self.validate_images = validate_images
        self.batches = SceneBatches(train, config, machine.processes)
        self.last_recall: float | None = None

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every picture is the main one once."""
        return self.batches.steps_per_epoch

    def stream(self, steps: Iterator[int]) -> Iterator[SceneBatch]:
        """See the base class."""
        return self.batches.stream(steps)

    def adjust_gradients(self) -> None:
        """Cut the gradient's norm."""
        nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)

    def outcome(self, batch: SceneBatch) -> Outcome:
        """The loss; its two parts and the mean overlap of matched boxes with their objects, for the log."""
        config, count = self.config, len(batch.pictures)
        truths = Truths(*(t.to(self.device) for t in batch.truths))
        # Distances to the truth are small numbers: the loss is made in float32 whatever the net computes in.
        output = MultiBoxOutput(*(t.float() for t in self.model(config.normalization(batch.pictures.to(self.device)))))
        matches = match(output, self.net.priors, truths, config.loss)
        loss = multibox_loss(output, truths, matches, config.loss)
        image = truths.owner[matches.truth]
        found = output.locations.detach()[image, matches.prior].cpu().numpy()
        overlap = paired_iou(found, truths.boxes[matches.truth].cpu().numpy())
        mean_overlap = float(overlap.mean()) if len(overlap) else 0.0
        return Outcome(
            loss.total,
            count,
            (float(loss.location.detach()) * count, float(loss.confidence.detach()) * count, mean_overlap * count),
        )

    def split(self, batch: SceneBatch, parts: int) -> list[SceneBatch]:
        """See the base class."""
        found, start = [], 0
        for pictures in batch.pictures.chunk(parts):
            own = (batch.truths.owner >= start) & (batch.truths.owner < start + len(pictures))
            truths = Truths(batch.truths.boxes[own], batch.truths.owner[own] - start)
            found.append(SceneBatch(pictures, truths, batch.main[start : start + len(pictures)]))
            start += len(pictures)
        return found

    def describe(self, batch: SceneBatch) -> list[str]:
        """See the base class."""
        return batch.main

    def validate(self, net: MultiBoxNet, last: bool) -> float | None:
        """Recall at IoU 0.5 of the best 50 boxes on validation pictures: on all of them at the end."""
        if self.val is None or not len(self.val.boxes):
            return None
        limit = None if last else self.validate_images
        normalization = self.config.normalization
        self.last_recall = validation_recall(net, self.val, normalization, limit, self.processes)
        return self.last_recall if math.isfinite(self.last_recall) else None

    def _log(self, rate: float, loss: float, figures: Sequence[float], metric: float | None, speed: float) -> None:
        entry = MultiBoxProgress(
            step=self.step,
            epoch=round(self.step / self.steps_per_epoch, 4),
            rate=rate,
            loss=round(loss, 5),
            location_loss=round(figures[0], 5),
            confidence_loss=round(figures[1], 5),
            iou_matched=round(figures[2], 5),
            recall_val=None if metric is None else round(metric, 5),
            pictures_per_second=round(speed, 1),
            seconds=round(self.seconds, 1),
        )
        self.log.write(entry)
        self.report(entry)
