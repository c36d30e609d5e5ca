"""Writing a report: the page, and its pictures in a folder where asked."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from detector.evaluation.analysis_types import Evaluation
from detector.report.cases import gallery
from detector.report.html import render
from detector.report.pictures import embedded, in_folder
from detector.strict_yaml import write_whole
from proposals.errors import UserError

PAGE = "report.html"
UNFINISHED = ".unfinished"
# A page of 200 embedded thumbnails weighs about 8 MB; a folder of pictures costs the page nothing.
EMBEDDED_CASES, EMBEDDED_PICTURES = 400, 200
FOLDER_CASES = FOLDER_PICTURES = 5000


def write_report(evaluation: Evaluation, page: Path, *, config: str = "", pictures_in_folder: bool = False) -> None:
    """Write ``page``; nothing that exists is overwritten.

    While it is written there is ``<page>.unfinished``: where a kill has left that, the pictures are made again.

    Args:
        evaluation: with the paths of its pictures; one whose file is gone is shown as boxes alone.
        page: the HTML file. config: the run's, YAML text.
        pictures_in_folder: put the pictures into ``<page's name>-pictures`` beside the page and show up to
            ``FOLDER_PICTURES`` of them, larger; otherwise the ``EMBEDDED_PICTURES`` worst are inside the page.

    Raises:
        UserError: the page or its folder exists already, or cannot be written.
    """
    folder = page.with_name(f"{page.stem}-pictures") if pictures_in_folder else None
    unfinished = page.with_name(f"{page.name}{UNFINISHED}")
    going_on = unfinished.exists()  # the rest of a report that was killed; it stood alone when it was begun
    for target in (page, folder):
        if target is not None and target.exists() and (target == page or not going_on):
            raise UserError(f"{target}: exists already; name another page with --out, or remove it")
    cases, most = (FOLDER_CASES, FOLDER_PICTURES) if folder else (EMBEDDED_CASES, EMBEDDED_PICTURES)
    shown = gallery(evaluation, max_cases=cases, max_pictures=most)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        pictures = shown[0].values()
        sources = in_folder(pictures, folder) if folder else embedded(pictures)
        # Names of files that are not UTF-8 hold lone surrogates, which no encoding can write.
        write_whole(page, render(evaluation, shown, sources, config).encode("utf-8", "replace"))
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise UserError(f"{page}: cannot write the report: {error.strerror}; name another place with --out") from error
