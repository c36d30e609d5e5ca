"""A training from its data to a model folder, by the kind of its recipe: what differs between crops and shared maps."""

from __future__ import annotations

import datetime
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from detector.commands.console import ending, progress
from detector.crop import CropConfig
from detector.data import Dataset
from detector.data.faults import KEPT
from detector.model.load import stored_source
from detector.recipes.build import ValidationAP, crop_trainer, propose_for, shared_trainer
from detector.recipes.defaults import Plan, plan_training
from detector.recipes.export import save_trained
from detector.recipes.initialization import find_teacher, initialise, start_of
from detector.recipes.region import OneRecipe, SharedRecipe, TrainRecipe
from detector.shown import one_line
from detector.training.batches import Windows
from detector.training.pool import ImagePool
from detector.training.processes import Machine
from detector.training.region_batch import RegionBatch
from detector.training.region_trainer import RANGE_BATCHES, Progress, RegionTrainer
from detector.training.shared_batches import SharedBatches
from proposals.recall import best_overlaps, recall

RecipeT = TypeVar("RecipeT", TrainRecipe, SharedRecipe)
PROBED_IMAGES = 32  # on which the speed of a machine is measured
PROBED_STEPS = 1000  # of the trainer that measures it: any number
FORWARD_COST = 0.4  # of a step, for a batch that goes forward alone
AROUND_SECONDS = 5.0  # imports before, and the figures behind
DETECTION_COST = 2.0  # of an image's share of a step, for one that is detected in
ALL = 10**9  # more proposals than an image has
SHEET_CROPS = 64
Report = Callable[[Progress], None]


class Job(ABC, Generic[RecipeT]):
    """One training; :meth:`load` sets ``crop``, what the model says of its crops.

    Args:
        recipe: what to do, resolved for the data. train, val: the data. store: of proposals. machine: where it runs.
    """

    def __init__(self, recipe: RecipeT, train: Dataset, val: Dataset | None, store: Path, machine: Machine) -> None:
        self.recipe: RecipeT = recipe
        if val is None and recipe.hold_out:
            train, val = held_out(train, recipe.hold_out, recipe.training.seed)
        self.train, self.val, self.store, self.machine = train, val, store, machine
        self.keys = tuple(str(key) for key in train.class_keys)
        self.crop: CropConfig

    @abstractmethod
    def load(self) -> None:
        """Read the images, and search them for proposals where those are learned from."""

    @abstractmethod
    def trainer(self, folder: Path, report: Report) -> RegionTrainer[Any]:
        """The trainer, whose net has its first weights."""

    def save(self, folder: Path, trainer: RegionTrainer[Any], net: Any) -> None:
        """Make ``folder`` a model folder as well."""
        ranges = trainer.activation_ranges(net)
        save_trained(folder, self.recipe, self.train, net, self.crop, trainer.last_metric, trainer.seconds, ranges)

    @property
    def images_in_step(self) -> float:
        """Images of which a step learns, as if no two of its regions were of one image."""
        return float(self.recipe.training.batch_size)

    def end_steps(self, steps: int) -> float:
        """What is done behind the last of so many steps, in steps."""
        training = self.recipe.training.model_copy(update={"steps": steps})
        return FORWARD_COST * (training.statistics + RANGE_BATCHES * bool(training.grid))

    def plan(self, minutes: float, begun: float) -> tuple[RecipeT, str]:
        """The recipe with images and steps of which the run ends ``minutes`` after ``begun``, and what to say of it.

        ``begun`` is of :func:`time.monotonic`. What an image and a step cost is measured on some of the images.
        """
        some = self._some(PROBED_IMAGES)
        alone = self.recipe.model_copy(update={"hold_out": 0.0})  # nothing is measured
        silent = self.machine._replace(log=lambda line: None)  # all of it is said again of the run's own images
        probe = type(self)(alone, self.train.subset(some), None, self.store, silent)
        started = time.monotonic()
        probe.load()
        image = (time.monotonic() - started) / len(some)
        probe.recipe = self._with(probe.recipe, steps=PROBED_STEPS)
        with tempfile.TemporaryDirectory() as folder:
            step = probe.trainer(Path(folder), lambda entry: None).step_seconds()
        left = 60 * minutes - (time.monotonic() - begun)
        each = max(1, round(self.images_in_step))
        plan = Plan(len(self.train), PROBED_STEPS)
        for _ in range(2):  # the end is shorter of fewer steps
            end = AROUND_SECONDS + self.end_steps(plan.steps) * step
            plan = plan_training(left, len(self.train), each, image=image, step=step, end=end)
        recipe = self._with(self.recipe, steps=plan.steps, planned_seconds=round(plan.steps * step, 2))
        some_of_them = plan.images if plan.images < len(self.train) else None
        ends = time.strftime("%H:%M", time.localtime(time.time() + left))
        line = f"{minutes:g} minutes: {plan.steps:,} steps of {step:.2f} s on {plan.images:,} images, ends {ends}"
        return recipe.model_copy(update={"images": some_of_them}), line

    def choose_images(self) -> None:
        """Keep so many of the training images as the recipe says."""
        if self.recipe.images is not None and self.recipe.images < len(self.train):
            self.train = self.train.subset(self._some(self.recipe.images))

    def _some(self, count: int) -> NDArray[np.int64]:
        """Positions of ``count`` training images, drawn at random, those with objects first; in order."""
        rng = np.random.default_rng([self.recipe.training.seed, 10])
        mixed = rng.permutation(len(self.train))
        empty = np.diff(self.train.offsets)[mixed] == 0
        return np.sort(np.concatenate([mixed[~empty], mixed[empty]])[:count]).astype(np.int64)

    @staticmethod
    def _with(recipe: RecipeT, **run: object) -> RecipeT:
        """``recipe`` with other settings of its run."""
        return recipe.model_copy(update={"training": recipe.training.model_copy(update=run)})


def held_out(train: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """``train`` without a ``share`` of its images, drawn at random, and those; ``None`` where that is no image."""
    mixed = np.random.default_rng([seed, 11]).permutation(len(train))
    count = round(share * len(train))
    if not 0 < count < len(train):
        return train, None
    return train.subset(np.sort(mixed[count:])), train.subset(np.sort(mixed[:count]))


def load_pool(dataset: Dataset, log: Callable[[str], None]) -> ImagePool:
    """The data set's images in memory, with a line for what had to be skipped."""
    pool = ImagePool.load(dataset)
    faults = [str(fault) for fault in dataset.faults if fault.effect != KEPT] + pool.skipped
    for fault in faults[:5]:
        log(f"skipped: {fault}")
    if len(faults) > 5:
        log(f"skipped: {len(faults) - 5} more; 'detector check-data' lists them all")
    if not pool.in_memory:
        log("the images do not all fit in memory: some are read again whenever they are needed")
    return pool


class CropJob(Job[TrainRecipe]):
    """A network that names crops."""

    def load(self) -> None:
        log, recipe = self.machine.log, self.recipe
        self.pools = [load_pool(data, log) for data in (self.train, self.val) if data is not None]
        self.crop = recipe.training.crop
        self.windows: Windows | None = None
        if not recipe.training.background:
            self.pools = [pool.whole() for pool in self.pools]
        if recipe.training.regions == "windows":
            pool, training = self.pools[0], recipe.training
            with progress("proposing", len(pool.images), "image") as advance:
                boxes = propose_for(recipe.model.proposals, pool, self.store, self.machine.processes, advance)
                self.windows = windows = Windows.label(pool, boxes, training.num_classes, training.sampling)
            log(f"{len(windows.foreground):,} windows show objects, {len(windows.background):,} background")

    def trainer(self, folder: Path, report: Report) -> RegionTrainer[Any]:
        val = self.pools[1] if len(self.pools) > 1 else None
        return crop_trainer(
            self.recipe.training, self.pools[0], val, len(self.keys), folder,
            machine=self.machine, report=report, windows=self.windows,
            start=lambda net: initialise(net, self.recipe.init, self.keys),
            teacher=find_teacher(self.recipe, self.keys, self.machine.device),
        )  # fmt: skip


class SharedJob(Job[SharedRecipe]):
    """A region network on shared maps."""

    def load(self) -> None:
        self.pool = load_pool(self.train, self.machine.log)
        self.crop = start_of(self.recipe.init).crop
        if self.recipe.training.only_multibox:  # which learns from the objects alone
            self.proposals = [np.zeros((0, 4), np.float32)] * len(self.pool.images)
            return
        with progress("proposing", len(self.pool.images), "image") as advance:
            self.proposals = list(
                propose_for(self.recipe.model.proposals, self.pool, self.store, self.machine.processes, advance)
            )
        truths = [self.pool.truth(index) for index in range(len(self.pool.images))]
        self.covered = float(recall(best_overlaps(self.proposals, truths, [ALL]), 0.5)[0])
        self.machine.log(f"selective search covers {100 * self.covered:.1f} % of the objects at IoU 0.5")

    @property
    def images_in_step(self) -> float:
        return float(self.recipe.training.images)

    def end_steps(self, steps: int) -> float:
        """See the base class: with the validation's detections."""
        alone = self.recipe.training.only_multibox
        measured = 0 if self.val is None or alone else min(len(self.val), self.recipe.val_images)
        return super().end_steps(steps) + DETECTION_COST * measured / self.images_in_step

    def trainer(self, folder: Path, report: Report) -> RegionTrainer[Any]:
        self.measure = None
        alone = self.recipe.training.only_multibox
        if self.val is not None and self.machine.processes.count == 1 and not alone:
            some = self.val.subset(np.arange(min(len(self.val), self.recipe.val_images)))
            usable = ImagePool.load(some)
            for fault in usable.skipped:
                self.machine.log(f"skipped: {fault}")
            some = some.subset(np.flatnonzero(np.isin(some.image_ids, usable.ids)))
            source = stored_source(self.recipe.model.proposals, self.store)
            self.measure = ValidationAP(self.recipe, self.crop, some, source)
        training = self.recipe.training
        return shared_trainer(
            training, SharedBatches(self.pool, self.proposals, len(self.keys), training), folder,
            machine=self.machine, report=report, measure=self.measure,
            start=lambda net: initialise(net, self.recipe.init, self.keys),
            teacher=find_teacher(self.recipe, self.keys, self.machine.device),
        )  # fmt: skip

    def save(self, folder: Path, trainer: RegionTrainer[Any], net: Any) -> None:
        super().save(folder, trainer, net)
        if not self.recipe.training.only_multibox:
            self.show(folder, trainer)

    def show(self, folder: Path, trainer: RegionTrainer[Any]) -> None:
        """The page of the training, and on the terminal what to do next."""
        from detector.report.training_page import PAGE, HeldOut, write_training_page

        steps, seconds = trainer.step, trainer.seconds
        facts = (
            ("Data", f"{self.train.name}: {len(self.train)} images, {len(self.train.boxes)} objects"),
            ("Begun with", self.recipe.init),
            ("Trained", f"{steps:,} steps of {self.recipe.training.images} images in {seconds / 60:.1f} minutes"),
        )
        shown = None
        if self.measure is not None and self.measure.found:
            threshold = self.recipe.model.postprocess.score_threshold
            shown = HeldOut(self.measure.data, self.measure.found, self.measure.proposals, threshold)
        for line in write_training_page(folder, self.train, facts, self.covered, shown):
            self.machine.log(line)
        self.machine.log(f"{folder / PAGE} shows the course, what it finds and what to do next")


def job_of(recipe: OneRecipe, *about: Any) -> CropJob | SharedJob:
    """The job of a recipe; ``about`` is the rest of what :class:`Job` takes."""
    return SharedJob(recipe, *about) if isinstance(recipe, SharedRecipe) else CropJob(recipe, *about)


def save_sheet(batch: RegionBatch, names: tuple[str, ...], folder: Path) -> None:
    """``crops.png``: regions as they enter the net, if there are any, with their labels; ``names`` of the classes."""
    from detector.images.pixels import write_picture
    from detector.report.drawing import draw_sheet

    images = batch.images.round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    labels, words = batch.labels.tolist(), (*names, "background")
    if not labels:
        return
    keep = np.unique(np.linspace(0, len(labels) - 1, SHEET_CROPS).astype(int)).tolist()  # objects come first
    if batch.rois is None:
        crops = [images[i] for i in keep]
    else:
        crops = []
        for image, x1, y1, x2, y2 in batch.rois[keep].round().int().tolist():
            crop = Image.fromarray(images[image]).crop((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))
            crops.append(np.asarray(crop.resize((64, 64))))
    shown = [words[labels[i]] if labels[i] >= 0 else "unreadable" for i in keep]
    write_picture(folder / "crops.png", draw_sheet(crops, shown, columns=8))


def describe(entry: Progress) -> tuple[str, bool]:
    """A line of the log for people; one with a validation is kept on the terminal."""
    parts = [f"loss {entry.loss:.3f}"]
    if entry.loss != entry.proposal_loss:  # or MultiBox alone learns
        if entry.box_loss is not None:
            proposals = "" if entry.proposal_loss is None else f", proposals {entry.proposal_loss:.3f}"
            parts[0] += f" (classes {entry.class_loss:.3f}, boxes {entry.box_loss:.3f}{proposals})"
        parts.append(f"top-1 {entry.top1_train:.3f}, of objects {entry.top1_objects:.3f}")
    if entry.top1_val is not None:
        parts.append(f"validation top-1 {entry.top1_val:.3f}")
    if entry.ap_val is not None:
        parts.append(f"validation mean AP {entry.ap_val:.3f}")
    parts += [f"rate {entry.rate:.2g}", f"{entry.regions_per_second:.0f} regions/s"]
    return ", ".join(parts), entry.top1_val is not None or entry.ap_val is not None


@contextmanager
def show_progress(
    steps: int, describe: Callable[[Progress], tuple[str, bool]], shown: bool = True
) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, lines elsewhere; yields what takes each entry of the log.

    Each line ends with the time at which the run will be done at the rate so far.

    Args:
        steps: of the run, as planned. describe: an entry as a line, and whether a terminal should keep that line.
        shown: whether anything is shown at all.
    """
    console = Console(stderr=True, quiet=not shown)
    columns = (SpinnerColumn(), TextColumn("step {task.completed:.0f}/{task.total:.0f}"), BarColumn())
    words = TextColumn("{task.description}", markup=False)
    begun: tuple[int, float] | None = None  # step and time of the first entry: what came before is not known
    with Bars(*columns, words, console=console, disable=not console.is_terminal or not shown) as bar:
        task = bar.add_task("", total=steps)

        def report(entry: Progress) -> None:
            nonlocal begun
            step, steps, now = entry.step, entry.steps, time.monotonic()
            first, start = begun = begun or (step, now)
            line, keep = describe(entry)
            if first < step < steps:
                line += ending((now - start) / (step - first) * (steps - step), datetime.datetime.now())
            line = one_line(line)
            bar.update(task, completed=step, total=steps, description=line)
            if not console.is_terminal or keep:
                text = Text(f"{time.strftime('%H:%M:%S')} step {step}/{steps} epoch {entry.epoch:.2f}: {line}")
                bar.console.print(text, highlight=False, soft_wrap=True)

        yield report
