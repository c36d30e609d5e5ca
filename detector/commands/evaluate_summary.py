"""What ``detector evaluate`` shows on the terminal."""

from __future__ import annotations

from detector.evaluation.result import EvaluationResult, Interval
from detector.shown import shown

CLASSES_SHOWN = 40


def summary(result: EvaluationResult) -> list[str]:
    """The numbers for a terminal, then what was counted."""
    lines = [f"{result.metric}: mean AP {_percent(result.mean_ap)}{_interval(result.interval)}"]
    others = {name: value for name, value in result.numbers.items() if name not in ("mean_ap", "ap")}
    if others:
        lines.append("  ".join(f"{name} {_percent(value)}" for name, value in others.items()))
    names = [shown(row.name) for row in result.classes[:CLASSES_SHOWN]]
    width = max(map(len, names), default=0)
    for name, row in zip(names, result.classes, strict=False):
        lines.append(
            f"  {name:<{width}}  {_percent(row.ap):>5}{_interval(row.interval)}  "
            f"{row.true_positives} of {row.truths} found, {row.false_positives} false"
        )
    if len(result.classes) > len(names):
        lines.append(f"  ... {len(result.classes) - len(names)} more classes in per_class.csv")
    return lines + result.counts.sentences()


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f" ({_percent(interval.low)} to {_percent(interval.high)})"
