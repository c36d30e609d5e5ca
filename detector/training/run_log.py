"""The log of a run: ``log.csv`` always, TensorBoard's files where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from detector.strict_yaml import write_whole

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
