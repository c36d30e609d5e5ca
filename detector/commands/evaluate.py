"""``detector evaluate``: how good are detections, or a model, on an annotated data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.options import (
    MODELS_OWN,
    DetectionFile,
    Device,
    HelpAll,
    MeasuredSplit,
    Metric,
    ModelFolder,
    OnErrorWord,
    OnFault,
    ResumeWord,
    ShardWord,
    image_side_option,
    looks_option,
    members_option,
    rare,
    results_option,
    side_option,
)


def evaluate(
    data: Annotated[Path, typer.Option(metavar="DATA", help="Annotated data set: VOC, COCO, ILSVRC DET or YOLO.")],
    model: ModelFolder = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure these instead of a model's: a run folder, detections.jsonl, CSV, COCO results, the VOC "
            "devkit's files or an ILSVRC submission.",
        ),
    ] = None,
    metric: Annotated[
        Metric | None,
        typer.Option(
            metavar="NAME",
            help="voc07, voc10, coco or ilsvrc_det: mean AP; regions or images: accuracy of the networks on annotated "
            "objects or whole images.",
            show_default="the data set's own",
        ),
    ] = None,
    split: MeasuredSplit = None,
    images: Annotated[
        Path | None, rare("Data", "Image folder, if it is not where the format has it.", metavar="DIR")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    out: Annotated[Path | None, results_option("evaluate")] = None,
    bootstrap: Annotated[
        int, rare("Metric", "Bootstrap samples for the intervals; 0: none.", min=0, metavar="N")
    ] = 1000,
    seed: Annotated[int, rare("Metric", "Random seed for resampling and proposal ranking.", min=0)] = 0,
    crops: Annotated[
        str,
        rare("Metric", "For regions and images: crops of each whose probabilities are averaged.", metavar="1|10|144"),
    ] = "1",
    format: Annotated[
        DetectionFile | None, rare("Data", "Format of the detections.", show_default="by the file's name")
    ] = None,
    image_list: Annotated[
        Path | None, rare("Data", "For an ILSVRC submission: the kit's list, lines 'name number'.", metavar="FILE")
    ] = None,
    invalid: Annotated[
        OnFault, rare("Data", "If a detection has a bad score or box: fail, or skip it and count it.")
    ] = "error",
    unknown_classes: Annotated[
        OnFault, rare("Data", "If the data set lacks a class: fail, or skip its detections.")
    ] = "error",
    score_threshold: Annotated[
        float, rare("Model", "With a model: minimum score of a detection; AP needs low ones.", min=0, max=1)
    ] = 0.01,
    max_detections: Annotated[
        int | None,
        rare("Model", "With a model: maximum number of detections per image.", min=1, show_default=MODELS_OWN),
    ] = None,
    image_side: Annotated[int | None, image_side_option("Model")] = None,
    search_side: Annotated[int | None, side_option("Model")] = None,
    members: Annotated[int | None, members_option("Model")] = None,
    looks: Annotated[int | None, looks_option("Model")] = None,
    exact: Annotated[
        bool, rare("Model", "With a model: all networks look at all regions, also of a cascade.", "--exact")
    ] = False,
    first: Annotated[
        int | None,
        rare(
            "Data",
            "Use only the first N images.",
            min=1,
            metavar="N",
            show_default="all, or those of the run that --detections names",
        ),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str,
        rare(
            "Model",
            "With a model: what its networks compute in: float32, bfloat16, float16, int8, or auto: the fastest of the "
            "device.",
        ),
    ] = "auto",
    on_error: OnErrorWord = "fail",
    shard: ShardWord = None,
    resume: ResumeWord = None,
    help_all: HelpAll = False,
) -> None:
    """Measure a model, or detections from a file, on an annotated data set.

    The result is a new folder: [bold]evaluation.json[/bold], numbers with intervals;
    [bold]per_class.csv[/bold]; with a model [bold]detections.jsonl[/bold]. With --metric regions
    or images it is [bold]classification.json[/bold], top-1 and top-5.

    [bold]Example:[/bold] detector evaluate --data VOCdevkit --split 2007/test --metric voc07 --report
    """
    options = {name: value for name, value in locals().items() if name != "help_all"}
    names = ("score_threshold", "max_detections", "image_side", "search_side", "members", "looks", "exact")
    looking = {name: options.pop(name) for name in names}
    from detector.commands.evaluate_job import EvaluateRequest, run_evaluation

    lines, code = run_evaluation(EvaluateRequest(**options, looking=looking))
    for line in lines:
        typer.echo(line)
    raise typer.Exit(code)
