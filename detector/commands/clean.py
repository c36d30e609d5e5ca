"""``detector clean``: remove what killed and failed runs have left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands.console import FAILED, log, print_line

if TYPE_CHECKING:
    from detector.runs.leftovers import Leftover


def clean(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DIR]...",
            help="Where to look, also in the folders in it, or an unfinished folder.",
            show_default=".",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove them without asking.")] = False,
) -> None:
    """Remove the unfinished folders that killed or failed runs have left.

    A run works in [bold]<out>.unfinished[/bold]. What is left of it after a kill or a failure is
    listed and, once you agree, removed with all that it holds. Only folders that
    a run of this toolkit has marked are touched, and none that a live process writes.

    [bold]Example:[/bold] detector clean runs --yes
    """
    from detector.runs.leftovers import find_leftovers, remove

    found = {leftover.path.resolve(): leftover for folder in folders or [Path()] for leftover in find_leftovers(folder)}
    leftovers = [leftover for leftover in found.values() if not leftover.alive]
    for leftover in found.values():
        print_line(f"{in_words(leftover)}{', kept: a run may still be writing it' * leftover.alive}")
    if not leftovers:
        print_line("nothing to remove")
        return
    what = "this folder" if len(leftovers) == 1 else f"these {len(leftovers)} folders"
    if not yes and not typer.confirm(f"Remove {what}?"):
        print_line("nothing was removed")
        return
    removed = 0
    for leftover in leftovers:
        try:
            removed += remove(leftover)
        except OSError as error:
            log(f"error: {leftover.path}: cannot be removed: {error.strerror}")
    print_line(f"{removed} removed")
    raise typer.Exit(0 if removed == len(leftovers) else FAILED)


def in_words(leftover: Leftover) -> str:
    """``runs/a.unfinished, detect, begun 2026-01-31 12:00:00, 1.5 MB``."""
    return f"{leftover.path}, {leftover.verb}, begun {leftover.begun}, {leftover.size / 1e6:.1f} MB"
