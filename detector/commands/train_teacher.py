"""The ``train-teacher`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED
from detector.commands.resume import ResumeWord, read_resume
from detector.commands.train_part_options import CheckpointMinutes, Data, Device, Seed, Steps


def train_teacher(
    data: Data,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A recipe with task: teacher, as in configs/.",
            show_default="one for the bundled model's crops",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to make.", show_default="runs/train-teacher-<date>-<time>"),
    ] = None,
    resume: ResumeWord = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Initial weights: a file of EfficientNet-Lite0's published ones, a teacher folder, or random.",
            show_default="the recipe's",
        ),
    ] = None,
    steps: Steps = None,
    seed: Seed = None,
    device: Device = "auto",
    micro_batch: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Examples per forward pass; gradients are accumulated.",
            show_default="what fits the memory",
        ),
    ] = None,
    checkpoint_minutes: CheckpointMinutes = 5.0,
) -> None:
    """Tune a larger network of published weights, for detection networks to learn from.

    Name the result as [bold]teacher[/bold] in a recipe of [bold]train[/bold]; it does not detect by itself. Ctrl-C and
    SIGTERM save a checkpoint first; --resume, with the same DATA and --out, goes on from it.

    [bold]Example:[/bold] detector train-teacher my-data/ --init efficientnet-lite0.pth --out my-teacher
    """
    from detector.commands.train_common import say_once
    from detector.commands.train_run import TrainRequest
    from detector.commands.train_teacher_run import run_teacher_training
    from detector.training.denormals import flushed_denormals
    from detector.training.loop import Interrupted

    request = TrainRequest(
        data=data,
        config=config,
        out=out,
        resume=read_resume(resume, out),
        init=init,
        steps=steps,
        seed=seed,
        device=device,
        micro_batch=micro_batch,
        checkpoint_minutes=checkpoint_minutes,
    )
    try:
        with flushed_denormals():
            folder = run_teacher_training(request)
    except Interrupted as stopped:
        say_once(f"{stopped}; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None
    say_once(f"the teacher is in {folder}")
