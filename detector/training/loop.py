"""What every training run does, whatever it learns: steps, log, averaged weights, checkpoints, resumption, signals."""

from __future__ import annotations

import copy
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Generic

import numpy as np
import torch
from torch import nn

from detector.training.ahead import loader_threads, make_ahead
from detector.training.batches import CropBatches
from detector.training.gradients import Gradients, Outcome, WeightAverage, add, flushed_denormals
from detector.training.processes import Machine, Net, on_device, share_normalization
from detector.training.region_batch import RegionBatch
from detector.training.region_settings import LearningConfig
from detector.training.run_files import RunLog, Watch, load_checkpoint, save_checkpoint
from detector.training.shared_batches import SharedBatches
from proposals.errors import UserError

SLACK = 1.1  # times more or less than the planned seconds, from which on a run is planned anew
LONGEST = 2  # times the planned steps


class Interrupted(Exception):
    """The run was told to stop and saved a checkpoint."""


class Trainer(ABC, Generic[Net]):
    """Trains one network and keeps its run folder: ``log.csv``, ``checkpoint.pt`` and ``best.pt``, written as it goes.

    A subclass says what the loss of a batch is. What it draws at random in a step must depend on the seed and the step
    alone, or on torch's generator, which the checkpoint holds: then a resumed run equals one that never stopped. With
    several processes torch's generator is set anew in each step, from the seed, the step and the rank.

    Args:
        config: what to do. net: with its first weights. optimizer: of its parameters; a group's "scale", if it has one,
            multiplies the schedule's rate. batches: what to learn from. folder: the run folder, which exists.
        measure: the metric of the averaged net on validation data (more is better; whether it is the last time is told,
            too), or ``None``. log_every, validate_every: steps.
    """

    def __init__(
        self,
        config: LearningConfig,
        net: Net,
        optimizer: torch.optim.Optimizer,
        batches: CropBatches | SharedBatches,
        folder: Path,
        *,
        machine: Machine,
        measure: Callable[[Net, bool], float | None] | None = None,
        log_every: int = 50,
        validate_every: int = 1000,
    ) -> None:
        self.config, self.batches = config, batches
        self.machine, self.device, self.processes = machine, machine.device, machine.processes
        self.net, self.optimizer, self.folder = net, optimizer, folder
        self._blank = copy.deepcopy(net).cpu()  # before it is wrapped for several processes
        self.measure, self.log_every, self.validate_every = measure, log_every, validate_every
        self.last_metric: float | None = None
        if self.processes.count > 1 and config.shared_normalization:
            share_normalization(net, self.device)
        self.gradients: Gradients[RegionBatch] = Gradients(
            net,
            optimizer,
            machine=machine,
            precision=config.precision,
            batch_size=config.batch_size,
            split=RegionBatch.parts,
            outcome=self.outcome,
        )
        self.average = WeightAverage(net, config.decay)
        self.watch = Watch(folder / "best.pt", config.patience, self.processes.writes)
        self.log = RunLog(folder, self.processes.writes)
        self.step, self.steps = 0, config.steps
        self.seconds = 0.0
        self._stop = False

    # --- what a subclass says ----------

    @abstractmethod
    def outcome(self, batch: RegionBatch) -> Outcome:
        """The loss of ``self.model`` in training mode on ``batch``."""

    @abstractmethod
    def _log(self, rate: float, loss: float, figures: Sequence[float], metric: float | None, speed: float) -> None:
        """Write a line: mean loss of a step, figures per example, the validation's result, examples per second."""

    def adjust_gradients(self) -> None:
        """Called between the backward pass and the optimizer's step."""

    # --- weights ----------

    def new_net(self) -> Net:
        """A net of the run's architecture, on the CPU."""
        return copy.deepcopy(self._blank)

    @property
    def model(self) -> nn.Module:
        """The net, or what stands around it when several processes train it."""
        return self.gradients.model

    @property
    def checkpoint_path(self) -> Path:
        """The one checkpoint of the run, always the latest."""
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint."""
        if not self.processes.writes:
            return
        save_checkpoint(
            self.checkpoint_path,
            {
                "step": self.step,
                "steps": self.steps,
                "seconds": self.seconds,
                "config": self.config.model_dump(mode="json"),
                "net": self.net.state_dict(),
                "average": self.average.state,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.gradients.scaler.state_dict(),
                "watch": self.watch.state(),
                "rng": torch.get_rng_state(),
            },
        )

    def resume(self) -> None:
        """Go on from the run folder's checkpoint; the configuration must be the same.

        Settings that the checkpoint does not know have come since, and their defaults do what was done without them.
        """
        state = self.processes.from_first(load_checkpoint(self.checkpoint_path) if self.processes.writes else {})
        if type(self.config).model_validate(state["config"]) != self.config:
            raise UserError(f"{self.checkpoint_path}: made with another configuration; start a new run instead")
        self.net.load_state_dict(state["net"])
        self.average.state = {name: t.to(self.device) for name, t in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        if state.get("scaler"):
            self.gradients.scaler.load_state_dict(state["scaler"])
        self.watch.restore(state.get("watch", {}))
        torch.set_rng_state(state["rng"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.steps = state.get("steps", self.config.steps)

    def averaged_net(self) -> Net:
        """A copy of the net with the averaged weights, in evaluation mode."""
        net = on_device(self.new_net(), self.device)
        net.load_state_dict(self.average.state)
        return net.eval()

    # --- the run ----------

    def stream(self, steps: Iterator[int]) -> Iterator[RegionBatch]:
        """The batches of ``steps``, of several processes this one's part of each, made ahead while the net computes."""
        part = self.processes.part(self.batches.size)
        threads = loader_threads(self.device, self.batches.pool.in_memory)
        return make_ahead(lambda step: self.batches.batch(step, part), steps, threads)

    def step_seconds(self, count: int = 9) -> float:
        """Seconds of a step, the median of ``count`` after two that are slower: what delays one of them does not count.

        The weights move and the log stays empty: for a trainer that is made to measure the machine.
        """
        times = []
        self.net.train()
        with flushed_denormals():
            for batch in self.stream(iter(range(count + 2))):
                self.gradients.of(batch)
                self.gradients.step(self.adjust_gradients)
                times.append(time.monotonic())
        return float(np.median(np.diff(times[1:])))

    def run(self) -> Net:
        """Train to the end and return the averaged net, of the last step or the best validation.

        Raises:
            Interrupted: SIGTERM or Ctrl-C came; the checkpoint is saved. UserError: the loss is not finite any more.
        """
        handlers = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        self.log.cut(self.step)  # a run that died may have logged more than it had saved
        try:
            if self.processes.count > 1:
                self.gradients.share()
            with flushed_denormals():
                net = self._run()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self.log.close()
        self.save()
        return net

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _run(self) -> Net:
        config, total = self.config, self.processes.total
        self.net.train()
        saved = mark = time.monotonic()
        loss_sum, seen, figures, steps = 0.0, 0, [0.0], 0
        net: Net | None = None
        for batch in self.stream(count(self.step) if self.step < self.steps else iter(())):
            rate = config.schedule.at(self.step, self.steps, self.batches.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * config.batch_size / 128 * group.get("scale", 1.0)
            if self.processes.count > 1:
                torch.manual_seed(_mixed_seed(config.seed, self.step, self.processes.rank))
            outcome = self.gradients.of(batch)
            value, told = total([float(outcome.loss), float(self._stop)], self.device)
            if not math.isfinite(value):
                raise UserError(self._blame(value, batch))
            self.gradients.step(self.adjust_gradients)
            self.average.update(self.net, self.step)
            loss_sum += value
            figures = add(figures, outcome.figures)
            seen += outcome.examples
            steps += 1
            self.step += 1
            last = self.step == self.steps
            if self.step % self.log_every == 0 or last:
                everyone, *sums = total([seen, *figures], self.device)
                now = time.monotonic()
                self.seconds += now - mark
                self._keep_to_time((now - mark) / steps)
                metric = None
                if self.step % self.validate_every == 0 or last:
                    net = self.averaged_net()
                    metric = self._validate(net, last)
                    if metric is not None:
                        self.watch.note(self.step, metric, net)
                self._log(rate, loss_sum / steps, [f / everyone for f in sums], metric, everyone / (now - mark))
                loss_sum, seen, figures, steps, mark = 0.0, 0, [0.0], 0, time.monotonic()
            # All of several processes must stop at the same step: at what they knew of at its beginning.
            stop = self._stop if self.processes.count == 1 else told > 0
            if stop or time.monotonic() - saved > 60 * self.machine.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
            if stop and not last:
                raise Interrupted(f"stopped at step {self.step} of {self.steps}; {self.checkpoint_path} is saved")
            if last:
                break
            if self.watch.exhausted:
                self.machine.log(f"no better validation in {config.patience}: stopped at step {self.step}")
                break
        return self._result(net)

    def _keep_to_time(self, step_seconds: float) -> None:
        """Take so many steps as fit into what is planned, if a step takes ``step_seconds`` and that is another number.

        More only in the first half: later the schedule would have to go back.
        """
        planned, left = self.config.planned_seconds, self.steps - self.step
        if planned is None or left == 0:
            return
        steps, whole = self.steps, self.seconds + left * step_seconds
        if whole > SLACK * planned or (whole * SLACK < planned and 2 * self.step < self.steps):
            fits = self.step + max(1, int((planned - self.seconds) / step_seconds))
            steps = min(fits, LONGEST * self.config.steps)
        steps = self.processes.from_first(steps)
        if steps != self.steps:
            self.machine.log(f"a step takes {step_seconds:.2f} s now: {steps} steps in place of {self.steps}")
            self.steps = steps

    def _validate(self, net: Net, last: bool) -> float | None:
        """The metric of ``net``, if there is one."""
        self.last_metric = None if self.measure is None else self.measure(net, last)
        return self.last_metric

    def _result(self, net: Net | None) -> Net:
        """The net that the settings ask for; ``net`` is the averaged one of the last step if it was made."""
        if self.config.result == "best" and self.watch.best_step not in (None, self.step):
            best = on_device(self.new_net(), self.device)
            best.load_state_dict(self.watch.read(self.processes))
            self._validate(best.eval(), True)
            return best
        if net is None:  # resumed at its end
            net = self.averaged_net()
        if self.step < self.steps:  # stopped early: the last validation was not of everything
            self._validate(net, True)
        return net

    def clean_up(self) -> None:
        """Remove what the finished result stands in place of: the checkpoint, and the best net if it is the result."""
        self.checkpoint_path.unlink()
        if self.config.result == "best" or self.watch.best_step == self.step:
            self.watch.path.unlink(missing_ok=True)

    def _blame(self, value: float, batch: RegionBatch) -> str:
        """What to say when the loss of ``batch`` is ``value``; its whole content goes to a file."""
        lines = batch.describe()
        path = self.folder / f"not-finite-{self.processes.rank}.txt"
        text = "".join(f"{line}\n" for line in lines)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")  # names that are no UTF-8
        some = ", ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")
        return (
            f"the loss became {value} at step {self.step}, seed {self.config.seed}, on the batch of {some} "
            f"(all of it in {path}); lower schedule.rate and start a new run"
        )


def _mixed_seed(*numbers: int) -> int:
    """A seed for torch made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
