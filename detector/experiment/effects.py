"""What one change alone is worth: variants that differ in a single property, compared on the same resamples.

The pairs follow from the variants, so that no table can compare what differs in two ways at once.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from detector.evaluation.bootstrap import DEFAULT_LEVEL, bootstrap_together, percentile_interval
from detector.evaluation.result import EvaluationResult, Interval
from detector.experiment.table import VariantResult
from detector.experiment.variants import Variant

METRIC = "ilsvrc_det"
# Of each property, what the others are compared with: R-CNN's regions, bare, and the paper's mean.
PLAIN: dict[str, object] = {
    "proposals": "scale1",
    "context": False,
    "combine": "mean",
    "regression": False,
    "overlap": False,
    "localizer": False,
}


class Effect(NamedTuple):
    """The mean AP of variant ``of`` less the mean of those of ``against``; ``change`` says it in words."""

    change: str
    of: str
    against: tuple[str, ...]


class EffectSize(NamedTuple):
    """``before`` and ``after`` the change, fractions; the interval is of their difference."""

    effect: Effect
    before: float
    after: float
    interval: Interval | None


def effects_of(variants: Sequence[Variant]) -> list[Effect]:
    """Every joint variant against its members alone, and every pair that differs in one property of :data:`PLAIN`."""
    return [*_of_members(variants), *_of_properties(variants)]


def _of_members(variants: Sequence[Variant]) -> Iterator[Effect]:
    for v in variants:
        if len(v.members) < 2:
            continue
        alone = []
        for number in v.members:
            wanted = {"members": (number,), "combine": PLAIN["combine"]}
            alone += [u.name for u in variants if _same_but(v, u, {"members", "combine"}) and _has(u, wanted)][:1]
        if len(alone) == len(v.members) and v.combine == PLAIN["combine"]:
            yield Effect(f"{v.name}, against the mean of its members alone", v.name, tuple(alone))


def _of_properties(variants: Sequence[Variant]) -> Iterator[Effect]:
    for name, plain in PLAIN.items():
        for v in variants:
            if getattr(v, name) == plain:
                continue
            for u in variants:
                if _same_but(v, u, {name}) and _has(u, {name: plain}):
                    yield Effect(f"{u.name} -> {v.name}", v.name, (u.name,))
                    break


def _same_but(a: Variant, b: Variant, free: set[str]) -> bool:
    free = free | {"name"}
    return a.model_dump(exclude=free) == b.model_dump(exclude=free)


def _has(variant: Variant, values: dict[str, object]) -> bool:
    return all(getattr(variant, name) == value for name, value in values.items())


def measure_effects(
    effects: Sequence[Effect], results: Sequence[VariantResult], *, samples: int, seed: int
) -> list[EffectSize]:
    """The size of each effect by ILSVRC DET's rule.

    Args:
        results: of all variants, with their matches. samples: of the pictures, the same for all variants; 0 for none.

    Raises:
        ValueError: a result has no matches.
    """
    by_name: dict[str, EvaluationResult] = {found.variant.name: found.results[METRIC] for found in results}
    names = sorted({name for effect in effects for name in (effect.of, *effect.against)})
    matches = [by_name[name].matches for name in names]
    known = [m for m in matches if m is not None]
    if len(known) < len(matches):
        raise ValueError("results without matches cannot be compared")
    drawn = {}
    if samples and known:
        spreads = bootstrap_together(known, samples=samples, seed=seed)
        drawn = {name: spread.mean() for name, spread in zip(names, spreads, strict=True)}
    sizes = []
    for effect in effects:
        before = float(np.mean([by_name[name].mean_ap for name in effect.against]))
        after = by_name[effect.of].mean_ap
        interval = None
        if drawn:
            differences = drawn[effect.of] - np.mean([drawn[name] for name in effect.against], axis=0)
            # Resamples lack rare classes, which moves every mean AP and so, a little, their difference.
            bias = float(np.nanmean(differences)) - (after - before)
            interval = percentile_interval(differences - bias, DEFAULT_LEVEL)
        sizes.append(EffectSize(effect, before, after, interval))
    return sizes


def effects_csv(sizes: Sequence[EffectSize]) -> str:
    """One line per effect: mean AP before and after, their difference and its interval, fractions."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["change", "of", "against", "before", "after", "difference", "low", "high"])
    for effect, before, after, interval in sizes:
        ends = ("", "") if interval is None else (interval.low, interval.high)
        writer.writerow([effect.change, effect.of, "; ".join(effect.against), before, after, after - before, *ends])
    return out.getvalue()


def effects_markdown(sizes: Sequence[EffectSize]) -> str:
    """The same for people, in points of mean AP."""
    said = "What one change is worth: mean AP in % by ILSVRC DET's rule, "
    said += "and 95 % intervals of the difference, from the same resamples of the pictures for both sides."
    lines = [said, "", "| change | before | after | difference |", "|---|---|---|---|"]
    for effect, before, after, interval in sizes:
        ends = "" if interval is None else f" ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
        shown = f"{100 * (after - before):+.1f}{ends}"
        lines.append(f"| {effect.change} | {100 * before:.1f} | {100 * after:.1f} | {shown} |")
    return "\n".join(lines) + "\n"
