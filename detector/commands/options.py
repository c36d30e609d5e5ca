"""Options that several verbs have, and the words that choices among them offer."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from detector.commands.console import print_line
from proposals.errors import UserError

OnError = Literal["fail", "skip"]  # what an image that cannot be read does to the run
OnFault = Literal["error", "skip"]  # what a faulty detection in a file does to the run
Metric = Literal["voc07", "voc10", "coco", "ilsvrc_det", "regions", "images"]  # the last two: of the networks alone
DetectionFile = Literal["jsonl", "csv", "coco", "voc", "ilsvrc_det"]


class Recipe(str, Enum):
    """What ``train --recipe`` takes; see docs/training.md."""

    shared = "shared"
    finetune = "finetune"
    multibox = "multibox"
    svm = "svm"
    paper = "paper"
    ensemble = "ensemble"
    classifier = "classifier"


MODELS_OWN = "the model's own"

Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:N.")]
ModelFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Model directory.", show_default="the bundled model")
]
MeasuredSplit = Annotated[
    str | None, typer.Option(metavar="SPLIT", help="Split of the data set.", show_default="val, or else test")
]


def results_option(verb: str) -> Any:
    """``--out``, the folder that ``verb`` makes."""
    return typer.Option(
        metavar="DIR", help="New or empty folder for the results.", show_default=f"runs/{verb}-<date>-<time>"
    )


def rare(panel: str | None, help: str, *names: str, **more: Any) -> Any:
    """An option in this ``panel`` of the help, which of verbs with ``--help-all`` only that shows."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def members_option(panel: str | None = None) -> Any:
    """``--members``."""
    return rare(panel, "Use only the model's first N networks; fewer are faster.", min=1, show_default="all")


def looks_option(panel: str | None = None) -> Any:
    """``--looks``."""
    text = "Classify regions N times, from the second on those that moved; 1 is fastest."
    return rare(panel, text, min=1, max=10, metavar="N", show_default=MODELS_OWN)


def side_option(panel: str | None = None, default: str = MODELS_OWN) -> Any:
    """``--search-side``."""
    text = "Resize the longer side to N pixels for proposal search; smaller is faster."
    return rare(panel, text, min=16, metavar="PIXELS", show_default=default)


def image_side_option(panel: str | None = None) -> Any:
    """``--image-side``."""
    text = "Resize the longer side to N pixels for networks on shared maps; smaller is faster."
    return rare(panel, text, min=32, metavar="PIXELS", show_default=MODELS_OWN)


OnErrorWord = Annotated[
    OnError, rare("Long runs", "If an image or a video frame cannot be read: fail, or skip it and exit with code 3.")
]
ResumeWord = Annotated[
    str | None,
    rare(
        "Long runs",
        "Resume the interrupted run in --out; auto: or start one.",
        metavar="[auto]",
        show_default="a new run",
    ),
]
ShardWord = Annotated[
    str | None,
    rare(
        "Long runs",
        "Process only the i-th of N parts of the list, i from 1; detector merge joins the parts.",
        metavar="i/N",
        show_default="all of it",
    ),
]


def check_resume(resume: str | None, out: Path | None) -> None:
    """UserError where ``--resume`` (which alone is "must") has another word than "auto", or no ``out`` to go on in."""
    if resume not in (None, "must", "auto"):
        raise UserError(f"--resume {resume}: leave the word out, or say auto")
    if resume is not None and out is None:
        raise UserError("--resume needs --out: the folder of the run to go on with")


def may_go_on(resume: str | None, out: Path | None) -> bool:
    """Whether the run takes up an interrupted one in ``out`` if there is one; said before any slow work.

    Raises:
        UserError: ``out`` holds something, or with ``--resume`` alone nothing to go on with.
        typer.Exit: with ``--resume auto``, the run is finished.
    """
    from detector.runs.folder import CONFIG_FILE, interrupted_run, refuse_occupied

    check_resume(resume, out)
    if resume is None or out is None:
        refuse_occupied(out)
        return False
    if (out / CONFIG_FILE).is_file():
        if resume == "must":
            raise UserError(f"{out}: this run is finished; name another --out")
        print_line(f"{out}: this run is finished")
        raise typer.Exit()
    if interrupted_run(out) is None:
        if resume == "must":
            raise UserError(f"{out}: no interrupted run to go on with; leave --resume out, or say --resume auto")
        refuse_occupied(out)
    return True


# --- the short help


def _show(ctx: typer.Context, value: bool) -> None:
    if value:
        ctx.meta[__name__] = True
        typer.echo(ctx.get_help(), nl=False)
        raise typer.Exit


HelpAll = Annotated[bool, typer.Option("--help-all", is_eager=True, callback=_show, help="Show all options and exit.")]
"""A verb with this option shows those that have a panel only when it is given."""


def hide_rare(command: Any, ctx: typer.Context) -> None:
    """Hide the options with a panel from the help of ``command`` where the common ones are asked for."""
    if ctx.meta.get(__name__) or not any(param.name == "help_all" for param in command.params):
        return
    rare = [param for param in command.params if param.rich_help_panel]
    for param in rare:
        param.hidden = True
    command.epilog = f"{len(rare)} more options: {ctx.command_path} --help-all"
