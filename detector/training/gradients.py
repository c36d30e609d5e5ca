"""From a batch's loss to the weights: its gradient, in mixed precision and in as many parts as the memory needs.

Also which weights decay, and the running mean of them.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.detection.precision import DTYPES, Precision
from detector.training.processes import Machine
from proposals.errors import UserError

Item = TypeVar("Item")
SMALLEST_PART = 2  # examples; batch normalisation needs more than one


class Outcome(NamedTuple):
    """Of one batch: its mean loss, how many examples it had, and figures that are summed up for the log."""

    loss: Tensor
    examples: int
    figures: tuple[float, ...]


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the forward pass on ``device``; see :class:`detector.training.region_settings.LearningConfig`.

    Raises:
        UserError: the device cannot compute so.
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if precision == "float16" and device.type == "cpu":
        raise UserError("precision float16 needs a GPU; on the CPU choose float32 or bfloat16")
    return DTYPES[precision]


class Gradients(Generic[Item]):
    """Adds up the gradient of each batch in the parameters' ``grad``.

    When the GPU's memory does not suffice, the batch is divided into twice as many parts and tried again; the parts'
    gradients sum up to that of the batch. So it stays for the rest of the run. (Batch normalisation then sees parts of
    the batch, so the course is not quite the same.)

    Args:
        net: in training mode; wrapped for several processes by :meth:`share`, which is then ``model``.
        batch_size: examples of a whole batch. split: an item in so many parts, at most. outcome: of an item, through
            ``model``.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        machine: Machine,
        precision: Precision,
        batch_size: int,
        split: Callable[[Item, int], list[Item]],
        outcome: Callable[[Item], Outcome],
    ) -> None:
        self.model: nn.Module = net
        self.optimizer, self.batch_size, self.split, self.outcome = optimizer, batch_size, split, outcome
        self.device, self.processes, self.log = machine.device, machine.processes, machine.log
        self.dtype = choose_precision(precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        part = self.processes.part(batch_size)
        self.own_examples = part.stop - part.start
        self.parts = 1 if machine.micro_batch is None else max(1, -(-self.own_examples // machine.micro_batch))

    def share(self) -> None:
        """Average gradients over the processes from now on."""
        ids = [self.device] if self.device.type == "cuda" else None
        # Normalisation's running statistics are equal in all processes already. torch 2.15 changed the option's name.
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {"device_ids": ids, name: False}
        self.model = DistributedDataParallel(self.model, **options)

    def of(self, batch: Item) -> Outcome:
        """Make the gradient of ``batch``; the outcome is that of this process's part of it.

        The loss is the sum over its examples divided by the whole batch's size: processes add theirs up.

        Raises:
            UserError: even the smallest parts do not fit the memory.
        """
        while True:
            try:
                return self._of_parts(batch)
            except torch.OutOfMemoryError as error:
                # Outside this block, when the frames that hold the tensors are gone, the memory is free again.
                reason = str(error).splitlines()[0]
            self._divide(reason)

    def _divide(self, reason: str) -> None:
        if self.processes.count > 1:
            raise UserError(  # the others are in the middle of their parts and wait for this one
                f"process {self.processes.rank}: the GPU's memory does not suffice ({reason}); "
                f"give --micro-batch {max(1, self.own_examples // self.parts // 2)} and --resume"
            )
        if self.own_examples // (2 * self.parts) < SMALLEST_PART:
            raise UserError(f"the memory does not suffice even for {self.own_examples // self.parts} crops ({reason})")
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.parts *= 2
        size = -(-self.own_examples // self.parts)
        self.log(f"the GPU's memory does not suffice: batches are taken in parts of {size} from now on")

    def _of_parts(self, batch: Item) -> Outcome:
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.split(batch, self.parts) if self.parts > 1 else [batch]
        loss, examples, figures = torch.zeros((), device=self.device), 0, [0.0]
        for i, part in enumerate(parts):
            alone = self.processes.count == 1 or i == len(parts) - 1
            with contextlib.nullcontext() if alone else self.model.no_sync():  # type: ignore[operator]
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    outcome = self.outcome(part)
                share = outcome.loss * (outcome.examples / self.batch_size)
                # Processes' gradients are averaged, and the batch's is their sum.
                self.scaler.scale(share * self.processes.count).backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
            examples += outcome.examples
            figures = add(figures, outcome.figures)
        return Outcome(loss, examples, tuple(figures))

    def step(self, adjust: Callable[[], None]) -> None:
        """Let ``adjust`` change the gradients, then the optimizer the weights."""
        self.scaler.unscale_(self.optimizer)
        adjust()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def add(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Sums of what stands at the same place; the shorter one is continued with zeros."""
    return [x + y for x, y in zip_longest(a, b, fillvalue=0.0)]


def parameter_groups(
    net: nn.Module, weight_decay: float, heads: tuple[str, ...] = (), head_rate: float = 1.0
) -> list[dict[str, Any]]:
    """Those of ``net`` that learn: weights with decay; biases and normalisation without.

    Parameters whose names begin with one of ``heads`` form groups of their own, which learn ``head_rate`` times as
    fast as the rest ("scale", which the loop obeys); with a rate of 1 they are like the others.
    """
    groups = []
    for of_head in (False, True) if head_rate != 1 else (None,):
        named = [p for n, p in net.named_parameters() if of_head is None or n.startswith(heads) == of_head]
        scale = {"scale": head_rate} if of_head else {}
        for weights, decay in ((True, weight_decay), (False, 0.0)):
            own = [p for p in named if p.requires_grad and (p.ndim > 1) == weights]
            groups.append({"params": own, "weight_decay": decay, **scale})
    return [group for group in groups if group["params"]]


class WeightAverage:
    """Running mean of a net's parameters and normalisation statistics (Polyak averaging, paper section 6)."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: t.detach().clone() for name, t in net.state_dict().items()}

    def update(self, net: nn.Module, step: int) -> None:
        """Move towards the net's present weights; early on faster, so that the start is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            mean = self.state[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """In this block denormal numbers count as 0, in this thread and in those that it begins.

    These are below 1e-38 in float32. A net that has learnt its data has gradients, activations and momenta of that
    size; the processor computes with them a hundred times slower (benchmarks/training_speed.md), and nothing is lost
    without them.

    PyTorch's worker threads keep the mode of the thread that first used them: a program should enter the block before
    it computes anything.
    """
    before = is_flushing()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def is_flushing() -> bool:
    """Whether denormal numbers count as 0 in this thread."""
    return bool(torch.tensor(2.0**-126) * 0.5 == 0)
