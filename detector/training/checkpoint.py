"""Checkpoints that survive a kill or a full disk: written to a temporary name, synced, then renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, cast

import torch

from proposals.errors import UserError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, containers of them) to ``path`` in one step.

    Raises:
        UserError: the disk is full or not writable; the file that was there before stays.
    """
    temporary = path.with_name(path.name + ".tmp")
    faults: list[OSError] = []
    try:
        with temporary.open("wb") as file:
            torch.save(state, cast(IO[bytes], _Noting(file, faults)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        fault = faults[0] if faults else error
        reason = fault.strerror if isinstance(fault, OSError) else fault
        raise UserError(f"{path}: the checkpoint could not be written ({reason}); the last good one is kept") from None


class _Noting:
    """A file that notes the disk's own faults, in place of which ``torch.save`` raises one of its own."""

    def __init__(self, file: IO[bytes], faults: list[OSError]) -> None:
        self.file, self.faults, self.flush = file, faults, file.flush

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.faults.append(error)
            raise


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
