"""The ``train`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED, say


def train(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Annotated data set: VOC, COCO, ILSVRC DET, Tiny-ImageNet or YOLO.")
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A recipe, as those in configs/.", show_default="fine-tune the bundled network"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run and model folder to make.", show_default="runs/train-<date>-<time>"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="First weights: random, bundled, torchvision, a model folder, or a .pth of torchvision's GoogLeNet.",
            show_default="the recipe's",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Batches to train.", show_default="the recipe's")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all chance.", show_default="the recipe's")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")] = 5.0,
) -> None:
    """Train a region classifier; the result is a model folder that detect and evaluate take as it is.

    Ctrl-C and SIGTERM save a checkpoint first; --resume, with the same DATA and --out, goes on from it.

    [bold]Example:[/bold] detector train photos/ --out my-model && detector detect new.jpg --model my-model
    """
    from detector.commands.train_run import TrainRequest, run_training
    from detector.training.loop import Interrupted

    request = TrainRequest(
        data=data,
        config=config,
        out=out,
        resume=resume,
        init=init,
        steps=steps,
        seed=seed,
        device=device,
        checkpoint_minutes=checkpoint_minutes,
    )
    try:
        folder = run_training(request)
    except Interrupted as stopped:
        say(f"{stopped}; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None
    say(f"the model is in {folder}")
