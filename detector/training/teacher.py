"""Tuning a teacher: an EfficientNet-Lite0 of published weights learns to name the regions that its pupils will get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from detector.nets.efficientnet_lite import STAGES, EfficientNetLite, EfficientNetLiteConfig
from detector.training.pool import ImagePool
from detector.training.regions import CropTrainer, CropTrainingConfig

BLOCKS = sum(stage[4] for stage in STAGES)


class TeacherTrainingConfig(CropTrainingConfig):
    """Everything that decides the outcome of a run; depthwise convolutions keep their weights in all of them.

    Attributes:
        frozen_blocks: the stem and so many of the first blocks keep their weights, too: they know edges already, and
            their maps are the largest. weight_decay: AdamW's. clip: largest norm of a step's gradients.
    """

    net: EfficientNetLiteConfig
    frozen_blocks: int = Field(default=3, ge=0, le=BLOCKS)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=2.0, gt=0)


class TeacherTrainer(CropTrainer[EfficientNetLite]):
    """Trains one teacher; for the arguments see :class:`detector.training.regions.CropTrainer`."""

    def __init__(
        self,
        config: TeacherTrainingConfig,
        train: ImagePool,
        val: ImagePool | None,
        num_classes: int,
        folder: Path,
        **about: Any,
    ) -> None:
        self.config = config
        super().__init__(config, config.net.num_outputs, train, val, num_classes, folder, **about)

    def new_net(self) -> EfficientNetLite:
        """See the base class."""
        net = EfficientNetLite(self.config.net)
        for part in (net.stem, *net.blocks[: self.config.frozen_blocks]):
            part.requires_grad_(False)
        return net

    def new_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """See the base class."""
        learning = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
        return torch.optim.AdamW([group for group in learning if group["params"]], lr=1e-4)

    def adjust_gradients(self) -> None:
        """See the base class."""
        torch.nn.utils.clip_grad_norm_([p for p in self.net.parameters() if p.requires_grad], self.config.clip)
