"""One HTML file that needs nothing else: style, scripts, data and pictures are inside.

Its templates are those of ``assets/``, in which Jinja escapes every text. A content security policy allows the page's
own scripts by their hash and nothing from the network, so that even a hole in the escaping would run nothing.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from detector.evaluation.analysis_types import Evaluation
from detector.report import sections
from detector.report.cases import Gallery
from detector.report.page_data import page_data, picture_data
from detector.report.palette import HUES, hex_colour
from detector.report.pictures import Sources

SCRIPTS = ("base.js", "table.js", "chart.js", "curves.js", "shares.js", "confusion.js", "viewer.js", "gallery.js")
"""Concatenated in this order into one script."""


def render(evaluation: Evaluation, shown: Gallery, sources: Sequence[Sources], config: str = "") -> str:
    """The page as text.

    Args:
        shown: the gallery. sources: where the page finds each of its pictures. config: of the run, as YAML text.
    """
    result, errors, info = evaluation.result, evaluation.errors, evaluation.info
    pictures, cases = shown
    script = _script()
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


def _script() -> str:
    body = "\n".join(_asset(name) for name in SCRIPTS)
    return f'"use strict";(() => {{\n{body}\n}})();\n'


def _asset(name: str) -> str:
    return resources.files("detector.report").joinpath("assets", name).read_text(encoding="utf-8")
