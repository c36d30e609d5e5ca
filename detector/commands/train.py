"""The ``train`` verb."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import INTERRUPTED, say
from detector.commands.help_all import HelpAll
from detector.commands.resume import Resume, ResumeWord, read_resume

NO_JOBS = "--jobs is for an ensemble, whose networks are trained side by side; leave it out"


class RecipeName(str, Enum):
    """The recipes that have a name; see docs/training.md."""

    head = "head"
    shared = "shared"
    finetune = "finetune"
    paper = "paper"
    ensemble = "ensemble"
    classifier = "classifier"
    teacher = "teacher"


class HeadName(str, Enum):
    """Classifiers of the head recipe; see docs/training_head.md."""

    svm = "svm"
    softmax = "softmax"


def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Annotated data set: VOC, COCO, ILSVRC DET, Tiny-ImageNet or YOLO; for --recipe classifier also a "
            "folder of images for each class.",
        ),
    ],
    recipe: Annotated[
        RecipeName | None,
        typer.Option(
            metavar="NAME",
            help="head: ten minutes on a CPU; shared: on shared maps, in --minutes; finetune: R-CNN's; paper: "
            "GoogLeNet's training; ensemble: several networks; classifier: of whole images, for --init; teacher: a "
            "larger network for distillation.",
            show_default="head",
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
            help="Initial weights: random, bundled, torchvision, a model folder, or a .pth of torchvision's "
            "GoogLeNet (--recipe teacher: of EfficientNet-Lite0).",
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
        int | None,
        typer.Option(
            min=1, help="Number of training iterations.", show_default="the recipe's", rich_help_panel="Recipe"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed.", show_default="the recipe's", rich_help_panel="Recipe")
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of ensemble members.", show_default="the recipe's, or 6", rich_help_panel="Recipe"
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Ensemble members trained in parallel, on each GPU or on the CPU.",
            rich_help_panel="Speed and memory",
        ),
    ] = 1,
    proposals: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Cache of proposals, as detector propose makes.", rich_help_panel="Speed and memory"
        ),
    ] = Path("runs/proposals"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    micro_batch: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Examples per forward pass; gradients are accumulated.",
            show_default="what fits the memory",
            rich_help_panel="Speed and memory",
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0.0, help="Minutes between checkpoints.", rich_help_panel="Long runs")
    ] = 5.0,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT",
            help="Split to train on, such as train+val.",
            show_default="the recipe's, or the training part",
            rich_help_panel="Recipe",
        ),
    ] = None,
    head: Annotated[
        HeadName | None,
        typer.Option(
            help="Classifier of the head recipe.", show_default="the recipe's, softmax", rich_help_panel="Recipe"
        ),
    ] = None,
    cache: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Cache of features and tuned trunks, for the head recipe.",
            rich_help_panel="Speed and memory",
        ),
    ] = Path("runs/features"),
    help_all: HelpAll = False,
) -> None:
    """Train a region classifier; the result is a model folder that detect and evaluate take as it is.

    Ctrl-C saves a checkpoint; the same command with --resume goes on from it.
    Started by torchrun, several processes share the work, one for each GPU.

    [bold]Example:[/bold] detector train photos/ --out my-model && detector detect new.jpg --model my-model
    """
    from detector.commands.train_common import RECIPE_FILE, refuse_several_processes, say_once
    from detector.commands.train_ensemble_run import run_ensemble_training, wants_ensemble
    from detector.commands.train_head_run import HeadRequest, run_head_training, wants_head
    from detector.commands.train_run import TrainRequest, run_training
    from detector.recipes.defaults import Recipe
    from detector.training.denormals import flushed_denormals
    from detector.training.loop import Interrupted
    from proposals.errors import UserError

    if recipe is not None and config is not None:
        raise UserError("--recipe and --config: choose one of them; a file says which recipe it is")
    going_on = read_resume(resume, out)
    begun = out is not None and (out / RECIPE_FILE).is_file()
    if recipe is None and config is None and (going_on is Resume.no or (going_on is Resume.auto and not begun)):
        recipe = RecipeName.head if minutes is None else RecipeName.shared
    if wants_head(None if recipe is None else recipe.value, config):
        if jobs > 1:
            raise UserError(NO_JOBS)
        if minutes is not None:
            raise UserError(
                "--minutes is for the other recipes: the head's stages take as long as they take; "
                "leave it out, or take --recipe shared"
            )
        refuse_several_processes("the head")
        if members is not None:
            raise UserError("--members is for --recipe ensemble; leave it out")
        asked = HeadRequest(
            data=data,
            config=config,
            out=out,
            resume=going_on,
            init=init,
            split=split,
            head=None if head is None else head.value,
            steps=steps,
            seed=seed,
            proposals=proposals,
            cache=cache,
            device=device,
            micro_batch=micro_batch,
            checkpoint_minutes=min(checkpoint_minutes, 1.0),
        )
        try:
            with flushed_denormals():
                folder = run_head_training(asked)
        except Interrupted as stopped:
            say(f"{stopped}; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
        say(f"the model is in {folder}")
        return
    if head is not None:
        raise UserError("--head is for --recipe head, which takes the folder of a tuned model as --init")
    request = TrainRequest(
        data=data,
        recipe=None if recipe is None else Recipe(recipe.value),
        config=config,
        out=out,
        resume=going_on,
        init=init,
        minutes=minutes,
        steps=steps,
        seed=seed,
        members=members,
        proposals=proposals,
        device=device,
        micro_batch=micro_batch,
        checkpoint_minutes=checkpoint_minutes,
        jobs=jobs,
        split=split,
    )
    if not wants_ensemble(request):
        if jobs > 1:
            raise UserError(NO_JOBS)
        if members is not None:
            raise UserError("--members is for --recipe ensemble; leave it out")
    try:
        with flushed_denormals():
            folder = run_ensemble_training(request) if wants_ensemble(request) else run_training(request)
    except Interrupted as stopped:
        say_once(f"{stopped}; go on with --resume")
        raise typer.Exit(INTERRUPTED) from None
    say_once(f"the model is in {folder}")
