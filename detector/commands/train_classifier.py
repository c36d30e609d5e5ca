"""The ``train-classifier`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED
from detector.commands.resume import ResumeWord, read_resume


def train_classifier(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder of pictures for each class, with train/ and val/ above them or without; Tiny-ImageNet; or "
            "any annotated set, of which the pictures with objects of one class are taken.",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A recipe with task: classifier, as in configs/.", show_default="a small network"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to make.", show_default="runs/train-classifier-<date>-<time>"),
    ] = None,
    resume: ResumeWord = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Initial weights: random, bundled, torchvision, a model or classifier folder, or a .pth of "
            "torchvision's GoogLeNet.",
            show_default="the recipe's",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Number of training iterations.", show_default="the recipe's")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed.", show_default="the recipe's")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    micro_batch: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Examples per forward pass; gradients are accumulated.",
            show_default="what fits the memory",
        ),
    ] = None,
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")] = 5.0,
) -> None:
    """Train a network to name whole pictures; detection networks may begin from the result.

    Give the result to [bold]train --init[/bold], or measure it with [bold]evaluate --metric images --crops 10[/bold]
    (or 144). Ctrl-C and SIGTERM save a checkpoint first; --resume, with the same DATA and --out, goes on from it.

    [bold]Example:[/bold] detector train-classifier imagenet/ --out my-classifier
    """
    from detector.commands.train_classifier_run import run_classifier_training
    from detector.commands.train_common import say_once
    from detector.commands.train_run import TrainRequest
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
            folder = run_classifier_training(request)
    except Interrupted as stopped:
        say_once(f"{stopped}; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None
    say_once(f"the classifier is in {folder}")
