"""A training from its data to a model folder, by the kind of its recipe: what differs between crops and shared maps."""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from detector.commands.console import progress
from detector.commands.train_common import load_pool
from detector.crop import CropConfig
from detector.data import Dataset
from detector.model.load import stored_source
from detector.recipes.build import ValidationAP, check_beginning, crop_trainer, propose_for, shared_trainer
from detector.recipes.defaults import plan_training
from detector.recipes.export import save_trained
from detector.recipes.initialization import find_teacher, initialise, start_of
from detector.recipes.region import OneRecipe, SharedRecipe, TrainRecipe
from detector.training.batches import Windows
from detector.training.pool import ImagePool
from detector.training.processes import Machine
from detector.training.region_trainer import Progress, RegionTrainer
from detector.training.shared_batches import SharedBatches
from proposals.recall import best_overlaps, recall

RecipeT = TypeVar("RecipeT", TrainRecipe, SharedRecipe)
PROBED_IMAGES = 32  # on which the speed of a machine is measured
PROBED_STEPS = 1000  # of the trainer that measures it: any number
STATISTICS_COST = 0.4  # of a step, for a batch that goes forward alone
DETECTION_COST = 2.0  # of an image's share of a step, for one that is detected in
AVERAGED = 0.08  # share of a planned run over which its weights are averaged
ALL = 10**9  # more proposals than an image has
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

    def check(self) -> None:
        """UserError for what is wrong with the first weights: before the images are read."""
        check_beginning(self.recipe, self.keys)

    @abstractmethod
    def load(self) -> None:
        """Read the images, and search them for proposals where those are learned from."""

    @abstractmethod
    def trainer(self, folder: Path, report: Report) -> RegionTrainer[Any]:
        """The trainer, whose net has its first weights."""

    def save(self, folder: Path, trainer: RegionTrainer[Any], net: Any) -> None:
        """Make ``folder`` a model folder as well."""
        save_trained(folder, self.recipe, self.train, net, self.crop, trainer.last_metric, trainer.seconds)

    def sample(self, train: Dataset) -> Job[RecipeT]:
        """The same job on other training data, without validation."""
        return type(self)(self.recipe.model_copy(update={"hold_out": 0.0}), train, None, self.store, self.machine)

    @property
    def images_in_step(self) -> float:
        """Images of which a step learns, as if no two of its regions were of one image."""
        return float(self.recipe.training.batch_size)

    @property
    def end_seconds(self) -> float:
        """In steps: what is done behind the last one."""
        return STATISTICS_COST * float(self.recipe.training.statistics_batches)

    def plan(self, minutes: float, begun: float) -> tuple[RecipeT, str]:
        """The recipe with images and steps of which the run ends ``minutes`` after ``begun``, and what to say of it.

        ``begun`` is of :func:`time.monotonic`. What an image and a step cost is measured on some of the images.
        """
        some = self._some(PROBED_IMAGES)
        probe = self.sample(self.train.subset(some))
        started = time.monotonic()
        probe.load()
        image = (time.monotonic() - started) / len(some)
        probe.recipe = self._with(probe.recipe, steps=PROBED_STEPS)
        with tempfile.TemporaryDirectory() as folder:
            step = probe.trainer(Path(folder), lambda entry: None).step_seconds()
        left = 60 * minutes - (time.monotonic() - begun)
        each = max(1, round(self.images_in_step))
        plan = plan_training(left, len(self.train), each, image=image, step=step, end=self.end_seconds * step)
        average = 1 - 1 / max(10.0, AVERAGED * plan.steps)
        seconds = round(plan.steps * step, 2)
        recipe = self._with(self.recipe, steps=plan.steps, average=round(average, 5), planned_seconds=seconds)
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


class CropJob(Job[TrainRecipe]):
    """A network that names crops."""

    def load(self) -> None:
        tell, recipe = self.machine.tell, self.recipe
        self.pools = [load_pool(data, tell) for data in (self.train, self.val) if data is not None]
        self.crop = recipe.training.crop
        self.windows: Windows | None = None
        if not recipe.training.background:
            self.pools = [pool.whole() for pool in self.pools]
        if recipe.training.regions == "windows":
            pool, training = self.pools[0], recipe.training
            with progress("proposing", len(pool.images), "image") as advance:
                boxes = propose_for(recipe.model.proposals, pool, self.store, self.machine.processes, advance)
                self.windows = windows = Windows.label(pool, boxes, training.num_classes, training.sampling)
            tell(f"{len(windows.foreground):,} windows show objects, {len(windows.background):,} background")

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
        self.pool = load_pool(self.train, self.machine.tell)
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
        self.machine.tell(f"selective search covers {100 * self.covered:.1f} % of the objects at IoU 0.5")

    @property
    def images_in_step(self) -> float:
        return float(self.recipe.training.images)

    @property
    def end_seconds(self) -> float:
        """See the base class: with the validation's detections."""
        alone = self.recipe.training.only_multibox
        measured = 0 if self.val is None or alone else min(len(self.val), self.recipe.val_images)
        return super().end_seconds + DETECTION_COST * measured / self.images_in_step

    def trainer(self, folder: Path, report: Report) -> RegionTrainer[Any]:
        self.measure = None
        alone = self.recipe.training.only_multibox
        if self.val is not None and self.machine.processes.count == 1 and not alone:
            some = self.val.subset(np.arange(min(len(self.val), self.recipe.val_images)))
            usable = ImagePool.load(some)
            for fault in usable.skipped:
                self.machine.tell(f"skipped: {fault}")
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
            self.machine.tell(line)
        self.machine.tell(f"{folder / PAGE} shows the course, what it finds and what to do next")


def job_of(
    recipe: OneRecipe, train: Dataset, val: Dataset | None, store: Path, machine: Machine
) -> CropJob | SharedJob:
    """The job of a recipe; see :class:`Job`."""
    if isinstance(recipe, SharedRecipe):
        return SharedJob(recipe, train, val, store, machine)
    return CropJob(recipe, train, val, store, machine)
