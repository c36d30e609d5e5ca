"""``detector compare``: is one model better than another, or is it chance?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.shown import shown
from proposals.errors import UserError

if TYPE_CHECKING:
    from detector.evaluation.paired import Comparison, Difference


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Run folder of detector evaluate.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another, on the same data and metric.")],
    samples: Annotated[
        int | None,
        typer.Option(min=100, metavar="N", help="Bootstrap samples.", show_default="2000, more for many classes"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for resampling.")] = 0,
    level: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Confidence level of intervals and verdicts.")
    ] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON and nothing else.")] = False,
) -> None:
    """Say whether B is better than A, per class and overall, by a paired bootstrap over images.

    Both are scored on the same 2000 or more resamples of the images. The verdicts of the
    classes are corrected for looking at many at once (Holm).

    [bold]Example:[/bold] detector compare runs/evaluate-old runs/evaluate-new
    """
    from detector.commands.evaluate_data import check_unchanged, load_measured, read_evaluate_settings, read_for
    from detector.evaluation.assemble import score
    from detector.evaluation.paired import compare as compare_results
    from detector.evaluation.plain import to_plain
    from detector.shown import json_text

    runs = {run: read_evaluate_settings(run) for run in (a, b)}
    first, second = runs[a], runs[b]
    for key in ("data", "split", "metric", "images", "first"):  # or they were not measured alike
        one, other = getattr(first, key), getattr(second, key)
        if one != other:
            differ = f"{shown(str(one))} and {shown(str(other))}"
            raise UserError(f"{a} and {b} differ in {key}: {differ}; evaluate both alike")
    for run, settings in runs.items():
        check_unchanged(run, settings)
    looked = first.model is not None or second.model is not None
    images = Path(first.images) if first.images else None
    measured = load_measured(
        Path(first.data), first.split or None, images, first.metric, pictures_needed=looked, first=first.first
    )
    names, blacklist = measured.class_names, measured.blacklist
    results = []
    for run, settings in ((a, first), (b, second)):
        table = read_for(
            measured,
            run / settings.detections,
            format=settings.format,
            image_list=Path(settings.image_list) if settings.image_list else None,
            invalid=settings.invalid,
            unknown=settings.unknown_classes,
        )
        results.append(score(measured.metric, table, measured.truth, names, blacklist=blacklist))
    comparison = compare_results(*results, samples=samples, seed=seed, level=level)
    if as_json:
        typer.echo(json_text(to_plain(comparison)))
        return
    for line in in_words(comparison):
        typer.echo(line)


def in_words(comparison: Comparison) -> list[str]:
    """The comparison for a terminal."""
    width = max(len(shown(row.name)) for row in (comparison.mean, *comparison.classes))
    head = f"{comparison.metric} on {comparison.images} images, {comparison.samples} paired resamples; AP points"
    lines = [head, _line(comparison.mean, width)]
    return lines + [_line(row, width) for row in comparison.classes]


def _line(row: Difference, width: int) -> str:
    name = shown(row.name)
    if row.interval is None:
        return f"  {name:<{width}}  not defined: no object of it counts"
    return (
        f"  {name:<{width}}  A {100 * row.a:5.1f}  B {100 * row.b:5.1f}  {100 * row.difference:+5.1f} "
        f"({row.interval.points('+')})  p {row.adjusted_p:.3f}  {row.verdict}"
    )
