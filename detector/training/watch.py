"""Which validation of a run was the best, and whether there is still hope for a better one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from detector.training.checkpoint import load_checkpoint, save_checkpoint
from detector.training.processes import Processes


class Watch:
    """Keeps the weights of the best validation in a file.

    Args:
        path: of that file. patience: validations without a better one after which :attr:`exhausted` is true; 0: never.
        writes: whether this process writes the file.
    """

    def __init__(self, path: Path, patience: int, writes: bool = True) -> None:
        self.path, self.patience, self.writes = path, patience, writes
        self.best: float | None = None
        self.best_step: int | None = None
        self.stale = 0

    @property
    def exhausted(self) -> bool:
        """Whether the patience is at its end."""
        return self.patience > 0 and self.stale >= self.patience

    def note(self, step: int, metric: float, net: nn.Module) -> None:
        """Note that ``net`` scored ``metric`` after ``step``; more is better, and of equals the first counts."""
        if self.best is not None and metric <= self.best:
            self.stale += 1
            return
        self.best, self.best_step, self.stale = metric, step, 0
        if self.writes:
            save_checkpoint(self.path, {"step": step, "metric": metric, "net": net.state_dict()})

    def read(self, processes: Processes) -> dict[str, Tensor]:
        """The weights of the best validation, as rank 0 has them."""
        state: dict[str, Any] = processes.from_first(load_checkpoint(self.path) if processes.writes else {})
        weights: dict[str, Tensor] = state["net"]
        return weights

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "best_step": self.best_step, "stale": self.stale}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state; one without it knew of no validation."""
        self.best, self.best_step = state.get("best"), state.get("best_step")
        self.stale = state.get("stale", 0)
