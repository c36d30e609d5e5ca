"""The experiment's tables: mean AP of every variant with intervals, and what each set of proposals covers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.evaluation.assemble import score
from detector.evaluation.error_analysis import analyse_errors
from detector.evaluation.prepare import TruthInput
from detector.evaluation.result import EvaluationResult
from detector.experiment.variants import Variant
from detector.types import Detections, GroundTruth
from proposals.boxes import FloatArray
from proposals.recall import average_recall, best_overlaps, recall

METRICS = ("ilsvrc_det", "voc10")


@dataclass(frozen=True, slots=True, eq=False)
class VariantResult:
    """A variant's results by metric."""

    variant: Variant
    results: dict[str, EvaluationResult]


@dataclass(frozen=True, slots=True)
class Coverage:
    """A set of proposals: mean boxes per picture, and recall at IoU 0.5, at 0.7, and AR of all annotated objects."""

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
                metric,
                mine,
                truth,
                class_names,
                blacklist=blacklist,
                bootstrap_samples=bootstrap_samples,
                seed=seed,
            )
            for metric in METRICS
        }
        found.append(VariantResult(variant, results))
    return found


def coverage(proposals: Mapping[str, Mapping[str, FloatArray]], truths: Mapping[str, GroundTruth]) -> list[Coverage]:
    """What each set of proposals covers; ``proposals`` are by image id and then by the set's name."""
    names = sorted({name for sets in proposals.values() for name in sets})
    objects = [truths[image_id].boxes for image_id in proposals]
    rows = []
    for name in names:
        boxes = [sets[name] for sets in proposals.values()]
        overlaps = best_overlaps(boxes, objects, [max(1, *(len(b) for b in boxes))])
        figures = (recall(overlaps, 0.5), recall(overlaps, 0.7), average_recall(overlaps))
        rows.append(Coverage(name, float(np.mean([len(b) for b in boxes])), *(float(f[0]) for f in figures)))
    return rows


def to_csv(results: Sequence[VariantResult]) -> str:
    """One line per variant: mean AP of both metrics with the ends of their intervals."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    properties = ("proposals", "context", "combine", "regression", "overlap", "localizer")
    writer.writerow(["variant", "ensemble", "members", *properties, *ends])
    for found in results:
        v = found.variant
        numbers: list[object] = []
        for metric in METRICS:
            result = found.results[metric]
            interval = result.interval
            numbers += [result.mean_ap, *(("", "") if interval is None else (interval.low, interval.high))]
        members = " ".join(str(m) for m in v.members)
        writer.writerow([v.name, v.ensemble, members, *(getattr(v, name) for name in properties), *numbers])
    return out.getvalue()


def errors_csv(results: Sequence[VariantResult]) -> str:
    """One line per variant: mean AP at IoU 0.5, and what each kind of error costs of it.

    See :func:`detector.evaluation.error_analysis.analyse_errors`; variants without matches are left out.
    """
    out = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for found in results:
        matches = found.results["voc10"].matches
        if matches is None:
            continue
        analysis = analyse_errors(matches, examples=0)
        row = {"variant": found.variant.name, "mean_ap": analysis.mean_ap, **analysis.cost}
        if writer is None:
            writer = csv.DictWriter(out, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return out.getvalue()


def to_markdown(results: Sequence[VariantResult], covered: Sequence[Coverage], images: int) -> str:
    """Both tables for people; ``images``: how many pictures were looked at."""
    lines = [f"{images:,} pictures; mean AP in %, 95 % bootstrap intervals over pictures.", ""]
    lines += ["| variant | ILSVRC DET | AP at IoU 0.5 |", "|---|---|---|"]
    for found in results:
        lines.append(f"| {found.variant.name} | " + " | ".join(_cell(found.results[m]) for m in METRICS) + " |")
    lines += ["", "| proposals | boxes a picture | recall 0.5 | recall 0.7 | AR |", "|---|---|---|---|---|"]
    for row in covered:
        shares = " | ".join(f"{100 * value:.1f}" for value in (row.recall50, row.recall70, row.average_recall))
        lines.append(f"| {row.name} | {row.boxes:.0f} | {shares} |")
    return "\n".join(lines) + "\n"


def _cell(result: EvaluationResult) -> str:
    shown = f"{100 * result.mean_ap:.1f}"
    if result.interval is None:
        return shown
    return f"{shown} ({100 * result.interval.low:.1f} to {100 * result.interval.high:.1f})"
