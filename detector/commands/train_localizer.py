"""The ``train-localizer`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.resume import ResumeWord, read_resume
from detector.commands.train_part_options import CheckpointMinutes, Data, Device, Seed, Steps


def train_localizer(
    data: Data,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A recipe with task: localizer, as in configs/.",
            show_default="one on the bundled trunk",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to make.", show_default="runs/train-localizer-<date>-<time>"),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make --out a copy of this model directory that has the result."),
    ] = None,
    resume: ResumeWord = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Initial weights: random, bundled, a localizer folder or a model folder.",
            show_default="the recipe's",
        ),
    ] = None,
    proposals: Annotated[
        Path, typer.Option(metavar="DIR", help="Cache of proposals, for recipes that learn from them.")
    ] = Path("runs/proposals"),
    steps: Steps = None,
    seed: Seed = None,
    device: Device = "auto",
    checkpoint_minutes: CheckpointMinutes = 5.0,
) -> None:
    """Train a localizer, which says how well a region lies on an object and where the object lies.

    Its overlaps weigh the scores of detections, and its boxes take the regions' place, or the mean of its boxes and the
    model's own where all of that model's networks have box regression. The classes are ignored. Ctrl-C and SIGTERM save
    a checkpoint first; --resume, with the same DATA, --out and --model, goes on from it.

    [bold]Example:[/bold] detector train-localizer photos/ --model my-model --out my-better-model
    """
    from detector.commands.train_localizer_run import LocalizerRequest, run_localizer_training
    from detector.commands.train_part import run_part

    request = LocalizerRequest(
        data=data,
        config=config,
        out=out,
        model=model,
        resume=read_resume(resume, out),
        init=init,
        steps=steps,
        seed=seed,
        device=device,
        checkpoint_minutes=checkpoint_minutes,
        proposals=proposals,
    )
    run_part(lambda: run_localizer_training(request), "the localizer", model)
