"""One HTML file that needs nothing else: style, scripts, data and pictures are inside.

A content security policy allows the page's own scripts by their hash and nothing from the network, so that even a hole
in the escaping would run nothing.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib import resources

from detector.report import sections
from detector.report.content import Report, known
from detector.report.markup import Markup, element, json_block
from detector.report.page_data import page_data, picture_data
from detector.report.palette import HUES, hex_colour
from detector.report.pictures import Sources
from detector.report.tables import csv_text, numbers

SCRIPTS = ("base.js", "table.js", "chart.js", "curves.js", "shares.js", "confusion.js", "viewer.js", "gallery.js")
"""Concatenated in this order into one script."""


def render(report: Report, sources: Sequence[Sources]) -> str:
    """The page as text.

    Args:
        report: at least one headline. sources: where the page finds each of ``report.pictures``.
    """
    if not report.headlines:
        raise ValueError("a report needs at least one headline number")
    script = _script()
    digest = b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: file: 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = [
        sections.overview(report),
        sections.classes(report) if report.classes else None,
        sections.errors(report),
        _drawn(report),
        _confusion(report),
        _gallery(report),
        sections.counted(report.counted),
        sections.run(report),
    ]
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", f"{report.title} – detection report"),
            element("style", Markup(style())),
        ),
        element(
            "body",
            element("a", "Skip to the numbers", href="#overview", class_="skip"),
            _bar(parts),
            element("main", sections.header(report), parts),
            element("noscript", element("p", "Charts, sorting and the gallery need JavaScript.", class_="hint")),
            json_block("data", page_data(report)),
            element("script", Markup(script)),
            # The heavy parts come last: the numbers can be read and used while these are still on their way.
            json_block("files", _files(report)),
            json_block("pictures", picture_data(report, sources)),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _files(report: Report) -> dict[str, str]:
    """What the page's buttons save: the report's numbers without the points of the curves."""
    return {"json": json.dumps(numbers(report, curves=False), indent=1), "csv": csv_text(report)}


def style() -> str:
    """The look of the pages."""
    hues = "".join(f"--hue-{i}:{hex_colour(c)};" for i, c in enumerate(HUES))
    return f":root{{{hues}}}\n{_asset('report.css')}"


def _script() -> str:
    body = "\n".join(_asset(name) for name in SCRIPTS)
    return f'"use strict";(() => {{\n{body}\n}})();\n'


def _asset(name: str) -> str:
    return resources.files("detector.report").joinpath("assets", name).read_text(encoding="utf-8")


def _bar(parts: Sequence[Markup | None]) -> Markup:
    """The bar at the top: a link to each section that is there, and the choice of light and dark."""
    found = (re.match(r'<section id="([a-z]+)"><h2>([^<]*)</h2>', part) for part in parts if part)
    links = [element("a", Markup(match[2]), href=f"#{match[1]}") for match in found if match]
    themes = [
        element("option", name, value=value) for value, name in (("auto", "Auto"), ("light", "Light"), ("dark", "Dark"))
    ]
    choice = element("label", element("span", "Theme "), element("select", themes, id="theme"), class_="theme")
    return element("nav", element("div", links, class_="links"), choice, class_="top", aria_label="Sections")


def _drawn(report: Report) -> Markup | None:
    """Three small charts: recall against size and shape, and calibration."""
    panels = []
    if report.sizes:
        panels.append(_panel("sizes-chart", "Recall by size", "Side of a square of the object's area, in pixels."))
    if report.aspects:
        panels.append(_panel("aspects-chart", "Recall by shape", "Width of the object divided by its height."))
    if len(report.calibration.count):
        error, outside = known(report.calibration.expected_error), report.calibration.outside
        note = "How often a detection of a score is right; on the diagonal, scores are probabilities."
        if error is not None:
            note += f" Expected calibration error: {sections.points(error)} points."
        if outside:
            note += f" {sections.thousands(outside)} detections have a score outside 0 to 1: left out."
        panels.append(_panel("calibration-chart", "Calibration", note))
    if not panels:
        return None
    return element("section", element("h2", "What is found"), element("div", panels, class_="three"), id="found")


def _panel(id_: str, title: str, note: str) -> Markup:
    return element(
        "div",
        element("h3", title),
        element("div", id=id_, class_="chart"),
        element("p", id=f"{id_}-readout", class_="hint readout", aria_live="polite"),
        element("p", note, class_="hint"),
        class_="panel",
    )


def _confusion(report: Report) -> Markup | None:
    confusion = report.confusion
    if not confusion.matrix.any():
        return None
    note = (
        f"Detections with a score from {confusion.score_threshold:.2f}, paired with the objects whatever their class, "
        f"down to IoU {confusion.iou_threshold:.2f}."
    )
    return element(
        "section",
        element("h2", "Confusion"),
        element("p", note, class_="intro"),
        element(
            "div",
            element(
                "div",
                element("div", id="matrix", class_="chart"),
                element("p", id="matrix-readout", class_="hint readout", aria_live="polite"),
                class_="panel",
            ),
            element("div", element("h3", "Most frequent"), element("ol", id="pairs"), class_="panel"),
            class_="two",
        ),
        id="confusion",
    )


def _gallery(report: Report) -> Markup | None:
    if not report.cases:
        return None
    used = sorted({case.label for case in report.cases})
    options = [element("option", report.classes[label].name, value=label) for label in used]
    kinds = [
        element(
            "label",
            element("input", type="checkbox", value=kind.key, checked=True),
            element("span", kind.name),
            class_=f"chip k-{kind.key}",
        )
        for kind in report.kinds
        if any(case.kind == kind.key for case in report.cases)
    ]
    fields = [
        element(
            "label",
            element("span", "Class"),
            element("select", element("option", "All classes", value=""), options, id="by-class"),
        ),
        element(
            "label",
            element("span", "Order"),
            element(
                "select",
                element("option", "Worst first", value="worst"),
                element("option", "Highest score", value="high"),
                element("option", "Lowest score", value="low"),
                element("option", "Largest object", value="large"),
                element("option", "Smallest object", value="small"),
                id="order",
            ),
        ),
        element("label", element("span", "Score from"), _score_field("score-from", "0")),
        element("label", element("span", "to"), _score_field("score-to", "1")),
        element(
            "label", element("span", "Picture"), element("input", type="search", id="by-name", placeholder="File name")
        ),
    ]
    return element(
        "section",
        element("h2", "Gallery"),
        element(
            "p",
            "The worst false detections and the missed objects. A picture opens with its objects, detections and "
            "proposals; the arrow keys move to the next case.",
            class_="intro",
        ),
        element(
            "form",
            element("fieldset", element("legend", "Kind of error"), kinds, class_="chips"),
            element("div", fields, class_="fields"),
            id="gallery-filter",
            class_="panel",
        ),
        element("p", id="gallery-count", class_="hint", aria_live="polite"),
        element("div", id="cards", class_="gallery"),
        element("button", "Show more", type="button", id="more", class_="more", hidden=True),
        _dialog(),
        id="gallery",
    )


def _score_field(id_: str, placeholder: str) -> Markup:
    return element("input", type="number", id=id_, step=0.05, placeholder=placeholder, inputmode="decimal")


def _dialog() -> Markup:
    toggles = [
        element(
            "label",
            element("input", type="checkbox", data_layer=layer, checked=on),
            element("span", name, class_=f"layer-{layer}"),
            class_="chip",
        )
        for layer, name, on in (
            ("truths", "Objects", True),
            ("detections", "Detections", True),
            ("proposals", "Proposals", False),
        )
    ]
    score = element("input", type="range", id="view-score", min=0, max=1, step=0.01, value=0.3)
    return element(
        "dialog",
        element(
            "div",
            element("h3", id="view-title"),
            element("p", id="view-note", class_="hint"),
            element("button", "Close", type="button", id="view-close"),
            class_="view-head",
        ),
        element("div", id="view-stage", class_="stage"),
        element(
            "div",
            element("button", "← Previous", type="button", id="view-back"),
            element("div", toggles, class_="chips"),
            element("label", element("span", "Scores from "), score, element("output", id="view-score-out")),
            element(
                "label", element("input", type="checkbox", id="view-zoom"), element("span", "Zoom in"), class_="chip"
            ),
            element("button", "Next →", type="button", id="view-next"),
            class_="view-foot",
        ),
        element(
            "div", id="view-list", class_="scroll", tabindex="0", role="region", aria_label="Objects and detections"
        ),
        id="view",
        aria_labelledby="view-title",
    )
