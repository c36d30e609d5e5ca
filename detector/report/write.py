"""Writing a report: the page, its numbers as JSON and CSV, and its pictures in a folder where asked."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from detector.evaluation.analysis_types import Evaluation
from detector.report.collect import collect
from detector.report.html import render
from detector.report.pictures import embedded, in_folder
from detector.report.tables import csv_text, numbers
from detector.strict_yaml import write_whole
from proposals.errors import UserError

PAGE = "report.html"
UNFINISHED = ".unfinished"
# A page of 200 embedded thumbnails weighs about 8 MB; a folder of pictures costs the page nothing.
EMBEDDED_CASES, EMBEDDED_PICTURES = 400, 200
FOLDER_CASES = FOLDER_PICTURES = 5000


@dataclass(frozen=True, slots=True)
class Written:
    """The files of one report; ``pictures`` is None where they are inside the page."""

    page: Path
    json: Path
    csv: Path
    pictures: Path | None


def write_report(
    evaluation: Evaluation,
    page: Path,
    *,
    config: str = "",
    pictures_in_folder: bool = False,
) -> Written:
    """Write ``page`` and, beside it under the same name, ``.json`` and ``.csv``; nothing that exists is overwritten.

    While it is written there is ``<page>.unfinished``: where a kill has left that, the files beside it are made again.

    Args:
        evaluation: with the paths of its pictures; one whose file is gone is shown as boxes alone.
        page: the HTML file. config: the run's, YAML text.
        pictures_in_folder: put the pictures into ``<page's name>-pictures`` beside the page and show up to
            ``FOLDER_PICTURES`` of them, larger; otherwise the ``EMBEDDED_PICTURES`` worst are inside the page.

    Raises:
        UserError: one of the files exists already, or cannot be written; the page has the name of its numbers.
    """
    if page.suffix.lower() in (".json", ".csv"):
        raise UserError(f"{page}: the numbers beside the page get this name; name the page with --out {page.stem}.html")
    folder = page.with_name(f"{page.stem}-pictures") if pictures_in_folder else None
    written = Written(page, page.with_suffix(".json"), page.with_suffix(".csv"), folder)
    unfinished = page.with_name(f"{page.name}{UNFINISHED}")
    going_on = unfinished.exists()  # the rest of a report that was killed; it stood alone when it was begun
    for target in (written.page, written.json, written.csv, folder):
        if target is not None and target.exists() and (target == page or not going_on):
            raise UserError(f"{target}: exists already; name another page with --out, or remove it")
    limits = (FOLDER_CASES, FOLDER_PICTURES) if folder else (EMBEDDED_CASES, EMBEDDED_PICTURES)
    report = collect(evaluation, config=config, max_cases=limits[0], max_pictures=limits[1])
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        pictures = report.pictures.values()
        sources = in_folder(pictures, folder) if folder else embedded(pictures)
        write_whole(written.json, json.dumps(numbers(report), ensure_ascii=True, allow_nan=False, indent=1))
        # Names of files that are not UTF-8 hold lone surrogates, which no encoding can write.
        write_whole(written.csv, csv_text(report).encode("utf-8", "replace"))
        write_whole(page, render(report, sources).encode("utf-8", "replace"))  # last: in the place of ``unfinished``
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for path in (written.json, written.csv, unfinished):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise UserError(f"{page}: cannot write the report: {error.strerror}; name another place with --out") from error
    return written
