"""What every training run's configuration says, whatever it learns."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.detection.precision import Precision
from detector.training.schedule import ScheduleConfig


class RunSettings(BaseModel):
    """The part of a run's configuration that the loop itself obeys.

    Attributes:
        schedule: the learning rate; ``schedule.rate`` is for a batch of 128. steps: batches.
        batch_size: examples in a batch, of all processes together.
        average: decay of the running mean of the weights (Polyak averaging) that becomes the result.
        precision: of the forward and backward pass; "auto" is bfloat16 on a GPU that has it, float16 with a scaled
            loss on an older one, float32 on the CPU. Weights, their mean and the optimizer stay float32.
        patience: stop after so many validations in a row without a better one; 0 never does.
        result: "last" takes the averaged weights of the end, "best" those of the best validation.
        shared_normalization: whether batch normalisation sees the whole batch of several processes, as one process
            would, or each its own part, which waits for nothing.
        seed: of all chance. init_seed: of the new weights alone; ``None`` takes ``seed``. The paper's ensemble had one
            set of first weights for all members, so that they differ by sampling and order alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: ScheduleConfig = ScheduleConfig()
    steps: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=1)
    average: float = Field(default=0.999, ge=0, lt=1)
    precision: Precision = "auto"
    patience: int = Field(default=0, ge=0)
    result: Literal["last", "best"] = "last"
    shared_normalization: bool = True
    seed: int = Field(default=0, ge=0)
    init_seed: int | None = Field(default=None, ge=0)

    @property
    def first_seed(self) -> int:
        """The seed of the new weights."""
        return self.seed if self.init_seed is None else self.init_seed
