"""``detector report``: the page that shows where a detector fails, from a run of ``detector evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import print_line
from proposals.errors import UserError

EVALUATION = "evaluation.json"


def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder of detector evaluate, or its evaluation.json.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page to write; it must not exist.", show_default="RUN/report.html"),
    ] = None,
    pictures_in_folder: Annotated[
        bool,
        typer.Option(
            "--pictures-in-folder",
            help="Put the images into a folder beside the page: more of them, larger, and a light page. "
            "By default everything is in one file.",
        ),
    ] = False,
) -> None:
    """Write a report: one HTML file that opens offline.

    Headline numbers with intervals, a table of the classes, precision-recall curves, where the points are lost, the
    confusion matrix, and a gallery of the worst mistakes with their objects, detections and proposals.

    [bold]Example:[/bold] detector report runs/evaluate-20260314-101530
    """
    file = run / EVALUATION if run.is_dir() else run
    if not file.is_file():
        raise UserError(f"{file}: not found; name a run folder that detector evaluate has made")

    from detector.evaluation.analysis_types import Evaluation
    from detector.report.write import PAGE, write_report
    from detector.runs.folder import CONFIG_FILE

    try:
        evaluation = Evaluation.load(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: not a result of detector evaluate ({error}); run it again") from error
    config = file.with_name(CONFIG_FILE)
    page = out if out is not None else file.with_name(PAGE)
    write_report(
        evaluation,
        page,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        pictures_in_folder=pictures_in_folder,
    )
    print_line(f"{page}: open it in a browser")
