"""Figures as picture files: recall of proposals, the course of a training, the effects of an experiment.

The format is that of the file's suffix (.png, .svg, .pdf). Figures are made without pyplot, so that nothing opens a
window, keeps a figure alive, or depends on the machine's matplotlib settings.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from detector.report.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, hex_colour
from proposals.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = tuple[Sequence[float], Sequence[float]]
"""x and y of one line, of one length."""
Effect = tuple[str, float, tuple[float, float] | None]
"""What was changed, by how much that changed the result, and the ends of the interval of that."""

BOOKKEEPING = ("steps", "epoch", "seconds", "regions_per_second")
"""Columns of a training log that say nothing of how well it goes."""
# Yellow is too light for a line on white; dashes tell apart what is left to those who see no hues.
_LINES = tuple(hex_colour(c) for c in (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY))
_DASHES = ("-", "--", ":", "-.")


def plot_recall(
    curves: Mapping[str, Points],
    path: Path,
    *,
    x_label: str,
    y_label: str = "Recall",
    title: str = "",
) -> None:
    """One line for each name: recall against the number of proposals, on a logarithmic scale."""
    figure, (axes,) = _panels(1, title)
    for (name, (x, y)), (colour, dash) in zip(curves.items(), _styles(len(curves)), strict=True):
        axes.plot(list(x), list(y), color=colour, linestyle=dash, linewidth=1.8, label=_plain(name))
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if curves:
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _save(figure, path)


def plot_training(log: Path, path: Path) -> None:
    """The course of a training: one panel for losses, one for each other family of numbers.

    Args:
        log: a CSV file with a header; values that are not finite leave a gap, cells that are empty or no numbers are
            left out.

    The horizontal axis is ``step``; the keys of ``BOOKKEEPING`` get no line. Keys that end in "loss" share a panel, and
    so do keys with one first word (``top1_train``, ``top1_val``).
    """
    rows = read_log(log)
    names = list(dict.fromkeys(k for row in rows for k in row if k != "step" and k not in BOOKKEEPING))
    families: dict[str, list[str]] = {}
    for name in names:
        family = "loss" if name.endswith("loss") else name.split("_")[0].split("/")[0]
        families.setdefault(family, []).append(name)
    # Losses are looked at first, the learning rate last.
    ordered = sorted(families.items(), key=lambda item: (item[0] != "loss", item[0] == "rate"))
    figure, panels = _panels(len(families) or 1)
    for axes, (family, members) in zip(panels, ordered, strict=False):
        for name, (colour, dash) in zip(members, _styles(len(members)), strict=True):
            points = [(row["step"], row[name]) for row in rows if name in row and "step" in row]
            axes.plot(
                [p[0] for p in points],
                [p[1] if math.isfinite(p[1]) else math.nan for p in points],
                color=colour,
                linestyle=dash,
                marker="o" if len(points) < 30 else "",
                markersize=3,
                label=_plain(name),
            )
        axes.set_ylabel(_plain(family))
        if len(members) > 1 or members[0] != family:
            axes.legend(frameon=False, fontsize=9)
    panels[-1].set_xlabel("step")
    _save(figure, path)


def plot_effects(effects: Sequence[Effect], path: Path, *, x_label: str) -> None:
    """One row for each effect, the first on top: a dot at its size, a line over its interval, and a line at 0."""
    figure, (axes,) = _panels(1, height=1.0 + 0.42 * len(effects))
    axes.axvline(0, color="0.6", linewidth=1)
    for row, (_, size, ends) in enumerate(effects):
        settled = ends is not None and (ends[0] > 0 or ends[1] < 0)
        colour = hex_colour(BLUE if settled else SKY)
        if ends is not None:
            axes.plot(ends, (row, row), color=colour, linewidth=1.8)
        axes.plot(size, row, color=colour, marker="o")
    axes.set_yticks(range(len(effects)), [_plain(name) for name, _, _ in effects], fontsize=8)
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlabel(x_label)
    _save(figure, path)


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a CSV file with a header: what is a number in them.

    Raises:
        UserError: it cannot be read, or is not CSV.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {key: number for key, cell in row.items() if key and (number := _number(cell)) is not None}
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a log that can be drawn ({error})") from None


def _number(cell: object) -> float | None:
    try:
        return float(str(cell))
    except ValueError:
        return None


def _styles(count: int) -> list[tuple[str, str]]:
    """``count`` pairs of colour and dash, all different up to 24."""
    return list(islice(cycle((colour, dash) for dash in _DASHES for colour in _LINES), count))


def _plain(text: str) -> str:
    """``text`` with what matplotlib would take for mathematics or hide (a label that begins with ``_``) defused."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _panels(count: int, title: str = "", height: float | None = None) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    height = height or (4.6 if count == 1 else 2.4 * count)
    figure = Figure(figsize=(7.2, height), layout="constrained")
    panels = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    if title:
        panels[0].set_title(_plain(title), loc="left", fontsize=12, fontweight="bold")
    for axes in panels:
        axes.grid(color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("0.6")
        axes.tick_params(colors="0.35")
    return figure, panels


def _save(figure: Figure, path: Path) -> None:
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    # No date and no random names inside: the same curves give the same bytes.
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    with matplotlib.rc_context({"svg.hashsalt": "curves"}):
        figure.savefig(path, dpi=160, metadata=metadata)
