"""Where a run computes: a device, and several processes that train one net together, as ``torchrun`` starts them.

A batch of the run is divided among them. Everything that decides the course is the same in each: the batch's regions
are drawn by all and cropped by one, gradients are summed, normalisation sees the whole batch.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from proposals.errors import UserError

Value = TypeVar("Value")
Net = TypeVar("Net", bound=nn.Module)
TIMEOUT = datetime.timedelta(minutes=30)  # the others wait while one reads data or makes proposals


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among ``count``; ``rank`` 0 is the one that writes.

    ``local_rank`` counts within the machine and chooses the GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def writes(self) -> bool:
        """Whether this process writes files and tells of the progress."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """This process's share of ``n`` things in a row; all shares together are each thing once."""
        return slice(self.rank * n // self.count, (self.rank + 1) * n // self.count)

    def total(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The sums of ``values`` over the processes, the same in each."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def from_first(self, value: Value) -> Value:
        """Rank 0's ``value`` in every process."""
        if self.count == 1:
            return value
        holder: list[Any] = [value]
        dist.broadcast_object_list(holder, src=0)
        received: Value = holder[0]
        return received

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


class Machine(NamedTuple):
    """Where and how a run computes; nothing of it is meant to change the result.

    Attributes:
        device: of this process. processes: that share the work. micro_batch: examples that go through the net at a
            time to begin with, ``None`` for the whole batch. checkpoint_minutes: between checkpoints.
        log: takes a line for people.
    """

    device: torch.device
    processes: Processes = ALONE
    micro_batch: int | None = None
    checkpoint_minutes: float = 5.0
    log: Callable[[str], None] = lambda line: None


def on_device(net: Net, device: torch.device) -> Net:
    """``net`` on ``device``, its weights with the channels last, which is faster for convolutions."""
    moved: Net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """The processes that ``torchrun`` started this one with; alone without ``torchrun``.

    Args:
        device: "auto", "cpu" or "cuda"; decides what they talk through (NCCL between GPUs, else gloo).

    Raises:
        UserError: they cannot reach one another, or ``device`` names one GPU for all of them.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if ":" in device:
        raise UserError(f"--device {device}: under torchrun each process takes a GPU of its own; say cuda or auto")
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpu:  # what they tell one another goes through each one's own
        torch.cuda.set_device(processes.local_rank)
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", rank=processes.rank, world_size=count, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"process {processes.rank} of {count} cannot reach the others ({error})") from None
    try:
        yield processes
    finally:
        dist.destroy_process_group()


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over the processes; so is its gradient, since each one's loss depends on the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        summed = x.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        summed = grad.clone()
        dist.all_reduce(summed)
        return summed


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' parts of the batch, on any device.

    torch's ``SyncBatchNorm`` does the same on GPUs only. The sums are added in float64, so that the result does not
    depend on how the batch is divided, but for float32's rounding within a part.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)``; the same shape."""
        if not self.training:
            return super().forward(x)
        axes = (0, 2, 3)
        sums = torch.stack([x.sum(axes, dtype=torch.float64), x.square().sum(axes, dtype=torch.float64)])
        count = x.new_full((1,), x.numel() // x.shape[1], dtype=torch.float64)
        everywhere: Tensor = _SumOverProcesses.apply(torch.cat([sums.flatten(), count]))
        n = everywhere[-1].detach()
        mean, square = (everywhere[:-1] / n).view(2, -1)
        variance = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            step = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
            self.running_var.lerp_((variance * n / (n - 1)).to(self.running_var.dtype), step)
        scale = self.weight * torch.rsqrt(variance + self.eps).to(x.dtype)
        shift = self.bias - mean.to(x.dtype) * scale
        normal: Tensor = x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return normal


def share_normalization(net: nn.Module, device: torch.device) -> None:
    """Let every batch normalisation of ``net`` see the whole batch, in place; parameters and names stay as they are."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _shared(child, device))


def _shared(layer: nn.BatchNorm2d, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(layer)  # type: ignore[no-untyped-call]
        return converted
    shared = SharedBatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    shared.weight, shared.bias = layer.weight, layer.bias  # the optimizer holds these very parameters
    for name, buffer in layer.named_buffers():
        setattr(shared, name, buffer)
    return shared.train(layer.training)
