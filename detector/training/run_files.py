"""What a run keeps in its folder: checkpoints, the best weights, and its log.

A checkpoint survives a kill or a full disk: it is written to a temporary name, synced, then renamed.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import math
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from detector.strict_yaml import write_whole
from detector.training.processes import Processes
from proposals.errors import UserError

LOG_FILE = "log.csv"
TENSORBOARD_FOLDER = "tensorboard"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, containers of them) to ``path`` in one step.

    Raises:
        UserError: the disk is full or not writable; the file that was there before stays.
    """
    buffer = io.BytesIO()  # not the file itself: of a full disk torch.save tells no more than a position
    torch.save(state, buffer)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: the checkpoint could not be written ({error.strerror}); the last good one is kept"
        ) from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's state, without unpickling code.

    Raises:
        UserError: damaged, or not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for damaged files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable checkpoint ({reason}); delete it or start a new run") from None
    if not isinstance(state, dict) or "step" not in state:
        raise UserError(f"{path}: not a checkpoint of this toolkit")
    return state


class Watch:
    """Which validation of a run was the best, with its weights in a file, and whether there is hope for a better one.

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


class RunLog:
    """The log, ``log.csv``, and TensorBoard's files where it is installed: models with a ``step`` and other numbers.

    Args:
        folder: the run folder. writes: whether this process is the one that writes.
    """

    def __init__(self, folder: Path, writes: bool = True) -> None:
        self.path, self.writes = folder / LOG_FILE, writes
        self._board: Any = None
        if writes and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / TENSORBOARD_FOLDER))

    def write(self, entry: BaseModel) -> None:
        """Append ``entry``; the file's first line names the columns."""
        if not self.writes:
            return
        values = entry.model_dump()
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(values))
            if new:
                writer.writeheader()
            writer.writerow(values)
        if self._board is not None:
            for name, value in values.items():
                if name != "step" and value is not None:
                    self._board.add_scalar(name, value, values["step"])
            self._board.flush()

    def cut(self, step: int) -> None:
        """Drop the lines of steps after ``step``, which are about to be run again, and what a full disk left of one."""
        if not self.writes or not self.path.exists():
            return
        text = self.path.read_text(encoding="utf-8", errors="replace")
        header, *rows = [line for line in text.splitlines(keepends=True) if line.endswith("\n")] or [""]
        kept = [row for row in rows if row.count(",") == header.count(",") and _step(row) <= step]
        if not kept:
            self.path.unlink()
            return
        write_whole(self.path, "".join([header, *kept]))

    def close(self) -> None:
        """Nothing more is written."""
        if self._board is not None:
            self._board.close()


def _step(row: str) -> float:
    """The step of a line; that of a damaged one is after every other."""
    try:
        return int(row.split(",")[0])
    except ValueError:
        return math.inf
