"""The experiment's tables: mean AP of every variant, what one change is worth, errors, what proposals cover."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.data import Dataset
from detector.evaluation.assemble import score
from detector.evaluation.bootstrap import bootstrap, mean_of_classes, percentile_interval
from detector.evaluation.error_analysis import analyse_errors
from detector.evaluation.prepare import TruthInput
from detector.evaluation.result import EvaluationResult, Interval, csv_text, ends
from detector.experiment.measure import Looked, Row
from detector.experiment.variants import Variant
from detector.report.plots import plot_effects
from detector.strict_yaml import write_whole
from detector.types import Detections, GroundTruth
from proposals.boxes import FloatArray
from proposals.recall import average_recall, best_overlaps, recall

TITLES = {"voc07": "VOC 2007", "ilsvrc_det": "ILSVRC DET", "voc10": "AP at IoU 0.5"}
METRICS = {"voc": ("voc07", "voc10"), "ilsvrc_det": ("ilsvrc_det", "voc10")}  # by the data's format; others: voc10


class VariantResult(NamedTuple):
    """A variant's results by metric; effects are of the first one."""

    variant: Variant
    results: dict[str, EvaluationResult]


class Coverage(NamedTuple):
    """The proposals of a variant: mean boxes per image, and recall at IoU 0.5, at 0.7, and AR of all objects."""

    name: str
    boxes: float
    recall50: float
    recall70: float
    average_recall: float


def evaluate_variants(
    variants: Sequence[Variant],
    detections: Mapping[str, Mapping[str, Detections]],
    truth: TruthInput,
    class_names: tuple[str, ...],
    metrics: Sequence[str],
    *,
    blacklist: Sequence[tuple[str, int]] = (),
    bootstrap_samples: int,
    seed: int,
) -> list[VariantResult]:
    """Score every variant; ``detections`` are by image id and then by the variant's name.

    ``blacklist``: of ILSVRC's kit, see :func:`detector.evaluation.ilsvrc_det.evaluate_ilsvrc_det`.
    """
    found = []
    for variant in variants:
        mine = {image_id: by_name[variant.name] for image_id, by_name in detections.items()}
        results = {
            metric: score(
                metric, mine, truth, class_names, blacklist=blacklist, bootstrap_samples=bootstrap_samples, seed=seed
            )
            for metric in metrics
        }
        found.append(VariantResult(variant, results))
    return found


def coverage(proposals: Mapping[str, Mapping[str, FloatArray]], truths: Mapping[str, GroundTruth]) -> list[Coverage]:
    """What the proposals of variants cover; ``proposals`` are by image id and then by the variant's name."""
    names = list(dict.fromkeys(name for sets in proposals.values() for name in sets))
    objects = [truths[image_id].boxes for image_id in proposals]
    rows = []
    for name in names:
        boxes = [sets[name] for sets in proposals.values()]
        overlaps = best_overlaps(boxes, objects, [max(1, *(len(b) for b in boxes))])
        figures = (recall(overlaps, 0.5), recall(overlaps, 0.7), average_recall(overlaps))
        rows.append(Coverage(name, float(np.mean([len(b) for b in boxes])), *(float(f[0]) for f in figures)))
    return rows


def to_csv(results: Sequence[VariantResult]) -> str:
    """One line per variant: mean AP of each metric with the ends of its interval."""
    rows = []
    for found in results:
        v = found.variant
        row: dict[str, object] = {"variant": v.name, "model": v.model, "members": " ".join(map(str, v.members))}
        row |= {"change": json.dumps(v.change), "member_change": json.dumps(v.member_change), "combine": v.combine}
        for metric, result in found.results.items():
            row |= {metric: result.mean_ap, **ends(result.interval, f"{metric}_")}
        rows.append(row)
    return csv_text(rows)


def errors_csv(results: Sequence[VariantResult]) -> str:
    """One line per variant: mean AP at IoU 0.5, and what each kind of error costs of it.

    See :func:`detector.evaluation.error_analysis.analyse_errors`.
    """
    rows: list[dict[str, object]] = []
    for found in results:
        analysis = analyse_errors(found.results["voc10"].need_matches(), examples=0)
        rows.append({"variant": found.variant.name, "mean_ap": analysis.mean_ap, **analysis.cost})
    return csv_text(rows)


def to_markdown(results: Sequence[VariantResult], covered: Sequence[Coverage], images: int) -> str:
    """Both tables for people; ``images``: how many images were looked at."""
    head = ["variant", *(TITLES[metric] for metric in results[0].results)]
    scores = [[found.variant.name, *map(_cell, found.results.values())] for found in results]
    shares = [[row.name, f"{row.boxes:.0f}", *(f"{100 * value:.1f}" for value in row[2:])] for row in covered]
    return (
        f"{images:,} images; mean AP in %, 95 % bootstrap intervals over images.\n\n"
        f"{_table(head, scores)}\n"
        f"{_table(['proposals of', 'boxes an image', 'recall 0.5', 'recall 0.7', 'AR'], shares)}"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(row)} |\n" for row in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|\n")
    return "".join(lines)


def _cell(result: EvaluationResult) -> str:
    between = "" if result.interval is None else f" ({result.interval.points()})"
    return f"{100 * result.mean_ap:.1f}{between}"


class EffectSize(NamedTuple):
    """Mean AP of what a variant is compared with (the mean of several), and its own, fractions.

    The interval is of their difference.
    """

    variant: Variant
    before: float
    after: float
    interval: Interval | None


def measure_effects(results: Sequence[VariantResult], *, samples: int, seed: int) -> list[EffectSize]:
    """The size of each effect by the first metric: of every variant that is compared with others.

    Args:
        results: of all variants, with their matches. samples: of the images, the same for all variants; 0 for none.
    """
    by_name: dict[str, EvaluationResult] = {found.variant.name: next(iter(found.results.values())) for found in results}
    compared = [found.variant for found in results if found.variant.against]
    names = sorted({name for variant in compared for name in (variant.name, *variant.against)})
    drawn = {}
    if samples and names:
        spreads = bootstrap([by_name[name].need_matches() for name in names], samples=samples, seed=seed)
        drawn = {name: mean_of_classes(spread) for name, spread in zip(names, spreads, strict=True)}
    sizes = []
    for variant in compared:
        before = float(np.mean([by_name[name].mean_ap for name in variant.against]))
        after = by_name[variant.name].mean_ap
        interval = None
        if drawn:
            differences = drawn[variant.name] - np.mean([drawn[name] for name in variant.against], axis=0)
            # Resamples lack rare classes, which moves every mean AP and so, a little, their difference.
            bias = float(np.nanmean(differences)) - (after - before)
            interval = percentile_interval(differences - bias)
        sizes.append(EffectSize(variant, before, after, interval))
    return sizes


def effects_csv(sizes: Sequence[EffectSize]) -> str:
    """One line per effect: mean AP before and after, their difference and its interval, fractions."""
    rows = []
    for variant, before, after, interval in sizes:
        row = {"of": variant.name, "against": "; ".join(variant.against), "before": before, "after": after}
        rows.append({**row, "difference": after - before, **ends(interval)})
    return csv_text(rows)


def others(variant: Variant) -> str:
    """What a variant is compared with, in words."""
    first, *more = variant.against
    return f"the mean of {1 + len(more)}: {first}, ..." if more else first


def effects_markdown(sizes: Sequence[EffectSize], metric: str) -> str:
    """The same for people, in points of mean AP by ``metric``."""
    rows = []
    for variant, before, after, interval in sizes:
        between = "" if interval is None else f" ({interval.points('+')})"
        difference = f"{100 * (after - before):+.1f}{between}"
        rows.append([variant.name, others(variant), f"{100 * before:.1f}", f"{100 * after:.1f}", difference])
    return (
        f"What one change is worth: mean AP in % ({metric}); 95 % intervals of the difference, paired.\n\n"
        f"{_table(['variant', 'against', 'before', 'after', 'difference'], rows)}"
    )


def draw_effects(sizes: Sequence[EffectSize], path: Path, metric: str) -> None:
    """The same as a picture."""
    rows = []
    for variant, before, after, interval in sizes:
        between = None if interval is None else (100 * interval.low, 100 * interval.high)
        rows.append((f"{variant.name}\nagainst {others(variant)}", 100 * (after - before), between))
    plot_effects(rows, path, x_label=f"difference in mean AP ({metric}), points of 100")


def write_tables(
    folder: Path, dataset: Dataset, rows: Sequence[Row], looked: Mapping[str, Looked], samples: int, seed: int
) -> Path:
    """Write every table into ``folder`` and return the path of the one for people.

    Args:
        rows: of the experiment. looked: what was found, by image id. samples: resamples of the images. seed: of them.
    """
    truths = {record.image_id: record.ground_truth for record in dataset}
    metrics = METRICS.get(dataset.format, ("voc10",))
    results = evaluate_variants(
        [row.variant for row in rows],
        {image_id: found.detections for image_id, found in looked.items()},
        truths,
        dataset.class_names,
        metrics,
        blacklist=dataset.blacklisted(),
        bootstrap_samples=samples,
        seed=seed,
    )
    effects = measure_effects(results, samples=samples, seed=seed)
    covered = coverage({image_id: found.proposals for image_id, found in looked.items()}, truths)
    text = to_markdown(results, covered, len(dataset))
    if effects:
        text += "\n" + effects_markdown(effects, TITLES[metrics[0]])
        draw_effects(effects, folder / "effects.png", TITLES[metrics[0]])
    tables = {"table.csv": to_csv(results), "errors.csv": errors_csv(results), "effects.csv": effects_csv(effects)}
    for name, content in {**tables, "table.md": text}.items():
        write_whole(folder / name, content)
    return folder / "table.md"
