"""The ``check-data`` verb."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands.console import FAILED, SKIPPED, log, progress
from detector.commands.options import results_option
from detector.shown import one_line
from proposals.errors import UserError

if TYPE_CHECKING:
    from detector.data.check import CheckedSplit, CheckReport

_CLASSES_SHOWN = 30
_CELL = 320  # pixels a side of each image on a sheet


def check_data(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data set: VOC, COCO, ILSVRC DET or YOLO layout.")],
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Splits to check, such as train+val.", show_default="all splits")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Class names with commas between, or a file with one per line.", show_default="all"
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Image folder, if it is not where the format has it.")
    ] = None,
    out: Annotated[Path | None, results_option("check-data")] = None,
    json_only: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
    sheet: Annotated[int, typer.Option(min=0, metavar="N", help="Images on each split's contact sheet; 0: none.")] = 24,
    show: Annotated[int, typer.Option(min=0, metavar="N", help="Faults to print of each kind.")] = 5,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Threads that read images.")] = 4,
) -> None:
    """Read a data set once, whole, and report everything that is wrong with it.

    Every annotation and every image is read. The result is a new folder with
    [bold]check.json[/bold] (all faults by file, class histogram, box sizes) and
    [bold]sheet-<split>.jpg[/bold] (images with their boxes: look at it!).

    Exit code 0: nothing has to be left out. 3: training works, but some images or boxes
    are left out. 1: a split has nothing to train on, or this is no data set.

    [bold]Example:[/bold] detector check-data photos/
    """
    from detector.data.check import check_dataset
    from detector.runs.folder import final_path, new_run_folder, refuse_occupied
    from detector.shown import json_text, path_part

    refuse_occupied(out)
    wanted = _class_list(classes)
    settings = {"data": data, "split": split, "classes": wanted, "images": images}
    with new_run_folder(out, "check-data", settings) as folder:
        bar = partial(progress, "reading", unit="image")
        report = check_dataset(data, split, wanted, images=images, workers=workers, progress=bar)
        content = report.to_json()
        text = json_text(content, indent=2)
        (folder / "check.json").write_text(f"{text}\n", encoding="utf-8")
        for part in report.splits:
            _write_sheet(folder / f"sheet-{path_part(part.name or 'all')}.jpg", part, report, sheet)
        final = final_path(folder)
    if json_only:
        print(text)
    else:
        _print_report(report, content, show)
        log(f"the report is in {final}")
    if report.stops_training:
        raise typer.Exit(FAILED)
    if report.left_out:
        raise typer.Exit(SKIPPED)


def _class_list(given: str | None) -> list[str] | None:
    if given is None:
        return None
    if os.path.isfile(given):  # noqa: PTH113 - a long list of names is no path, and no error either
        from detector.data.paths import read_lines

        return read_lines(Path(given))
    names = [name.strip() for name in given.split(",")]
    if not all(names):
        raise UserError(f"--classes {given!r}: an empty name; write e.g. cat,dog or the name of a file")
    return names


def _write_sheet(path: Path, part: CheckedSplit, report: CheckReport, count: int) -> None:
    import numpy as np
    from PIL import Image

    from detector.data.check import sample
    from detector.images.pixels import write_picture
    from detector.images.read import read_image
    from detector.report.drawing import draw_sheet, draw_truth

    dataset = part.dataset
    chosen = sample(part, count)
    if dataset is None or not chosen:
        return
    faulty = {fault.file: fault.kind for fault in report.faults}
    pictures, captions = [], []
    for i in chosen:
        record = dataset[i]
        drawn = draw_truth(read_image(record.path), record.ground_truth, dataset.class_names, min_side=_CELL)
        small = Image.fromarray(drawn)
        small.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)  # at once: all of them in full would fill the memory
        pictures.append(np.asarray(small))
        kind = faulty.get(str(record.path))
        captions.append(f"{record.image_id} ({kind})" if kind else record.image_id)
    write_picture(path, draw_sheet(pictures, captions, columns=6, cell=_CELL))


def _print_report(report: CheckReport, content: dict[str, Any], show: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from detector.data.faults import EFFECTS, summarise_faults

    console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
    console.print(one_line(f"{report.path}: {report.format}, {report.pictures} images read"))
    table = Table("split", box=None)
    for heading in ("images", "good", "without boxes", "boxes", "median box", "small", "medium", "large"):
        table.add_column(heading, justify="right")
    for name, numbers in content["splits"].items():
        boxes, pictures = numbers["boxes"], numbers["images"]
        median = f"{boxes['width']['p50']:g} x {boxes['height']['p50']:g}" if boxes["count"] else "-"
        cells = [pictures["count"], numbers["good_pictures"], pictures["without_boxes"], boxes["count"], median]
        table.add_row(one_line(name) or "all", *(str(cell) for cell in (*cells, *boxes["small_medium_large"])))
    console.print(table)
    _print_histogram(console, content)
    for kind, count in content["fault_counts"].items():
        console.print(Text.assemble((kind, "bold"), f": {count}, {EFFECTS[kind]}"))
        for fault in [fault for fault in report.faults if fault.kind == kind][:show]:
            console.print(f"  {one_line(_place_and_message(fault.file, fault.message))}")
        if count > show:
            console.print(f"  ... and {count - show} more, in check.json")
    console.print(summarise_faults(report.faults))


def _place_and_message(file: str, message: str) -> str:
    return message if file in message else f"{file}: {message}"


def _print_histogram(console: Any, content: dict[str, Any]) -> None:
    """Boxes of each class in all splits together (the first of overlapping ones), commonest first, with a bar."""
    from rich.table import Table

    splits = list(content["splits"].values())
    if not splits:
        return
    table = Table("class", box=None)
    for name in content["splits"]:
        table.add_column(one_line(f"boxes in {name}") if name else "boxes", justify="right")
    table.add_column("")
    rows = [(name, [split["classes"][name]["boxes"] for split in splits]) for name in splits[0]["classes"]]
    rows.sort(key=lambda row: -max(row[1]))
    most = max((max(counts) for _, counts in rows), default=0) or 1
    for name, counts in rows[:_CLASSES_SHOWN]:
        table.add_row(one_line(name), *map(str, counts), "#" * round(20 * max(counts) / most))
    console.print(table)
    if len(rows) > _CLASSES_SHOWN:
        console.print(f"... and {len(rows) - _CLASSES_SHOWN} more classes, in check.json")
