"""The measurement of an experiment whose networks are trained, picture by picture, by one process or several."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.commands.console import progress, say
from detector.commands.device_jobs import run_on_devices, shared_environment
from detector.commands.reproduce_train import write_whole
from detector.commands.train_common import load_pool
from detector.data import load_dataset
from detector.detection.ensemble import Member
from detector.experiment.effects import effects_csv, effects_markdown, effects_of, measure_effects
from detector.experiment.headed_model import with_heads
from detector.experiment.measure import Sources, Study
from detector.experiment.naming import Naming, naming_csv, naming_markdown
from detector.experiment.overlap_files import TrainingRegions, ensure_overlap
from detector.experiment.recipe import DOUBLED, LOCALIZER, MULTIBOX, WITH_LOCALIZER, ExperimentRecipe, MeasurementConfig
from detector.experiment.regression_files import ensure_regression, training_pictures
from detector.experiment.table import coverage, errors_csv, evaluate_variants, to_csv, to_markdown
from detector.model.config import MODEL_FILE, ProposalConfig, read_model_config
from detector.model.load import build_localizer, choose_device, read_member
from detector.model.proposals import search_source
from detector.model.save import join_localizer
from detector.nets.localizer import read_localizer_facts
from detector.nets.multibox import build_source, read_multibox_facts
from detector.recipes.build import load_splits
from detector.training.loop import Interrupted
from detector.training.pool import ImagePool
from detector.training.sampling import SamplingConfig
from proposals.errors import UserError
from proposals.merge import MergeConfig, MergedSource
from proposals.types import ProposalSource

REGRESSION, OVERLAP, WITH_HEADS = "regression", "overlap", "model-heads"


class Part(NamedTuple):
    """Every ``of``-th picture from number ``start`` on, counted from 0; all of them as part 0 of 1."""

    start: int = 0
    of: int = 1

    @classmethod
    def read(cls, text: str) -> Part:
        """Of ``I/N``, I counted from 1.

        Raises:
            UserError: it is not that.
        """
        index, slash, of = text.partition("/")
        if not (slash and index.isdigit() and of.isdigit() and 1 <= int(index) <= int(of)):
            raise UserError(f"--measure-part {text}: say I/N, as 2/4 for the second of four parts")
        return cls(int(index) - 1, int(of))


class Measurement:
    """Everything that is measured with the trained networks in the experiment's ``folder``.

    Raises:
        UserError: something is not trained yet, or the data cannot be read.
    """

    def __init__(self, recipe: ExperimentRecipe, data: Path, folder: Path, device: str) -> None:
        self.recipe, self.data, self.folder, self.device = recipe, data, folder, choose_device(device)
        settings = recipe.measurement
        dataset = load_dataset(data, settings.split)
        self.dataset = dataset.subset(range(min(settings.first or len(dataset), len(dataset))))
        self.members = {
            name: [read_member(folder / name, m) for m in read_model_config(folder / name).members]
            for name in recipe.ensembles
        }
        self.first = next(iter(recipe.ensembles))
        sources = _sources(settings, folder / MULTIBOX if recipe.has_multibox else None, device)
        self._put_regression()
        self._put_overlap(sources)
        self.naming: Naming | None = None
        if settings.members and settings.crops:
            (folder / "named").mkdir(exist_ok=True)
            self.naming = Naming(
                self.members[self.first], settings.members, settings.crops, folder / "named", self.device
            )
        (folder / "pictures").mkdir(exist_ok=True)
        localizer = None
        if recipe.has_localizer:
            place = folder / LOCALIZER
            localizer = build_localizer(place, read_localizer_facts(place).localizer, self.device)
        self.study = Study(
            self.members,
            settings.variants,
            sources,
            settings.postprocess_of,
            folder / "pictures",
            self.device,
            localizer,
        )

    def _put_regression(self) -> None:
        """Give the first members of the first ensemble their box regression."""
        settings = self.recipe.measurement.regression
        if settings is None:
            return
        pool: list[ImagePool] = []  # read once, and only if there is something to fit

        def training() -> tuple[ImagePool, SamplingConfig]:
            base = self.recipe.ensembles[self.first].base
            if not pool:
                say("box regression: reading the training pictures")
                pool.append(training_pictures(load_splits(self.data, base.train_split, "")[0], settings))
            return pool[0], base.training.sampling

        configs = read_model_config(self.folder / self.first).members
        members: list[Member] = self.members[self.first]
        folder = self.folder / REGRESSION
        for number in range(settings.members):
            members[number] = ensure_regression(
                folder, number, members[number], configs[number], training, settings, self.device, say
            )

    def _put_overlap(self, sources: Sources) -> None:
        """Let the first members of the first ensemble predict overlaps."""
        settings = self.recipe.measurement.overlap
        if settings is None:
            return

        def pictures() -> ImagePool:
            say("overlaps: reading and searching the training pictures")
            base = self.recipe.ensembles[self.first].base
            chosen = training_pictures(load_splits(self.data, base.train_split, "")[0], settings)
            scenes = [load_pool(load_dataset(Path(path)), say) for path in settings.scenes]
            return ImagePool.join([chosen, *scenes])

        source: ProposalSource = sources.scale2
        if sources.multibox is not None:
            source = MergedSource(sources.scale2, sources.multibox, sources.merging)
        with contextlib.ExitStack() as stack:

            def bar(total: int) -> Callable[[], None]:
                return stack.enter_context(progress("searching", total, "picture"))

            training = TrainingRegions(pictures, source, bar)
            configs = read_model_config(self.folder / self.first).members
            members = self.members[self.first]
            for number in range(settings.members):
                members[number] = ensure_overlap(
                    self.folder / OVERLAP,
                    number,
                    members[number],
                    configs[number],
                    training,
                    settings,
                    self.device,
                    say,
                )

    def look(self, part: Part) -> None:
        """Look at the pictures of ``part`` that were not looked at yet."""
        numbers = range(part.start, len(self.dataset), part.of)
        named = self.recipe.measurement.named
        with progress("measuring", len(numbers), "picture") as advance:
            for i in numbers:
                record = self.dataset[i]
                if self.naming is not None and (named is None or i < named):
                    self.naming.look(record, lambda i=i: self.dataset.read(i))  # type: ignore[misc]
                self.study.look(record.image_id, lambda i=i: self.dataset.read(i))  # type: ignore[misc]
                advance()

    def tables(self) -> Path:
        """Write the tables, looking at what was not looked at yet, and return the path of the one for people."""
        self.look(Part())
        settings, dataset = self.recipe.measurement, self.dataset
        records = list(dataset)
        found = {r.image_id: self.study.look(r.image_id, _unread) for r in records}
        boxes = {r.image_id: self.study.proposals(r.image_id) for r in records}
        truths = {r.image_id: r.ground_truth for r in records}
        results = evaluate_variants(
            settings.variants,
            found,
            truths,
            dataset.class_names,
            blacklist=dataset.blacklisted(),
            bootstrap_samples=settings.bootstrap,
            seed=settings.seed,
        )
        write_whole(self.folder / "table.csv", to_csv(results))
        write_whole(self.folder / "errors.csv", errors_csv(results))
        text = to_markdown(results, coverage(boxes, truths), len(records))
        effects = effects_of(settings.variants)
        if effects:
            sizes = measure_effects(effects, results, samples=settings.bootstrap, seed=settings.seed)
            write_whole(self.folder / "effects.csv", effects_csv(sizes))
            text += "\n" + effects_markdown(sizes)
        if self.naming is not None:
            looks = [self.naming.look(r, _unread) for r in records[: settings.named]]
            rows = self.naming.rows(looks, dataset.class_names, settings.bootstrap, settings.seed)
            write_whole(self.folder / "classification.csv", naming_csv(rows))
            text += "\n" + naming_markdown(rows)
        path = self.folder / "table.md"
        write_whole(path, text)
        return path

    def join_models(self) -> None:
        """Make ``model-heads/``, the experiment's model with the heads that were fitted to its members, and
        ``model-localizer/``, the same with the localizer."""
        settings, out = self.recipe.measurement, self.folder / WITH_HEADS
        model = self.folder / ("model" if self.recipe.has_multibox else self.first)
        if settings.regression or settings.overlap:
            if not (out / MODEL_FILE).is_file():
                heads = [member.head for member in self.members[self.first]]
                with_heads(model, heads, out, settings.overlap.power if settings.overlap else 0.0)
            model = out
        if self.recipe.has_localizer and not (self.folder / WITH_LOCALIZER / MODEL_FILE).is_file():
            # Its boxes alone, as in the variants that were measured.
            out, power = self.folder / WITH_LOCALIZER, settings.localizer_power
            join_localizer(model, self.folder / LOCALIZER, out, power, boxes="alone")


def _unread() -> NDArray[np.uint8]:
    raise AssertionError("every picture has been looked at")


def measure_side_by_side(words: Sequence[str], folder: Path, jobs: int) -> None:
    """Look at all pictures in so many processes, which share the cores.

    Args:
        words: of the ``reproduce`` verb, to which ``--measure-part`` is added. folder: of the experiment, for logs.

    Raises:
        UserError: one failed. Interrupted: a signal came; what was looked at stays.
    """
    environment = shared_environment(jobs)

    def launch(job: int, place: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "detector", "reproduce", *words, "--measure-part", f"{job + 1}/{jobs}"]
        with (folder / f"measure-{job + 1}.txt").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    say(f"measuring in {jobs} processes; what they say is in measure-*.txt in {folder}")
    failed, stopped = run_on_devices(range(jobs), [""] * jobs, launch)
    if stopped:
        raise Interrupted("stopped; the pictures that were looked at are kept")
    if failed:
        logs = ", ".join(str(folder / f"measure-{job + 1}.txt") for job in failed)
        raise UserError(f"measuring failed in {len(failed)} of {jobs} processes; the reasons are in {logs}")


def _sources(settings: MeasurementConfig, multibox: Path | None, device: str) -> Sources:
    def search(scale: float) -> ProposalSource:
        config = settings.selective_search.model_copy(update={"superpixel_scale": scale})
        return search_source(ProposalConfig(selective_search=config, search_side=settings.search_side), settings.seed)

    learned, merging = None, MergeConfig()
    if multibox is not None:
        member = read_multibox_facts(multibox).multibox
        learned, merging = build_source(multibox, member, choose_device(device)), member.merge
    return Sources(search(settings.selective_search.superpixel_scale), search(DOUBLED), learned, merging)
