"""The ``reproduce`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED, log, print_line
from detector.commands.options import Device


def reproduce(
    experiment: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Model folder, experiment file, or the name of one in configs/."),
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Annotated data set.")],
    pretraining_data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Data of the pre-training: a folder for each class.", show_default="DATA"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the experiment; run again to go on.", show_default="runs/<NAME>"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split to measure on.", show_default="the experiment's, or val")
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only measure the first N images.")] = None,
    device: Device = "auto",
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")] = 5.0,
    jobs: Annotated[int, typer.Option(min=1, help="Members trained, and images measured, in parallel.")] = 1,
    measure_part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only measure part I of N of the images.", show_default="everything"),
    ] = None,
) -> None:
    """Repeat a whole experiment, from the data to its tables.

    Of a model folder it measures the paper's comparisons: its networks alone and together, and each part left out. Of
    an experiment's file it trains first what it names. Writes [bold]table.md[/bold] and [bold]table.csv[/bold].
    Whatever is finished is never done again: after an interruption run the same command.

    [bold]Example:[/bold] detector reproduce my-model --data VOCdevkit
    """
    from detector.commands.reproduce_run import run_experiment
    from detector.commands.train_run import TrainRequest
    from detector.training.loop import Interrupted

    request = TrainRequest(
        data, out=out, resume="auto", device=device, checkpoint_minutes=checkpoint_minutes, jobs=jobs
    )
    try:
        measured = {name: value for name, value in (("split", split), ("first", first)) if value is not None}
        table = run_experiment(experiment, request, pretraining_data, measure_part, measured)
    except Interrupted as stopped:
        log(f"{stopped}; run the same command to go on")
        raise typer.Exit(INTERRUPTED) from None
    if table is not None:
        for line in table.read_text(encoding="utf-8").splitlines():
            print_line(line)
        log(f"the tables are in {table.parent}")
