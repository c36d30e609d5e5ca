"""What ``train --recipe head`` does: proposals, a trunk, features, a head, and the model directory they make."""

from __future__ import annotations

import csv
import datetime
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from numpy.typing import NDArray

from detector.commands.console import progress, say
from detector.commands.resume import Resume
from detector.commands.train_common import load_pool, read_data, show_progress
from detector.crop import crop_regions
from detector.data import Dataset, load_dataset
from detector.images.write import write_picture
from detector.model.config import MODEL_FILE, ProposalConfig
from detector.model.load import choose_device
from detector.model.proposals import stored_source
from detector.model.save import save_model
from detector.nets.region_head import HeadKind
from detector.recipes.build_head import (
    FixedTrunk,
    about,
    first_trunk,
    propose_all,
    tuned_trunk,
    tuning_folder,
    tuning_of,
)
from detector.recipes.head import HeadRecipe, read_head_recipe
from detector.report.drawing import draw_sheet
from detector.report.plots import plot_training
from detector.runs.folder import final_path, new_run_folder, refuse_occupied
from detector.strict_yaml import dump_yaml, read_yaml
from detector.training.features import FeatureExtractor, compute_features
from detector.training.heads import TrainingSet, grid_rows, train_head
from detector.training.loop import Interrupted, Machine
from detector.training.pool import ImagePool
from detector.training.proposal_choice import choose_proposals
from detector.training.region_table import RegionTable, make_table
from detector.training.region_trainer import Progress
from detector.training.run_log import LOG_FILE
from detector.training.trunk_tuning import TuningBatches
from proposals.errors import UserError

SHEET_CROPS = 64


@dataclass(frozen=True)
class HeadRequest:
    """The verb's options; see :func:`detector.commands.train.train`."""

    data: Path
    config: Path | None = None
    out: Path | None = None
    resume: Resume = Resume.no
    init: str | None = None
    split: str | None = None
    head: HeadKind | None = None
    steps: int | None = None
    seed: int | None = None
    proposals: Path = Path("runs/proposals")
    cache: Path = Path("runs/features")
    device: str = "auto"
    micro_batch: int | None = None
    checkpoint_minutes: float = 1.0


class Stages:
    """How long each stage took, by the clock and of the processor's time, for people and for ``stages.csv``."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, str]] = []
        self._mark = time.monotonic(), time.process_time()

    def done(self, name: str, what: str) -> None:
        """The stage ``name`` is over."""
        now = time.monotonic(), time.process_time()
        seconds, work = now[0] - self._mark[0], now[1] - self._mark[1]
        self.rows.append((name, round(seconds, 1), round(work, 1), what))
        say(f"{name}: {what} ({seconds:.0f} s)")
        self._mark = now

    @property
    def seconds(self) -> float:
        """Of all stages so far, by the clock."""
        return sum(row[1] for row in self.rows)

    def write(self, path: Path) -> None:
        """As CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("stage", "seconds", "processor_seconds", "what"), *self.rows])


def wants_head(recipe: str | None, config: Path | None) -> bool:
    """Whether the options ask for this recipe, by name or by a file of its settings."""
    if recipe is not None or config is None:
        return recipe == "head"
    return read_yaml(config).get("task") == "head"


def choose_recipe(request: HeadRequest) -> HeadRecipe:
    """The recipe of the options: of the given file, or the default."""
    recipe = read_head_recipe(request.config) if request.config is not None else HeadRecipe()
    changes: dict[str, object] = {"init": request.init, "train_split": request.split, "seed": request.seed}
    if request.head is not None:
        changes["head"] = recipe.head.model_copy(update={"kind": request.head})
    if request.steps is not None:
        tuning = recipe.tuning
        changes["tuning"] = None if tuning is None else tuning.model_copy(update={"steps": request.steps})
    return recipe.model_copy(update={name: value for name, value in changes.items() if value is not None})


@contextmanager
def told_to_stop() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that temporary folders are cleared away."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted("stopped")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_head_training(request: HeadRequest) -> Path:
    """Train as asked and return the folder, a model directory.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal; what was finished is kept in the cache.
    """
    recipe = choose_recipe(request)
    device = choose_device(request.device)
    if request.resume is Resume.auto and request.out is not None and (request.out / MODEL_FILE).exists():
        say(f"{request.out}: finished already")
        return request.out
    refuse_occupied(request.out)
    if recipe.train_split:
        train = load_dataset(request.data, split=recipe.train_split)
    else:
        train = read_data(request.data, None)[0]
    if train.format == "image_folder":
        raise UserError(f"{request.data}: has images in folders but no boxes; annotate them with a labelling tool")
    recipe = recipe.model_copy(update={"train_split": train.split})
    say(f"{train.name}: {len(train)} training images, {len(train.boxes)} objects, {len(train.class_names)} classes")
    with told_to_stop(), new_run_folder(request.out, "train", recipe.model_dump(mode="json"), recipe.seed) as folder:
        result = final_path(folder)
        _train(request, recipe, train, device, folder)
    return result


def _train(request: HeadRequest, recipe: HeadRecipe, train: Dataset, device: torch.device, folder: Path) -> None:
    stages = Stages()
    classes = len(train.class_names)
    trunk = first_trunk(recipe, request.cache)  # before the images: what is wrong with it shall show at once
    pool = load_pool(train)
    if not len(pool.boxes):
        raise UserError(f"{request.data}: the training data hold no usable object; detector check-data says why")
    stages.done("images", f"{len(pool.images)} read, {len(pool.boxes)} objects of {classes} classes")
    proposals = _choose_proposals(recipe, pool, folder, stages)
    with progress("proposing", len(pool.images), "image") as advance:
        found = propose_all(stored_source(proposals, request.proposals), pool, proposals.max_proposals, advance)
    table = make_table(pool, found, classes, recipe.regions, recipe.seed)
    covered = np.unique(table.truth[(table.overlap >= 0.5) & ~table.annotated & (table.truth >= 0)])
    stages.done(
        "proposals",
        f"{sum(map(len, found)):,} regions; with shifts and mirror images {len(table):,}, "
        f"{100 * len(covered) / len(pool.boxes):.1f} % of the objects covered",
    )
    trunk = _tune(request, recipe, trunk, pool, table, train.class_names, device, folder, stages)
    extractor = FeatureExtractor(trunk.build(), trunk.digest, trunk.crop, trunk.normalization, recipe.head.grid, device)
    with progress("computing features", len(pool.images), "image") as advance:
        features, made = compute_features(extractor, pool, table, grid_rows(table, recipe.head), request.cache, advance)
    stages.done("features", f"of {len(table):,} regions; {made} of {len(pool.images)} images were new")
    head = train_head(TrainingSet(pool, table, features, classes), recipe.head, recipe.seed, say)
    stages.done("head", recipe.head.kind + (" and box regression" if recipe.head.grid else ""))
    stages.write(folder / "stages.csv")
    save_model(
        folder,
        [(trunk.net, trunk.build().state_dict(), trunk.crop, trunk.normalization)],
        heads=[head],
        name=recipe.model.name or final_path(folder).resolve().name,
        description=recipe.model.description,
        class_names=train.class_names,
        class_keys=tuple(str(key) for key in train.class_keys),
        proposals=proposals,
        postprocess=recipe.model.postprocess,
        refinement=recipe.refinement if recipe.head.grid else None,
        licence=recipe.model.licence,
        provenance={
            "data": f"{train.name} ({train.format}), split {train.split or 'all'}, {len(train)} images",
            "trained": datetime.date.today().isoformat(),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seconds": f"{stages.seconds:.0f} on {platform.machine()}, {torch.get_num_threads()} threads",
            "init": recipe.init,
            "recipe": "head",
        },
    )
    (folder / "recipe.yaml").write_text(dump_yaml(recipe), encoding="utf-8")


def _choose_proposals(recipe: HeadRecipe, pool: ImagePool, folder: Path, stages: Stages) -> ProposalConfig:
    """The recipe's proposals, or those that suit the images."""
    if recipe.proposals is not None:
        return recipe.proposals
    choice = choose_proposals(pool, recipe.choice, recipe.seed)
    (folder / "proposals.txt").write_text("".join(f"{line}\n" for line in choice.tried), encoding="utf-8")
    stages.done("choice of proposals", about(choice))
    return choice.proposals


def _tune(
    request: HeadRequest,
    recipe: HeadRecipe,
    trunk: FixedTrunk,
    pool: ImagePool,
    table: RegionTable,
    names: tuple[str, ...],
    device: torch.device,
    folder: Path,
    stages: Stages,
) -> FixedTrunk:
    """The trunk, tuned if the recipe says so; the run folder gets its log and a sheet of crops."""
    tuning = tuning_of(recipe)
    if tuning is None:
        _save_region_sheet(folder, trunk, pool, table, names)
        stages.done("trunk", f"{recipe.init}, as it is")
        return trunk
    batches = TuningBatches(pool, table, len(names), trunk.crop, trunk.normalization.fill, tuning)
    batch = batches.batch(0)
    keep = np.unique(np.linspace(0, len(batch.labels) - 1, SHEET_CROPS).astype(int))
    crops = batch.images[keep].round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    _save_sheet(folder, list(crops), [(*names, "background")[i] for i in batch.labels[keep].tolist()])
    kept = tuning_folder(tuning, trunk, pool, table, len(names), request.cache)
    machine = Machine(device, micro_batch=request.micro_batch, checkpoint_minutes=request.checkpoint_minutes, tell=say)
    with show_progress(tuning.steps, describe) as report:
        tuned = tuned_trunk(trunk, batches, kept, machine, report)
    if (kept / LOG_FILE).exists():
        shutil.copyfile(kept / LOG_FILE, folder / LOG_FILE)
        plot_training(folder / LOG_FILE, folder / "curves.png")
    stages.done("trunk", f"{recipe.init}, tuned in {tuning.steps} steps of {tuning.batch_size} crops")
    return tuned


def describe(entry: Progress) -> tuple[str, bool]:
    """A line of the log for people."""
    return (
        f"loss {entry.loss:.3f}, of boxes {entry.box_loss or 0:.3f}, top-1 {entry.top1_train:.3f}, "
        f"{entry.regions_per_second:.0f} regions/s"
    ), False


def _save_region_sheet(
    folder: Path, trunk: FixedTrunk, pool: ImagePool, table: RegionTable, names: tuple[str, ...]
) -> None:
    """A sheet of regions as they enter a frozen trunk: half of them objects, half background."""
    labels = table.labels(pool, 0.5)
    rng = np.random.default_rng(0)
    rows: list[int] = []
    for kind in (np.flatnonzero(labels < len(names)), np.flatnonzero(labels == len(names))):
        rows += rng.choice(kind, min(SHEET_CROPS // 2, len(kind)), replace=False).tolist()
    owner = np.searchsorted(table.first, rows, side="right") - 1
    crops = []
    for row, image in zip(rows, owner.tolist(), strict=True):
        crop = crop_regions(pool.images[image], table.boxes[row : row + 1], trunk.crop, trunk.normalization.fill)[0]
        crops.append(crop[:, ::-1].copy() if table.mirror[row] else crop)
    _save_sheet(folder, crops, [(*names, "background")[labels[row]] for row in rows])


def _save_sheet(folder: Path, crops: list[NDArray[np.uint8]], labels: list[str]) -> None:
    write_picture(folder / "crops.png", draw_sheet(crops, labels, columns=8))
