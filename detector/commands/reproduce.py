"""The ``reproduce`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED, say, tell


def reproduce(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A file like those in configs/, or the name of one: tiny-imagenet, googlenet-ilsvrc14."
        ),
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The annotated data set.")],
    pretraining_data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Of the pre-training, if there is one: a folder for each class.", show_default="DATA"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the whole experiment; run again to go on.", show_default="runs/<NAME>"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")] = 5.0,
    jobs: Annotated[int, typer.Option(min=1, help="Members trained, and images measured, in parallel.")] = 1,
    measure_part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Of an experiment that is trained: only look at part I of N of the pictures; on other machines, too.",
            show_default="everything",
        ),
    ] = None,
) -> None:
    """Repeat a whole experiment, from the data to its tables.

    Trains what the experiment's file names (pre-training, ensembles, MultiBox), measures every variant on every
    picture, and writes [bold]table.md[/bold], [bold]table.csv[/bold] and [bold]classification.csv[/bold]. Whatever
    is finished is never done again: after an interruption run the same command.

    [bold]Example:[/bold] detector reproduce tiny-imagenet --data data/tiny-imagenet-200
    """
    from detector.commands.reproduce_measure import Part
    from detector.commands.reproduce_run import run_experiment, run_measure_part
    from detector.training.loop import Interrupted

    if measure_part is not None:
        run_measure_part(experiment, data, out, device, Part.read(measure_part))
        return
    try:
        table = run_experiment(experiment, data, pretraining_data, out, device, checkpoint_minutes, jobs)
    except Interrupted as stopped:
        say(f"{stopped}; run the same command to go on")
        raise typer.Exit(INTERRUPTED) from None
    for line in table.read_text(encoding="utf-8").splitlines():
        tell(line)
    say(f"the tables are in {table.parent}")
