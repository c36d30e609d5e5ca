"""The ``train-multibox`` verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED
from detector.commands.resume import ResumeWord, read_resume

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Annotated data set: VOC, COCO, ILSVRC DET, Tiny-ImageNet or YOLO.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Number of training iterations.", show_default="the recipe's")]
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed.", show_default="the recipe's")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CheckpointMinutes = Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")]


def train_multibox(
    data: Data,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A recipe with task: multibox, as in configs/.", show_default="a small global head"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to make.", show_default="runs/train-multibox-<date>-<time>"),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make --out a copy of this model directory that proposes with the result."),
    ] = None,
    resume: ResumeWord = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Initial weights of the trunk: random, bundled, or a model folder.",
            show_default="the recipe's",
        ),
    ] = None,
    priors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Box priors, in the toolkit's format or google/multibox's.",
            show_default="the recipe's, or fitted to the data",
        ),
    ] = None,
    steps: Steps = None,
    seed: Seed = None,
    device: Device = "auto",
    checkpoint_minutes: CheckpointMinutes = 5.0,
) -> None:
    """Train MultiBox, which proposes boxes at once where selective search has to group superpixels.

    The classes are ignored. Ctrl-C and SIGTERM save a checkpoint first; --resume, with the same DATA, --out and
    --model, goes on from it. Under torchrun, several processes share the work, one for each GPU.

    [bold]Example:[/bold] detector train-multibox photos/ --model my-model --out my-merged-model
    """
    from detector.commands.train_common import say_once
    from detector.commands.train_multibox_run import MultiBoxRequest, run_multibox_training
    from detector.model.config import read_detector_config
    from detector.training.denormals import flushed_denormals
    from detector.training.loop import Interrupted

    request = MultiBoxRequest(
        data=data,
        config=config,
        out=out,
        model=model,
        resume=read_resume(resume, out),
        init=init,
        priors=priors,
        steps=steps,
        seed=seed,
        device=device,
        checkpoint_minutes=checkpoint_minutes,
    )
    if model is not None:
        read_detector_config(model)  # before the hours, not after them
    try:
        with flushed_denormals():
            folder = run_multibox_training(request)
    except Interrupted as stopped:
        say_once(f"{stopped}; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None
    say_once(f"MultiBox is in {folder}" if model is None else f"the model with MultiBox is in {folder}")
