"""The ``evaluate-proposals`` verb: recall, AR, ABO and MABO of proposal methods by number of proposals."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands.console import progress
from proposals.errors import UserError

if TYPE_CHECKING:
    from detector.data.dataset import Dataset
    from proposals.types import ProposalSource

TABLE_BUDGETS = (100, 500, 1000, 2000)
CURVE_BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 350, 500, 700, 1000, 1400, 2000, 3000, 5000, 7000, 10000)
ALL = 10**9
IOU_THRESHOLDS = (0.5, 0.7)


def evaluate_proposals(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A data set in any layout that is recognised.")],
    methods: Annotated[
        str, typer.Option(metavar="NAMES", help="Selective search presets, with commas between.")
    ] = "single,fast,googlenet",
    split: Annotated[str | None, typer.Option(metavar="SPLIT", help="The part of the data set.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N images.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the chance in the ranking.")] = 0,
    include_ignored: Annotated[
        bool, typer.Option("--include-ignored", help="Count ignored (VOC: difficult) and crowd boxes as truths too.")
    ] = False,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Read proposals from this store, and add what is missing.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="New or empty folder.", show_default="runs/evaluate-proposals-<date>-<time>"),
    ] = None,
) -> None:
    """Measure how well proposals cover the annotated objects of a data set.

    Prints recall at IoU 0.5 and 0.7 and AR (all annotated boxes pooled), ABO (pooled) and
    MABO (mean over classes) of the best 100, 500, 1000, 2000 and all proposals of each image;
    writes them as [bold]table.csv[/bold] and draws recall by number of proposals as [bold]recall.png[/bold].

    [bold]Example:[/bold] detector evaluate-proposals --data VOC2007 --methods single,fast,googlenet
    """
    from detector.data import load_dataset
    from detector.report.plots import plot_recall
    from detector.run_folder import final_path, new_run_folder, refuse_occupied
    from proposals import recall as measure
    from proposals.selective_search import SelectiveSearch
    from proposals.store import ProposalStore

    refuse_occupied(out)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise UserError("--methods needs at least one name, each only once")
    sources: dict[str, ProposalSource] = {}
    for name in names:
        search = SelectiveSearch(name, seed)
        sources[name] = search if store is None else ProposalStore(store, search.settings(), search)
    dataset = load_dataset(data, split)
    count = min(len(dataset), limit or len(dataset))
    truths, labels = _truths(dataset, count, include_ignored)
    if not len(labels):
        raise UserError(f"{data}: no annotated box to measure against in these {count} images")
    which = "all annotated boxes" if include_ignored else "annotated boxes that are neither ignored nor crowds"
    protocol = f"{dataset.name}: {len(labels):,} {which}, {len(set(labels.tolist()))} classes, {count:,} images"
    budgets = (*TABLE_BUDGETS, ALL)
    settings = {"data": data, "split": split, "limit": limit, "methods": names, "include_ignored": include_ignored}
    with new_run_folder(out, "evaluate-proposals", settings, seed) as folder:
        rows: list[list[Any]] = []
        curves: dict[str, tuple[list[float], list[float]]] = {}
        for name, boxes in _boxes(dataset, count, sources).items():
            overlaps = measure.best_overlaps(boxes, truths, budgets)
            columns = (
                measure.mean_number(boxes, budgets),
                *(measure.recall(overlaps, threshold) for threshold in IOU_THRESHOLDS),
                measure.average_recall(overlaps),
                measure.average_best_overlap(overlaps),
                measure.mean_average_best_overlap(overlaps, labels),
            )
            for i, budget in enumerate(budgets):
                shown = "all" if budget == ALL else str(budget)
                rows.append(
                    [name, shown, round(float(columns[0][i]), 1), *(round(float(c[i]), 4) for c in columns[1:])]
                )
            longest = max(len(b) for b in boxes)
            points = [n for n in CURVE_BUDGETS if n < longest] + [longest or 1]
            by_number = measure.best_overlaps(boxes, truths, points)
            for threshold in IOU_THRESHOLDS:
                x = measure.mean_number(boxes, points).tolist()
                curves[f"{name}, IoU {threshold}"] = (x, measure.recall(by_number, threshold).tolist())
        header = ["method", "budget", "boxes", "recall@0.5", "recall@0.7", "AR", "ABO", "MABO"]
        with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        plot_recall(curves, folder / "recall.png", x_label="proposals per image", log_x=True, title=protocol)
        print(protocol)
        print(f"{header[0]:12}" + "".join(f"{title:>12}" for title in header[1:]))
        for row in rows:
            numbers = "".join(f"{value:12.3f}" for value in row[3:])
            print(f"{row[0]:12}{row[1]:>12}{row[2]:12.0f}{numbers}")
    print(final_path(folder))


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


def _boxes(dataset: Dataset, count: int, sources: dict[str, ProposalSource]) -> dict[str, list[Any]]:
    """The boxes ``(N, 4)`` of each image, best first, by each method; every picture is read once."""
    from detector.images import read_image

    boxes: dict[str, list[Any]] = {name: [] for name in sources}
    with progress("proposing", count, "picture") as advance:
        for i in range(count):
            image = read_image(dataset[i].path)
            for name, source in sources.items():
                boxes[name].append(source.propose(image).boxes)
            advance()
    return boxes
