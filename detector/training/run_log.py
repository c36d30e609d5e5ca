"""The log of a run: ``log.csv`` always, TensorBoard's files where it is installed."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

from pydantic import BaseModel

LOG_FILE = "log.csv"
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Writes entries, each a model with a ``step`` and other numbers, to the run folder.

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
        """Drop the lines of steps after ``step``, which are about to be run again."""
        if self.writes and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) <= step]
            self.path.write_text("".join(kept), encoding="utf-8")

    def close(self) -> None:
        """Nothing more is written."""
        if self._board is not None:
            self._board.close()
