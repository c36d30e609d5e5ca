"""The gradient of a batch's mean loss: in mixed precision, and in as many parts as the memory needs."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.detection.precision import DTYPES, Precision
from detector.training.processes import ALONE, Processes
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
            ``model``. tell: takes a line for people. micro_batch: examples in a part to begin with.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device,
        precision: Precision,
        batch_size: int,
        split: Callable[[Item, int], list[Item]],
        outcome: Callable[[Item], Outcome],
        tell: Callable[[str], None],
        micro_batch: int | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.model: nn.Module = net
        self.optimizer, self.device, self.batch_size = optimizer, device, batch_size
        self.split, self.outcome, self.tell, self.processes = split, outcome, tell, processes
        self.dtype = choose_precision(precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        part = processes.part(batch_size)
        self.own_examples = part.stop - part.start
        self.parts = 1 if micro_batch is None else max(1, -(-self.own_examples // micro_batch))

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
        self.tell(f"the GPU's memory does not suffice: batches are taken in parts of {size} from now on")

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
