"""The ``train-localizer`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED, say


def train_localizer(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Annotated data set: VOC, COCO, ILSVRC DET, Tiny-ImageNet or YOLO.")
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A recipe with task: localizer, as in configs/.",
            show_default="go on from the bundled one",
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
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[auto]",
            help="Go on with the interrupted run in --out; auto: or begin one.",
            show_default="a new run",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="First weights: random, bundled, a localizer's folder or a model's.",
            show_default="the recipe's",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Batches to train.", show_default="the recipe's")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all chance.", show_default="the recipe's")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")] = 5.0,
) -> None:
    """Train a localizer, which says how well a region lies on an object and where the object lies.

    Its overlaps weigh the scores of detections, and its boxes take the regions' place. The classes are ignored. Ctrl-C
    and SIGTERM save a checkpoint first; --resume, with the same DATA, --out and --model, goes on from it.

    [bold]Example:[/bold] detector train-localizer photos/ --model my-model --out my-better-model
    """
    from detector.commands.train_common import read_resume, refuse_several_processes
    from detector.commands.train_localizer_run import LocalizerRequest, run_localizer_training
    from detector.training.denormals import flushed_denormals
    from detector.training.loop import Interrupted

    refuse_several_processes("a localizer")
    request = LocalizerRequest(
        data=data,
        config=config,
        out=out,
        model=model,
        resume=read_resume(resume),
        init=init,
        steps=steps,
        seed=seed,
        device=device,
        checkpoint_minutes=checkpoint_minutes,
    )
    try:
        with flushed_denormals():
            folder = run_localizer_training(request)
    except Interrupted as stopped:
        say(f"{stopped}; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None
    say(f"the localizer is in {folder}" if model is None else f"the model with the localizer is in {folder}")
