"""What every training run does, whatever it learns: steps, log, averaged weights, checkpoints, resumption, signals."""

from __future__ import annotations

import csv
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from detector.training.average import WeightAverage
from detector.training.checkpoint import load_checkpoint, save_checkpoint
from detector.training.schedule import ScheduleConfig
from proposals.errors import UserError

Net = TypeVar("Net", bound=nn.Module)
Item = TypeVar("Item")


class RunConfig(Protocol):
    """What the loop needs to know of a run's configuration, which is a pydantic model."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def schedule(self) -> ScheduleConfig: ...
    @property
    def average(self) -> float: ...
    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """The configuration as plain values."""
        ...


class Outcome(NamedTuple):
    """Of one batch: its loss, how many examples it had, and figures that are summed up for the log."""

    loss: Tensor
    examples: int
    figures: tuple[float, ...]


class Interrupted(Exception):
    """The run was told to stop and saved a checkpoint."""


class Trainer(ABC, Generic[Net, Item]):
    """Trains one network and keeps its run folder: ``log.csv`` and ``checkpoint.pt``, both written as it goes.

    A subclass says what a batch is and what its loss is. What it draws at random in a step must depend on the seed and
    the step alone, or on torch's generator, which the checkpoint holds: then a resumed run equals one that never
    stopped.

    Args:
        config: what to do. net: with its first weights. optimizer: of its parameters. folder: the run folder, which
            exists. log_every, validate_every: steps. checkpoint_minutes: between checkpoints.
    """

    def __init__(
        self,
        config: RunConfig,
        net: Net,
        optimizer: torch.optim.Optimizer,
        folder: Path,
        *,
        device: torch.device,
        log_every: int,
        validate_every: int,
        checkpoint_minutes: float,
    ) -> None:
        self._run_config = config
        self.net, self.optimizer, self.folder, self.device = net, optimizer, folder, device
        self.log_every, self.validate_every, self.checkpoint_minutes = log_every, validate_every, checkpoint_minutes
        self.average = WeightAverage(net, config.average)
        self.step = 0
        self.seconds = 0.0
        self._stop = False

    # --- what a subclass says ----------

    @property
    @abstractmethod
    def steps_per_epoch(self) -> float:
        """Steps in which the data are shown once."""

    @abstractmethod
    def new_net(self) -> Net:
        """A net of the run's architecture with any weights, on the CPU."""

    @abstractmethod
    def stream(self, steps: Iterator[int]) -> Iterator[Item]:
        """The batches of ``steps``."""

    @abstractmethod
    def outcome(self, batch: Item) -> Outcome:
        """The loss of the net in training mode on ``batch``."""

    @abstractmethod
    def validate(self, last: bool) -> float | None:
        """What the averaged net is worth now; ``None`` without validation data. ``last``: at the end of the run."""

    @abstractmethod
    def _log(self, rate: float, loss: float, figures: Sequence[float], worth: float | None, speed: float) -> None:
        """Write a line: mean loss of a step, figures per example, the validation's result, examples per second."""

    def adjust_gradients(self) -> None:
        """Called between the backward pass and the optimizer's step."""

    # --- weights ----------

    @property
    def checkpoint_path(self) -> Path:
        """The one checkpoint of the run, always the latest."""
        return self.folder / "checkpoint.pt"

    def restart_average(self) -> None:
        """Begin the averaged weights anew from the net's present ones, as after loading first weights into it."""
        self.average = WeightAverage(self.net, self._run_config.average)

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self.checkpoint_path,
            {
                "step": self.step,
                "seconds": self.seconds,
                "config": self._run_config.model_dump(mode="json"),
                "net": self.net.state_dict(),
                "average": self.average.state,
                "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state(),
            },
        )

    def resume(self) -> None:
        """Go on from the run folder's checkpoint; the configuration must be the same."""
        state = load_checkpoint(self.checkpoint_path)
        if state["config"] != self._run_config.model_dump(mode="json"):
            raise UserError(f"{self.checkpoint_path}: made with another configuration; start a new run instead")
        self.net.load_state_dict(state["net"])
        self.average.state = {name: t.to(self.device) for name, t in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.step, self.seconds = state["step"], state["seconds"]
        self._cut_log()

    def _cut_log(self) -> None:
        """Drop the lines of steps after the checkpoint, which are about to be run again."""
        path = self.folder / "log.csv"
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) <= self.step]
            path.write_text("".join(kept))

    def averaged_net(self) -> Net:
        """A copy of the net with the averaged weights, in evaluation mode."""
        net = on_device(self.new_net(), self.device)
        net.load_state_dict(self.average.state)
        return net.eval()

    # --- the run ----------

    def run(self) -> Net:
        """Train to the end and return the averaged net.

        Raises:
            Interrupted: SIGTERM or Ctrl-C came; the checkpoint is saved. UserError: the loss is not finite any more.
        """
        handlers = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._run()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self.save()
        return self.averaged_net()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _run(self) -> None:
        config = self._run_config
        self.net.train()
        saved = mark = time.monotonic()
        figures: list[float] = []
        loss_sum, seen, steps = 0.0, 0, 0
        for batch in self.stream(iter(range(self.step, config.steps))):
            rate = config.schedule.at(self.step, config.steps, self.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * config.batch_size / 128
            outcome = self.outcome(batch)
            value = float(outcome.loss.detach())
            if not math.isfinite(value):
                raise UserError(f"the loss became {value} at step {self.step}; lower schedule.rate and start a new run")
            self.optimizer.zero_grad(set_to_none=True)
            outcome.loss.backward()  # type: ignore[no-untyped-call]
            self.adjust_gradients()
            self.optimizer.step()
            self.average.update(self.net, self.step)
            loss_sum += value
            figures = [a + b for a, b in zip_longest(figures, outcome.figures, fillvalue=0.0)]
            seen += outcome.examples
            steps += 1
            self.step += 1
            last = self.step == config.steps
            if self.step % self.log_every == 0 or last:
                now = time.monotonic()
                self.seconds += now - mark
                worth = self.validate(last) if self.step % self.validate_every == 0 or last else None
                self._log(rate, loss_sum / steps, [f / seen for f in figures], worth, seen / (now - mark))
                figures, loss_sum, seen, steps, mark = [], 0.0, 0, 0, time.monotonic()
            if self._stop or time.monotonic() - saved > 60 * self.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
            if self._stop and not last:
                raise Interrupted(f"stopped at step {self.step} of {config.steps}; {self.checkpoint_path} is saved")

    def write_log(self, entry: BaseModel) -> None:
        """Append a line to the run folder's ``log.csv``, whose first one names the columns."""
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(entry.model_dump()))
            if new:
                writer.writeheader()
            writer.writerow(entry.model_dump())


def on_device(net: Net, device: torch.device) -> Net:
    """``net`` on ``device``, its weights with the channels last, which is faster for convolutions."""
    moved: Net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved
