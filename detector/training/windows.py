"""R-CNN's fine-tuning: batches from all windows of the set, proposals and annotated boxes (tech report, section 2.3).

A window's label is that of the object that it overlaps most if their IoU is at least ``iou_foreground``, and background
below ``iou_background``; what lies between is left out (nothing does in R-CNN, where both are 0.5), and so is
background in ignored objects. A batch of 128 has 32 of the one and 96 of the other, uniformly from the whole set and
not picture by picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.training.batches import CropBatches, Drawn
from detector.training.order import EpochOrder, class_weights
from detector.training.pool import ImagePool
from detector.training.region_settings import RegionTrainingConfig
from detector.training.sampling import SamplingConfig, hidden
from proposals.boxes import iou
from proposals.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """All windows of a pool of images that serve as foreground or background.

    Attributes:
        boxes: ``(W, 4)`` float32. owner: ``(W,)`` int32, each one's image. labels: ``(W,)`` int32 in [0, K].
        foreground, background: positions of either kind, int64.
    """

    boxes: NDArray[np.float32]
    owner: NDArray[np.int32]
    labels: NDArray[np.int32]
    foreground: NDArray[np.int64]
    background: NDArray[np.int64]

    @classmethod
    def label(
        cls, pool: ImagePool, proposals: Iterable[NDArray[np.float32]], num_classes: int, config: SamplingConfig
    ) -> Windows:
        """The windows of ``pool``: its annotated boxes, and the ``proposals`` ``(P, 4)`` of each of its images.

        Windows with a side below ``minimum_side`` are left out, but for the annotated ones.

        Raises:
            UserError: there is no foreground, or no background.
        """
        boxes, owner, labels = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        for image, found in enumerate(proposals):
            own = slice(int(pool.first[image]), int(pool.first[image + 1]))
            truth = pool.boxes[own]
            found = found[(found[:, 2:] - found[:, :2]).min(axis=1, initial=np.inf) >= config.minimum_side]
            both = np.concatenate([truth, found]).astype(np.float32)
            if not len(both):
                continue
            overlap = iou(both, truth) if len(truth) else np.zeros((len(both), 1))
            best = overlap.max(axis=1)
            label = np.full(len(both), -1, np.int32)
            label[(best < config.iou_background) & ~hidden(both, pool.unsure(image))] = num_classes
            covers = best >= config.iou_foreground
            label[covers] = pool.labels[own][overlap[covers].argmax(axis=1)] if len(truth) else num_classes
            kept = label >= 0
            boxes.append(both[kept])
            labels.append(label[kept])
            owner.append(np.full(int(kept.sum()), image, np.int32))
        label = np.concatenate(labels)
        foreground, background = np.flatnonzero(label < num_classes), np.flatnonzero(label == num_classes)
        if not len(foreground):
            raise UserError("the training data hold no usable object")
        if not len(background):
            raise UserError("no proposal of the training images is background; train with regions: drawn")
        return cls(np.concatenate(boxes), np.concatenate(owner), label, foreground, background)


class WindowBatches(CropBatches):
    """Batches of windows; see the module.

    Foreground windows come once per epoch each (more or less often where classes are balanced); background windows are
    drawn at random.
    """

    def __init__(self, windows: Windows, pool: ImagePool, config: RegionTrainingConfig) -> None:
        super().__init__(pool, config)
        self.windows = windows
        labels = windows.labels[windows.foreground].astype(np.int64)
        self.order = EpochOrder(len(labels), config.seed, class_weights(labels, config.sampling.balance))

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which every foreground window is shown once."""
        return self.order.length / self.foreground

    def draw(self, rng: np.random.Generator, step: int) -> Drawn:
        windows, start = self.windows, step * self.foreground
        foreground = windows.foreground[[self.order[start + i] for i in range(self.foreground)]]
        others = self.size - self.foreground
        chosen = np.concatenate([foreground, windows.background[rng.integers(len(windows.background), size=others)]])
        return Drawn(
            windows.owner[chosen].tolist(),
            list(windows.boxes[chosen]),
            windows.labels[chosen].tolist(),
        )
