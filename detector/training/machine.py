"""Where and how a run computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from detector.training.processes import ALONE, Processes

Net = TypeVar("Net", bound=nn.Module)


class Machine(NamedTuple):
    """Where and how a run computes; nothing of it is meant to change the result.

    Attributes:
        device: of this process. processes: that share the work. micro_batch: examples that go through the net at a
            time to begin with, ``None`` for the whole batch. checkpoint_minutes: between checkpoints.
        tell: takes a line for people.
    """

    device: torch.device
    processes: Processes = ALONE
    micro_batch: int | None = None
    checkpoint_minutes: float = 5.0
    tell: Callable[[str], None] = lambda line: None


def mixed_seed(*numbers: int) -> int:
    """A seed for torch made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def on_device(net: Net, device: torch.device) -> Net:
    """``net`` on ``device``, its weights with the channels last, which is faster for convolutions."""
    moved: Net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved
