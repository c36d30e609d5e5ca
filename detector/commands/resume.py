"""``--resume``: to go on where an earlier run stopped."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer

from detector.commands.console import tell
from proposals.errors import UserError


class Resume(str, Enum):
    """Whether a run goes on where an earlier one in its folder stopped."""

    no = "no"
    must = "must"
    auto = "auto"


def read_resume(value: str | None, out: Path | None) -> Resume:
    """What ``--resume``, alone or with a word behind it, means; ``None`` where it was not given.

    Raises:
        UserError: another word, or no ``out`` to go on in.
    """
    if value is None:
        return Resume.no
    if value not in (Resume.must.value, Resume.auto.value):
        raise UserError(f"--resume {value}: leave the word out, or say auto")
    if out is None:
        raise UserError("--resume needs --out: the folder of the run to go on with")
    return Resume(value)


def may_go_on(resume: str | None, out: Path | None) -> bool:
    """Whether the run takes up an interrupted one in ``out`` if there is one; said before any slow work.

    Raises:
        UserError: ``out`` holds something, or with ``--resume`` alone nothing to go on with.
        typer.Exit: with ``--resume auto``, the run is finished.
    """
    from detector.runs.folder import CONFIG_FILE, interrupted_run, refuse_occupied

    how = read_resume(resume, out)
    if how is Resume.no or out is None:
        refuse_occupied(out)
        return False
    if (out / CONFIG_FILE).is_file():
        if how is Resume.must:
            raise UserError(f"{out}: this run is finished; name another --out")
        tell(f"{out}: this run is finished")
        raise typer.Exit()
    if interrupted_run(out) is None:
        if how is Resume.must:
            raise UserError(f"{out}: no interrupted run to go on with; leave --resume out, or say --resume auto")
        refuse_occupied(out)
    return True
