"""Writing a report: one HTML file that needs nothing else, or with its pictures in a folder where asked.

Its templates are those of ``assets/``, in which Jinja escapes every text. A content security policy allows the page's
own scripts by their hash and nothing from the network, so that even a hole in the escaping would run nothing.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from detector.evaluation.analysis_types import Evaluation
from detector.report import sections
from detector.report.page_data import Gallery, gallery, page_data, picture_data
from detector.report.palette import HUES, hex_colour
from detector.report.pictures import Sources, embedded, in_folder
from detector.strict_yaml import write_whole
from proposals.errors import UserError

PAGE = "report.html"
UNFINISHED = ".unfinished"
# A page of 200 embedded thumbnails weighs about 8 MB; a folder of pictures costs the page nothing.
EMBEDDED_CASES, EMBEDDED_PICTURES = 400, 200
FOLDER_CASES = FOLDER_PICTURES = 5000
SCRIPTS = ("base.js", "table.js", "chart.js", "curves.js", "shares.js", "confusion.js", "viewer.js", "gallery.js")
"""Concatenated in this order into one script."""


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


def render(evaluation: Evaluation, shown: Gallery, sources: Sequence[Sources], config: str = "") -> str:
    """The page as text.

    Args:
        shown: the gallery. sources: where the page finds each of its pictures. config: of the run, as YAML text.
    """
    result, errors, info = evaluation.result, evaluation.errors, evaluation.info
    pictures, cases = shown
    script = "\n".join(('"use strict";(() => {', *map(_asset, SCRIPTS), "})();\n"))
    kinds, headlines = sections.error_kinds(errors), sections.headlines(result)
    there = {
        "overview": "Overview",
        "classes": result.classes and "Classes",
        "errors": "Where the points go",
        "found": "What is found",
        "confusion": evaluation.confusion.matrix.any() and "Confusion",
        "gallery": cases and "Gallery",
        "counted": "What was counted",
        "run": (info.get("command") or config) and "Run",
    }
    return fill(
        "report.html",
        sections={key: title for key, title in there.items() if title},
        title=info.get("data") or "Evaluation",
        subtitle=info.get("model") or info.get("detections") or "",
        facts=sections.facts(result, info),
        headlines=headlines,
        summary=sections.summary(headlines[0], result.classes, kinds),
        classes=sections.class_rows(result, errors, kinds),
        at_iou=f"at IoU {errors.iou_threshold:.2f}",
        errors=errors,
        kinds=kinds,
        calibration=evaluation.calibration,
        confusion=evaluation.confusion,
        counted=sections.counted(result.counts),
        command=info.get("command", ""),
        config=config,
        script=script,
        digest=b64encode(sha256(script.encode()).digest()).decode(),
        data=page_data(evaluation, shown),
        pictures=picture_data(evaluation, pictures, sources),
    )


def fill(template: str, **values: Any) -> str:
    """A page from the template of that name in ``assets/``; ``style`` is the look of all pages."""
    hues = "".join(f"--hue-{i}:{hex_colour(c)};" for i, c in enumerate(HUES))
    style = f":root{{{hues}}}\n{_asset('report.css')}"
    return _environment().get_template(template).render(style=style, **values).lstrip()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("detector.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.tests["known"] = math.isfinite
    environment.filters["points"] = sections.points
    environment.filters["thousands"] = "{:,}".format
    environment.filters["percent"] = lambda fraction: f"{100 * max(0.0, fraction):.2f}"  # 0 where it is not defined
    environment.filters["key"] = lambda value: f"{value:.6g}" if math.isfinite(value) else ""  # that a column sorts by
    return environment


def _asset(name: str) -> str:
    return resources.files("detector.report").joinpath("assets", name).read_text(encoding="utf-8")
