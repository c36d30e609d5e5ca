"""Checkpoints that survive a kill or a full disk: written to a temporary name, synced, then renamed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from proposals.errors import UserError


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
