"""What the training verbs share: the run folder, the data, and the progress they show."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from detector.commands.console import rate_and_end, say
from detector.commands.resume import Resume
from detector.data import Dataset, dataset_splits
from detector.data.faults import KEPT
from detector.images.pixels import write_picture
from detector.model.config import ProposalConfig
from detector.model.load import choose_device
from detector.recipes.build import load_splits
from detector.runs.folder import CONFIG_FILE, new_run_path, write_config
from detector.runs.leftovers import UNFINISHED
from detector.shown import one_line
from detector.strict_yaml import write_settings
from detector.training.pool import ImagePool
from detector.training.processes import Processes
from detector.training.proposal_choice import PICTURES, choose_proposals
from detector.training.region_batch import RegionBatch
from detector.training.region_trainer import Progress
from proposals.errors import UserError

RECIPE_FILE = "recipe.yaml"
SHEET_CROPS = 64


def say_once(line: str) -> None:
    """One line on standard error, from the first of several processes."""
    if os.environ.get("RANK", "0") == "0":
        say(line)


class RunFolder(NamedTuple):
    """The folder of a run, whether an interrupted one is in it, and whether a finished one."""

    path: Path
    resuming: bool = False
    finished: bool = False


def prepare_folder(out: Path | None, resume: Resume, verb: str, finished: str) -> RunFolder:
    """The run folder of ``verb``: new, or that of the run to resume, which ends by writing the file ``finished``.

    Raises:
        UserError: there is something at --out already, or nothing to resume.
    """
    folder = out or new_run_path(verb)
    if resume is not Resume.no:
        if (folder / finished).exists():
            if resume is Resume.auto:
                return RunFolder(folder, finished=True)
            raise UserError(f"{out}: this run is finished; choose another --out to train again")
        if (folder / RECIPE_FILE).is_file():
            return RunFolder(folder, resuming=True)
        if resume is Resume.must:
            raise UserError(
                f"{out}: no interrupted run to go on with (it has no {RECIPE_FILE}); "
                "leave --resume out, or say --resume auto"
            )
        if _hardly_begun(folder, verb):
            return RunFolder(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; choose another --out, or --resume to go on with an interrupted run")
    return RunFolder(folder)


def _hardly_begun(folder: Path, verb: str) -> bool:
    """Whether a run of ``verb`` died in :func:`begin_folder`: there is nothing but what that writes, and no recipe."""
    config = folder / CONFIG_FILE
    beginnings = {CONFIG_FILE, CONFIG_FILE + UNFINISHED, RECIPE_FILE + UNFINISHED}
    try:
        own = not config.exists() or config.read_bytes().startswith(f"verb: {verb}\n".encode())
        return own and {entry.name for entry in folder.iterdir()} <= beginnings
    except OSError:
        return False


def begin_folder(folder: Path, verb: str, recipe: BaseModel, seed: int) -> None:
    """Make the run folder; the recipe in it is what a resumed run goes by, so it is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / CONFIG_FILE, verb, recipe.model_dump(mode="json"), seed)
    write_settings(folder / RECIPE_FILE, recipe)


def check_same_recipe(folder: Path, recorded: BaseModel, asked: BaseModel) -> None:
    """UserError where --resume auto finds a run of another recipe than the one asked for."""
    if recorded != asked:
        old, new = recorded.model_dump(mode="json"), asked.model_dump(mode="json")
        other = next((key for key in new if old.get(key) != new[key]), "it")
        raise UserError(f"{folder}: has a run of another recipe ({other} differs); choose another --out")


def own_device(name: str, processes: Processes) -> torch.device:
    """The device of this process: of several on a machine, each takes a GPU of its own."""
    device = choose_device(name)
    if device.type == "cuda" and processes.count > 1:
        return choose_device(f"cuda:{processes.local_rank}")
    return device


def teller(processes: Processes) -> Callable[[str], None]:
    """What tells people a line: only one of several processes does."""
    return say if processes.writes else lambda line: None


def read_data(data: Path, splits: tuple[str, str] | None) -> tuple[Dataset, Dataset | None]:
    """The training and validation data; without a recipe whatever parts the data set has.

    Raises:
        UserError: they cannot be read.
    """
    if splits is not None:
        return load_splits(data, *splits)
    known = {name.rstrip("0123456789") or name for name in dataset_splits(data)} | set(dataset_splits(data))
    for train_split, val_split in (("train", "val"), ("trainval", "test"), ("train", "test"), ("train", "")):
        if known.issuperset(filter(None, (train_split, val_split))):  # a faulty one is told, not passed over
            return load_splits(data, train_split, val_split)
    return load_splits(data, "", "")


def load_pool(dataset: Dataset, tell: Callable[[str], None] = say) -> ImagePool:
    """The data set's images in memory, with a line for what had to be skipped."""
    pool = ImagePool.load(dataset)
    faults = [str(fault) for fault in dataset.faults if fault.effect != KEPT] + pool.skipped
    for fault in faults[:5]:
        tell(f"skipped: {fault}")
    if len(faults) > 5:
        tell(f"skipped: {len(faults) - 5} more; 'detector check-data' lists them all")
    if not pool.in_memory:
        tell("the images do not all fit in memory: some are read again whenever they are needed")
    return pool


def suited_proposals(train: Dataset, seed: int) -> ProposalConfig:
    """Where to look for objects of the size that ``train`` has: tried on some of its images.

    Raises:
        UserError: none of them has a usable object.
    """
    with_objects = np.flatnonzero(np.diff(train.offsets) > 0)
    some = np.random.default_rng([seed, 6]).permutation(with_objects)[: 2 * PICTURES]  # a few may be unreadable
    return choose_proposals(ImagePool.load(train.subset(np.sort(some))), seed).proposals


def save_sheet(batch: RegionBatch, names: tuple[str, ...], folder: Path) -> None:
    """``crops.png``: regions as they enter the net, if there are any, with their labels; ``names`` of the classes."""
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


@contextmanager
def show_progress(
    steps: int, describe: Callable[[Progress], tuple[str, bool]], shown: bool = True
) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, lines elsewhere; yields what takes each entry of the log.

    Each line ends with the time at which the run will be done at the rate so far.

    Args:
        steps: of the run. describe: an entry as a line, and whether a terminal should keep that line.
        shown: whether anything is shown at all.
    """
    console = Console(stderr=True, quiet=not shown)
    columns = (SpinnerColumn(), TextColumn("step {task.completed:.0f}/{task.total:.0f}"), BarColumn())
    first: list[float] = []  # step and time of the first entry since this process began: what came before is not known

    def ending(step: int) -> str:
        now = time.monotonic()
        if not first:
            first.extend([step, now])
            return ""
        rest = rate_and_end(step - first[0], steps - first[0], now - first[1], "step", datetime.datetime.now())
        return "" if ", ends " not in rest else rest[rest.index(", ends ") :]

    words = TextColumn("{task.description}", markup=False)
    with Bars(*columns, words, console=console, disable=not console.is_terminal or not shown) as bar:
        task = bar.add_task("", total=steps)

        def report(entry: Progress) -> None:
            line, keep = describe(entry)
            line = one_line(line + ending(entry.step))
            bar.update(task, completed=entry.step, description=line)
            if not console.is_terminal or keep:
                now = time.strftime("%H:%M:%S")
                text = Text(f"{now} step {entry.step}/{steps} epoch {entry.epoch:.2f}: {line}")
                bar.console.print(text, highlight=False, soft_wrap=True)

        yield report
