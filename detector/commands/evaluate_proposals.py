"""The ``evaluate-proposals`` verb: recall, AR, ABO and MABO of proposal methods by number of proposals."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands.console import progress
from detector.commands.options import results_option, side_option
from detector.shown import shown
from proposals.errors import UserError

if TYPE_CHECKING:
    from detector.commands.proposal_methods import MethodRunner
    from detector.data.dataset import Dataset

TABLE_BUDGETS = "100,500,1000,2000"
CURVE_BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 350, 500, 700, 1000, 1400, 2000, 3000, 5000, 7000, 10000)
ALL = 10**9
IOU_THRESHOLDS = (0.5, 0.7, 0.9)
DRAWN_THRESHOLDS = (0.5, 0.7)


def evaluate_proposals(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A data set in any layout that is recognised.")],
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="With commas between: presets of selective search (single, fast, quality, googlenet), multibox, "
            "PRESET+multibox (merged as in detection).",
        ),
    ] = "single,fast,googlenet",
    budgets: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Proposals per image in the table's rows; all of them come last.")
    ] = TABLE_BUDGETS,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The model whose MultiBox proposes.", show_default="the bundled one"),
    ] = None,
    multibox_budget: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="MultiBox proposals per image in a merged set.",
            show_default="the model's own, or 200",
        ),
    ] = None,
    search_side: Annotated[int | None, side_option(default="the image as it is")] = None,
    split: Annotated[str | None, typer.Option(metavar="SPLIT", help="Split of the data set.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use only the first N images.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed for proposal ranking.")] = 0,
    include_ignored: Annotated[
        bool,
        typer.Option("--include-ignored", help="Count ignored (VOC: difficult) and crowd boxes as ground truth too."),
    ] = False,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Cache of proposals to read from and add to.")
    ] = None,
    out: Annotated[Path | None, results_option("evaluate-proposals")] = None,
) -> None:
    """Measure how well proposals cover the annotated objects of a data set.

    Prints recall at IoU 0.5, 0.7 and 0.9 and AR (all annotated boxes pooled), ABO (pooled), MABO (mean
    over classes) and seconds per image of the best 100, 500, 1000, 2000 and all proposals of each image;
    writes them as [bold]table.csv[/bold], recall by number of proposals as [bold]curve.csv[/bold] and, drawn,
    as [bold]recall.png[/bold].

    [bold]Example:[/bold] detector evaluate-proposals --data VOC2007 --methods single,fast,googlenet
    """
    from detector.commands.proposal_methods import MethodRunner, parse_methods
    from detector.data import load_dataset
    from detector.report.plots import plot_recall
    from detector.runs.folder import final_path, new_run_folder, refuse_occupied
    from proposals import recall as measure

    refuse_occupied(out)
    table_budgets = _numbers(budgets)
    chosen = parse_methods(methods)
    runner = MethodRunner(chosen, seed=seed, search_side=search_side, store=store, model=model, budget=multibox_budget)
    dataset = load_dataset(data, split)
    count = min(len(dataset), limit or len(dataset))
    truths, labels = _truths(dataset, count, include_ignored)
    if not len(labels):
        raise UserError(f"{data}: no annotated box to measure against in these {count} images; choose another --split")
    which = "all annotated boxes" if include_ignored else "annotated boxes that are neither ignored nor crowds"
    protocol = f"{shown(dataset.name)}: {len(labels):,} {which}, {len(set(labels.tolist()))} classes, {count:,} images"
    all_budgets = (*table_budgets, ALL)
    settings = {
        "data": data,
        "split": split,
        "limit": limit,
        "methods": chosen,
        "budgets": table_budgets,
        "model": model,
        "merge": runner.merging,
        "search_side": search_side,
        "include_ignored": include_ignored,
    }
    with new_run_folder(out, "evaluate-proposals", settings, seed) as folder:
        rows: list[list[Any]] = []
        points_of: list[list[Any]] = []
        curves: dict[str, tuple[list[float], list[float]]] = {}
        for name, (boxes, seconds) in _boxes(dataset, count, runner).items():
            overlaps = measure.best_overlaps(boxes, truths, all_budgets)
            numbers = measure.mean_number(boxes, all_budgets)
            columns = (
                *(measure.recall(overlaps, threshold) for threshold in IOU_THRESHOLDS),
                measure.average_recall(overlaps),
                measure.average_best_overlap(overlaps),
                measure.mean_average_best_overlap(overlaps, labels),
            )
            for budget, number, *figures in zip(all_budgets, numbers, *columns, strict=True):
                label = "all" if budget == ALL else str(budget)
                rounded = (round(float(figure), 4) for figure in figures)
                rows.append([name, label, round(float(number), 1), *rounded, round(seconds / count, 4)])
            longest = max(len(b) for b in boxes)
            points = [n for n in CURVE_BUDGETS if n < longest] + [longest or 1]
            by_number = measure.best_overlaps(boxes, truths, points)
            x = measure.mean_number(boxes, points).tolist()
            recalls = {t: measure.recall(by_number, t).tolist() for t in IOU_THRESHOLDS}
            for n, number, *shares in zip(points, x, *recalls.values(), strict=True):
                points_of.append([name, n, round(number, 1), *(round(share, 4) for share in shares)])
            for threshold in DRAWN_THRESHOLDS:
                curves[f"{name}, IoU {threshold}"] = (x, recalls[threshold])
        recall_names = [f"recall@{threshold}" for threshold in IOU_THRESHOLDS]
        header = ["method", "budget", "boxes", *recall_names, "AR", "ABO", "MABO", "seconds"]
        curve_header = ["method", "proposals", "boxes", *recall_names]
        for file_name, lines in (("table.csv", [header, *rows]), ("curve.csv", [curve_header, *points_of])):
            with (folder / file_name).open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(lines)
        plot_recall(curves, folder / "recall.png", x_label="proposals per image", title=protocol)
        print(protocol)
        width = max(12, *(len(method) + 2 for method in chosen))
        print(f"{header[0]:{width}}{header[1]:>7}{header[2]:>9}" + "".join(f"{title:>11}" for title in header[3:]))
        for row in rows:
            print(f"{row[0]:{width}}{row[1]:>7}{row[2]:9.0f}" + "".join(f"{value:11.3f}" for value in row[3:]))
    print(final_path(folder))


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a comma-separated list, rising."""
    try:
        numbers = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise UserError(f"--budgets {text!r}: whole numbers from 1 up, with commas between, as 100,500,2000")
    return tuple(numbers)


def _truths(dataset: Dataset, count: int, include_ignored: bool) -> tuple[list[Any], Any]:
    """Boxes ``(M, 4)`` of each image that count as truths, and the labels ``(T,)`` of all of them in that order."""
    import numpy as np

    boxes, labels = [], [np.zeros(0, np.int64)]
    for i in range(count):
        truth = dataset[i].ground_truth
        counts = np.full(len(truth), True) if include_ignored else ~(truth.ignore | truth.crowd)
        boxes.append(truth.boxes[counts])
        labels.append(truth.labels[counts])
    return boxes, np.concatenate(labels)


def _boxes(dataset: Dataset, count: int, runner: MethodRunner) -> dict[str, tuple[list[Any], float]]:
    """The boxes ``(N, 4)`` of each image, best first, by each method, and its seconds; every image is read once."""
    boxes: dict[str, list[Any]] = {method: [] for method in runner.methods}
    seconds = dict.fromkeys(boxes, 0.0)
    with progress("proposing", count, "image") as advance:
        runner.propose(dataset.read(0))  # so that what is done once only is in no method's seconds
        for i in range(count):
            for name, (found, spent) in runner.propose(dataset.read(i)).items():
                boxes[name].append(found.boxes)
                seconds[name] += spent
            advance()
    return {name: (found, seconds[name]) for name, found in boxes.items()}
