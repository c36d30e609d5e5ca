"""The report's parts that are plain HTML: they hold their numbers without any script."""

from __future__ import annotations

from collections.abc import Sequence

from detector.report.content import ClassRow, Counted, ErrorKind, Headline, Number, Report
from detector.report.markup import Markup, element, markup

DASH = "–"


def points(fraction: float | None) -> str:
    """A fraction as points of 100 with one decimal; a dash where it is not defined."""
    return DASH if fraction is None else f"{100 * fraction:.1f}"


def thousands(count: int) -> str:
    """12345 as ``12,345``."""
    return f"{count:,}"


def interval(number: Number) -> str:
    """The 95 % interval in points, as ``48.1 to 53.9``; empty where there is none."""
    if number.low is None or number.high is None:
        return ""
    return f"{points(number.low)} to {points(number.high)}"


def header(report: Report) -> Markup:
    """Title and the facts that say what was measured."""
    facts = [element("div", element("dt", name), element("dd", value)) for name, value in report.facts]
    return element(
        "header",
        element("p", "Detection report", class_="eyebrow"),
        element("h1", report.title),
        element("p", report.subtitle, class_="subtitle"),
        element("dl", facts, class_="facts") if facts else None,
        id="top",
    )


def overview(report: Report) -> Markup:
    """The headline numbers, each with its interval, and what they mean in a sentence or two."""
    main, *others = report.headlines
    return _section(
        "overview",
        "Overview",
        element("p", [[s, " "] for s in summary(report)], class_="lead"),
        element(
            "div",
            _headline(main, "card main"),
            element("div", [_headline(h, "card") for h in others], class_="cards") if others else None,
            class_="headlines few" if len(others) <= 2 else "headlines",
        ),
        element(
            "p",
            "Numbers are points of 100. The range under a number is its 95 % interval: how much it would move with "
            "another draw of as many pictures.",
            class_="hint",
        )
        if any(interval(h.number) for h in report.headlines)
        else None,
    )


def summary(report: Report) -> list[str]:
    """One to three plain sentences: the score, the best and the worst class, the largest loss."""
    main = report.headlines[0]
    sentences = [f"{main.name} is {points(main.number.value)}."]
    known = [c for c in report.classes if c.ap.value is not None]
    if len(known) > 1:
        best, worst = max(known, key=_ap), min(known, key=_ap)
        sentences.append(
            f"The best class is {best.name} ({points(best.ap.value)}), the hardest {worst.name} "
            f"({points(worst.ap.value)})."
        )
    lossy = [k for k in report.kinds if k.points]
    if lossy:
        worst_kind = max(lossy, key=lambda k: k.points or 0.0)
        sentences.append(f"The largest loss is “{worst_kind.name}” with {worst_kind.points:.1f} points.")
    return sentences


def _ap(row: ClassRow) -> float:
    return -1.0 if row.ap.value is None else row.ap.value


def _headline(headline: Headline, class_: str) -> Markup:
    number = headline.number
    return element(
        "div",
        element("h3", headline.name),
        element("p", points(number.value), class_="number"),
        _range(number),
        element("p", interval(number), class_="interval") if interval(number) else None,
        element("p", headline.note, class_="hint") if headline.note else None,
        class_=class_,
    )


def _range(number: Number) -> Markup | None:
    """A scale from 0 to 100 with the value, and the interval as a band."""
    if number.value is None:
        return None
    low = number.value if number.low is None else number.low
    high = number.value if number.high is None else number.high
    style = f"--v:{100 * number.value:.2f};--l:{100 * low:.2f};--h:{100 * high:.2f}"
    return element("div", element("i"), element("b"), class_="range", style=style, aria_hidden="true")


def classes(report: Report) -> Markup:
    """The table of classes beside the precision-recall chart that its rows select."""
    names = {k.key: k.name for k in report.kinds}
    table = _table(
        "class-table",
        "Classes with their average precision",
        [("Class", "text"), ("AP", "number"), ("Recall", "number"), ("Objects", "number"), ("Detections", "number")]
        + ([("Largest loss", "number")] if names else []),
        [_class_row(label, row, names) for label, row in enumerate(report.classes)],
    )
    return _section(
        "classes",
        "Classes",
        element(
            "div",
            element("div", _filter("class-filter", "class-table", "Filter classes"), table, class_="panel"),
            element(
                "div",
                element("h3", "Precision and recall"),
                element("p", report.curve_note, class_="hint") if report.curve_note else None,
                element("div", id="pr-chart", class_="chart"),
                element("p", id="pr-readout", class_="hint readout", aria_live="polite"),
                element("div", id="pr-legend", class_="legend"),
                class_="panel sticky",
            ),
            class_="two",
        ),
        intro="Choose classes in the table to see their curves. The heads of the columns sort.",
    )


def _class_row(label: int, row: ClassRow, kinds: dict[str, str]) -> Markup:
    cells = [
        element(
            "th",
            element("button", element("span", row.name), type="button", class_="pick", aria_pressed="false"),
            scope="row",
            data_v=row.name,
        ),
        _cell(row.ap.value, [points(row.ap.value), _range(row.ap)], title=_ap_title(row)),
        _cell(row.recall, points(row.recall)),
        _cell(row.truths, thousands(row.truths)),
        _cell(row.detections, thousands(row.detections)),
    ]
    if kinds:
        key = max(row.losses, key=lambda k: row.losses[k], default=None)
        value = row.losses[key] if key is not None else 0.0
        text = (
            [f"{value:.1f} ", element("span", kinds.get(key, key), class_="kind-name")] if key and value > 0 else DASH
        )
        cells.append(_cell(value, text))
    return element("tr", cells, data_class=label)


def _ap_title(row: ClassRow) -> str:
    return f"95 % interval {interval(row.ap)}" if interval(row.ap) else ""


def errors(report: Report) -> Markup | None:
    """Where the points go: overall as bars, by class as a table."""
    if not report.kinds:
        return None
    most = max([k.points or 0.0 for k in report.kinds] + [1e-9])
    keys = [k.key for k in report.kinds]
    rows = [
        element(
            "tr",
            element("th", row.name, scope="row", data_v=row.name),
            [_loss(row.losses.get(key)) for key in keys],
        )
        for row in report.classes
    ]
    return _section(
        "errors",
        "Where the points go",
        element("div", [_kind(k, most) for k in sorted(report.kinds, key=_by_points)], class_="panel bars"),
        element(
            "details",
            element("summary", "Points lost, class by class"),
            _filter("loss-filter", "loss-table", "Filter classes"),
            _table(
                "loss-table",
                "Points lost by class and kind of error",
                [("Class", "text"), *((k.name, "number") for k in report.kinds)],
                rows,
            ),
            class_="panel",
        )
        if any(row.losses for row in report.classes)
        else None,
        intro="What the score would gain if all mistakes of one kind were mended and nothing else changed; these "
        "gains do not add up, because one object can suffer from several. " + report.error_note,
    )


def _by_points(kind: ErrorKind) -> float:
    return -(kind.points or 0.0)


def _kind(kind: ErrorKind, most: float) -> Markup:
    share = 0.0 if kind.points is None else 100 * max(kind.points, 0.0) / most
    return element(
        "div",
        element("h3", kind.name),
        element("div", element("i", style=f"width:{share:.1f}%"), class_="bar", aria_hidden="true"),
        element(
            "p", DASH if kind.points is None else f"{kind.points:.1f}", element("small", " points"), class_="value"
        ),
        element("p", f"{kind.explanation} ", _count_link(kind), class_="hint"),
        class_=f"kind k-{kind.key}",
    )


def _count_link(kind: ErrorKind) -> Markup:
    text = f"{thousands(kind.count)} {'case' if kind.count == 1 else 'cases'}"
    return element("a", text, href="#gallery", data_kind=kind.key)


def _loss(value: float | None) -> Markup:
    return _cell(
        value, DASH if value is None else f"{value:.1f}", class_="heat", style=f"--v:{max(value or 0.0, 0):.2f}"
    )


def counted(rows: Sequence[Counted]) -> Markup | None:
    """What was counted and what was left out, with the reason."""
    if not rows:
        return None
    return _section(
        "counted",
        "What was counted",
        element(
            "div",
            _table(
                "counted-table",
                "What was counted and what was not",
                [("", "text"), ("Counted", "number"), ("Not counted", "number"), ("Why", "text")],
                [
                    element(
                        "tr",
                        element("th", row.what, scope="row", data_v=row.what),
                        _cell(row.counted, thousands(row.counted)),
                        _cell(row.ignored, thousands(row.ignored)),
                        element("td", row.why, data_v=row.why),
                    )
                    for row in rows
                ],
                sortable=False,
            ),
            class_="panel",
        ),
    )


def run(report: Report) -> Markup:
    """The command and the configuration that made the numbers, and the numbers as files."""
    buttons = [
        element("button", f"Save the numbers as {kind.upper()}", type="button", data_download=kind)
        for kind in ("json", "csv")
    ]
    return _section(
        "run",
        "Run",
        element("div", buttons, class_="downloads"),
        _code("Command", "command", report.command),
        _code("Configuration", "config", report.config),
    )


def _code(name: str, id_: str, text: str) -> Markup | None:
    if not text:
        return None
    return element(
        "div",
        element("h3", name),
        element("button", "Copy", type="button", class_="copy", data_copy=id_),
        element("pre", element("code", text, id=id_), tabindex="0", aria_label=name),
        class_="panel code",
    )


def _section(id_: str, title: str, *children: Markup | None, intro: str = "") -> Markup:
    hint = element("p", intro, class_="intro") if intro else None
    return element("section", element("h2", title), hint, children, id=id_)


def _filter(id_: str, table: str, label: str) -> Markup:
    return element(
        "div",
        element("input", type="search", id=id_, data_filters=table, placeholder=label, aria_label=label),
        element("span", class_="hint", data_count=table, aria_live="polite"),
        class_="filter",
    )


def _table(
    id_: str, caption: str, columns: Sequence[tuple[str, str]], rows: Sequence[Markup], sortable: bool = True
) -> Markup:
    """A table in a box that scrolls; ``columns`` are (head, "text" or "number")."""
    heads = [
        element("th", element("button", head, type="button") if sortable else head, scope="col", data_type=type_)
        for head, type_ in columns
    ]
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", heads)),
        element("tbody", rows),
        id=id_,
        data_sortable=sortable,
    )
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _cell(value: float | None, text: object, **attributes: str) -> Markup:
    shown = {k: v for k, v in attributes.items() if v}
    return element("td", markup(text), data_v="" if value is None else f"{value:.6g}", **shown)  # type: ignore[arg-type]
