"""``--help`` with the common options, ``--help-all`` with all of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer


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
