"""The ``train`` verb."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED, log_once
from detector.commands.options import Device, HelpAll, Recipe, ResumeWord, check_resume, rare


def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Annotated data set: VOC, COCO, ILSVRC DET or YOLO; for --recipe classifier also a folder of images "
            "for each class.",
        ),
    ],
    recipe: Annotated[
        Recipe | None,
        typer.Option(
            metavar="NAME",
            help="shared: a network on shared maps, in --minutes; multibox: MultiBox for the model of --init; "
            "finetune: R-CNN's fine-tuning, on crops; svm: R-CNN's SVMs on the features of the model of --init; "
            "paper: GoogLeNet's training; ensemble: several networks; classifier: for whole images.",
            show_default="shared",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Recipe file, such as those in configs/.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run and model folder to make.", show_default="runs/train-<date>-<time>"),
    ] = None,
    resume: ResumeWord = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Initial weights: random, bundled, small, torchvision, a model folder, or a published .caffemodel or "
            ".pth (docs/training.md).",
            show_default="the recipe's",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            help="Time budget; training iterations are planned from the machine's speed.",
            show_default="the recipe's",
        ),
    ] = None,
    steps: Annotated[
        int | None, rare("Recipe", "Number of training iterations.", min=1, show_default="the recipe's")
    ] = None,
    seed: Annotated[int | None, rare("Recipe", "Random seed.", min=0, show_default="the recipe's")] = None,
    members: Annotated[
        int | None, rare("Recipe", "Number of ensemble members.", min=1, show_default="the recipe's, or 6")
    ] = None,
    jobs: Annotated[
        int, rare("Speed and memory", "Ensemble members trained in parallel, on each GPU or on the CPU.", min=1)
    ] = 1,
    proposals: Annotated[
        Path, rare("Speed and memory", "Cache of proposals; trainings share it.", metavar="DIR")
    ] = Path("runs/proposals"),
    device: Device = "auto",
    micro_batch: Annotated[
        int | None,
        rare(
            "Speed and memory",
            "Examples per forward pass; gradients are accumulated.",
            min=2,
            show_default="what fits the memory",
        ),
    ] = None,
    checkpoint_minutes: Annotated[float, rare("Long runs", "Minutes between checkpoints.", min=0.0)] = 5.0,
    split: Annotated[
        str | None,
        rare(
            "Recipe",
            "Split to train on, such as train+val.",
            metavar="SPLIT",
            show_default="the recipe's, or the training part",
        ),
    ] = None,
    help_all: HelpAll = False,
) -> None:
    """Train a detector; the result is a model folder that detect and evaluate take as it is.

    Ctrl-C saves a checkpoint; the same command with --resume auto goes on from it.
    Started by torchrun, several processes share the work, one for each GPU.

    [bold]Example:[/bold] detector train photos/ --out my-model && detector detect new.jpg --model my-model
    """
    options = {name: value for name, value in locals().items() if name != "help_all"}
    from detector.commands.train_run import TrainRequest, run_training, task_of
    from detector.model.config import read_model_config
    from detector.training.gradients import flushed_denormals
    from detector.training.loop import Interrupted
    from proposals.errors import UserError

    if recipe is not None and config is not None:
        raise UserError("--recipe and --config: choose one of them; a file says which recipe it is")
    check_resume(resume, out)
    request = TrainRequest(**options)
    run, task = run_training, task_of(request)
    if task == "ensemble":
        from detector.commands.train_ensemble_run import run_ensemble_training as run
    elif jobs > 1:
        raise UserError("--jobs is for an ensemble, whose networks are trained side by side; leave it out")
    elif members is not None:
        raise UserError("--members is for --recipe ensemble; leave it out")
    elif task == "svm":
        from detector.commands.train_svm_run import run_svm_training as run
    try:
        with flushed_denormals():
            folder = run(request)
    except Interrupted as stopped:
        log_once(f"{stopped}; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None
    log_once(f"the model is in {folder}")
    if not read_model_config(folder).background:  # it names whole images
        return
    for words in (["detect", "IMAGES"], ["evaluate", "--data", "LABELLED_IMAGES"]):
        log_once("next: " + shlex.join(["detector", *words, "--model", str(folder)]))
