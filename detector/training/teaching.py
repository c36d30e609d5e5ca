"""Learning from a teacher: a network's answers to the crops stand beside, or in place of, the annotated labels.

Hinton, Vinyals and Dean, Distilling the knowledge in a neural network (2015), at temperature 1; the teacher sees the
very crops that its pupil learns from, as Beyer et al., Knowledge distillation: a good teacher is patient and consistent
(2022), find best. Its answers cost as much as a step of training, so each crop is learned from several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import tee
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from detector.training.batches import CropBatches
from detector.training.region_batch import RegionBatch, Shown

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV makes grey
MOST_SATURATION = 1.6
MOST_CAST = 0.3  # of a channel's logarithm, either way


class Teacher(Protocol):
    """Anything that names crops."""

    def name_crops(self, crops: Tensor) -> Tensor:
        """Probabilities ``(B, K + 1)`` float32 on the CPU, background last, of ``(B, 3, S, S)`` crops of 0..255."""
        ...


class TeachingConfig(BaseModel):
    """How a net learns from a teacher.

    Attributes:
        share: of the teacher's answers in the loss; the rest is the labels'.
        uses: steps that learn from a batch and the teacher's answers to it: one when it is drawn, the others later,
            half of them from its mirror image. kept: so many of the latest batches may come again; each holds its crops
            in memory.
        grey, saturation, cast: shares of the crops that only the pupil sees without colours, with its saturation
            multiplied by 0 to 1.6, and with its channels multiplied by 0.74 to 1.35 each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=0.9, gt=0, le=1)
    uses: int = Field(default=3, ge=1)
    kept: int = Field(default=400, ge=1)
    grey: float = Field(default=0.2, ge=0, le=1)
    saturation: float = Field(default=0.35, ge=0, le=1)
    cast: float = Field(default=0.35, ge=0, le=1)


class Lesson(NamedTuple):
    """A batch as the teacher saw it: crops ``(B, 3, S, S)`` uint8, its answers ``(B, K + 1)`` float16, and the rest."""

    crops: Tensor
    answers: Tensor
    labels: Tensor
    shown: list[Shown]


def recolour(crops: Tensor, config: TeachingConfig, generator: torch.Generator) -> Tensor:
    """``(B, 3, S, S)`` float32 0..255 with other colours, drawn for each crop; see :class:`TeachingConfig`."""

    def draw(channels: int = 1) -> Tensor:
        return torch.rand(len(crops), channels, 1, 1, generator=generator)

    kind, amount, casts, cast = draw(), draw(), draw(), draw(3)
    saturation = torch.where(kind < config.grey, 0.0, 1.0)
    strengthened = (kind >= config.grey) & (kind < config.grey + config.saturation)
    saturation = torch.where(strengthened, amount * MOST_SATURATION, saturation)
    gain = torch.where(casts < config.cast, torch.exp((2 * cast - 1) * MOST_CAST), 1.0)
    grey = (crops * crops.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return ((saturation * crops + (1 - saturation) * grey) * gain).clamp(0, 255)


class TaughtBatches:
    """The batches of ``source`` with a teacher's answers, each several times.

    What a step learns from depends on the seed and the step alone: a run that goes on from a checkpoint asks the
    teacher again about the batches that it lost.

    Args:
        size_of: the side of the crops in a step; the teacher sees them of full size.
    """

    def __init__(
        self, source: CropBatches, teacher: Teacher, config: TeachingConfig, size_of: Callable[[int], int]
    ) -> None:
        self.source, self.teacher, self.config, self.size_of = source, teacher, config, size_of
        self.pool, self.num_classes = source.pool, source.num_classes
        self._lessons: dict[int, Lesson] = {}

    @property
    def unreadable(self) -> dict[str, str]:
        """See :class:`detector.training.region_batch.RegionSource`."""
        return self.source.unreadable

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which the foreground is drawn once."""
        return self.source.steps_per_epoch * self.config.uses

    def batch(self, step: int) -> RegionBatch:
        """A batch of the source, without answers, as to measure a net's statistics on."""
        return self.source.batch(step)

    def stream(self, steps: Iterator[int], threads: int = 1) -> Iterator[RegionBatch]:
        """See :class:`detector.training.region_batch.RegionSource`."""
        uses = self.config.uses
        ahead, steps = tee(steps)
        drawn = self.source.stream((step // uses for step in ahead if step % uses == 0), threads)
        for step in steps:
            newest = step // uses
            if step % uses == 0:
                self._lessons[newest] = self._ask(next(drawn))
            rng = np.random.default_rng([self.source.seed, 9, step])
            number, mirror = self.choose(step, rng)
            for old in [old for old in self._lessons if old <= newest - self.config.kept]:
                del self._lessons[old]
            yield self._seen(self.lesson(number), self.size_of(step), mirror, rng)

    def choose(self, step: int, rng: np.random.Generator) -> tuple[int, bool]:
        """Which batch ``step`` learns from, and whether from its mirror image."""
        newest = step // self.config.uses
        if step % self.config.uses == 0:
            return newest, False
        return newest - int(rng.integers(min(self.config.kept, newest + 1))), bool(rng.random() < 0.5)

    def lesson(self, number: int) -> Lesson:
        """This process's part of a batch and the teacher's answers to it."""
        if number not in self._lessons:
            part = self.source.processes.part(self.source.batch_size)
            self._lessons[number] = self._ask(self.source.batch(number, None, part))
        return self._lessons[number]

    def _ask(self, batch: RegionBatch) -> Lesson:
        crops = batch.images.round().to(torch.uint8)
        return Lesson(crops, self.teacher.name_crops(crops.float()).half(), batch.labels, batch.shown)

    def _seen(self, lesson: Lesson, side: int, mirror: bool, rng: np.random.Generator) -> RegionBatch:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)) + self.source.processes.rank)
        crops = lesson.crops.float()
        crops = recolour(crops.flip(3) if mirror else crops, self.config, generator)
        if side != crops.shape[-1]:
            crops = F.interpolate(crops, size=(side, side), mode="bilinear", antialias=True)
        crops = crops.contiguous(memory_format=torch.channels_last)
        return RegionBatch(crops, lesson.labels, lesson.shown, lesson.answers.float())
