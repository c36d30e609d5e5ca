"""The learning rate over a run."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
