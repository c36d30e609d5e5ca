"""What the training verbs share: the run folder, the data, and the progress they show."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from detector.build import load_splits
from detector.commands.console import say
from detector.data import Dataset
from detector.data.faults import KEPT
from detector.run_folder import new_run_path
from detector.training.pool import ImagePool
from proposals.errors import UserError

RECIPE_FILE = "recipe.yaml"
Entry = TypeVar("Entry", bound=BaseModel)


def prepare_folder(out: Path | None, resume: bool, verb: str, finished: str) -> Path:
    """The run folder of ``verb``: new, or that of the run to resume, which ends by writing the file ``finished``.

    Raises:
        UserError: there is something at --out already, or nothing to resume.
    """
    if resume:
        if out is None:
            raise UserError("--resume needs --out: the folder of the run to go on with")
        if (out / finished).exists():
            raise UserError(f"{out}: this run is finished; choose another --out to train again")
        if not (out / RECIPE_FILE).is_file():
            raise UserError(f"{out}: no interrupted run to go on with (it has no {RECIPE_FILE})")
        return out
    folder = out or new_run_path(verb)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; choose another --out, or --resume to go on with an interrupted run")
    return folder


def read_data(data: Path, splits: tuple[str, str] | None) -> tuple[Dataset, Dataset | None]:
    """The training and validation data; without a recipe whatever parts the data set has."""
    if splits is None:
        recipe_splits = [("train", "val"), ("trainval", "test"), ("train", "test"), ("train", ""), ("", "")]
    else:
        recipe_splits = [splits]
    fault: UserError | None = None
    for train_split, val_split in recipe_splits:
        try:
            return load_splits(data, train_split, val_split)
        except UserError as error:
            fault = error
    assert fault is not None
    raise fault


def load_pool(dataset: Dataset) -> ImagePool:
    """The data set's pictures in memory, with a line for what had to be skipped."""
    pool = ImagePool.load(dataset)
    faults = [str(fault) for fault in dataset.faults if fault.effect != KEPT] + pool.skipped
    for fault in faults[:5]:
        say(f"skipped: {fault}")
    if len(faults) > 5:
        say(f"skipped: {len(faults) - 5} more; 'detector check-data' lists them all")
    return pool


@contextmanager
def show_progress(steps: int, describe: Callable[[Entry], tuple[str, bool]]) -> Iterator[Callable[[Entry], None]]:
    """A progress bar on a terminal, lines elsewhere; yields what takes each entry of the log.

    Args:
        steps: of the run. describe: an entry as a line, and whether a terminal should keep that line.
    """
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("step {task.completed:.0f}/{task.total:.0f}"), BarColumn())
    with Progress(
        *columns, TextColumn("{task.description}"), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=steps)

        def report(entry: Entry) -> None:
            line, keep = describe(entry)
            step, epoch = entry.model_dump()["step"], entry.model_dump()["epoch"]
            bar.update(task, completed=step, description=line)
            if not console.is_terminal or keep:
                now = time.strftime("%H:%M:%S")
                bar.console.print(f"{now} step {step}/{steps} epoch {epoch:.2f}: {line}", highlight=False)

        yield report
