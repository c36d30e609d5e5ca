"""``detector evaluate``: how good are detections, or a model, on an annotated data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.commands.console import OnError
from detector.commands.evaluate_options import Format, Metric, OnFault
from detector.commands.help_all import HelpAll
from detector.commands.resume import ResumeWord, ShardWord


def evaluate(
    data: Annotated[
        Path, typer.Option(metavar="DATA", help="Annotated data set: VOC, COCO, ILSVRC DET, Tiny-ImageNet or YOLO.")
    ],
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Model directory to run.", show_default="the bundled model")
    ] = None,
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
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Split of the data set.", show_default="val, or else test")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Image folder, if it is not where the format has it.", rich_help_panel="Data"),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="New or empty folder.", show_default="runs/evaluate-<date>-<time>"),
    ] = None,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Bootstrap samples for the intervals; 0: none.", rich_help_panel="Metric"
        ),
    ] = 1000,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed for resampling and proposal ranking.", rich_help_panel="Metric")
    ] = 0,
    crops: Annotated[
        str,
        typer.Option(
            metavar="1|10|144",
            help="For regions and images: crops of each whose probabilities are averaged.",
            rich_help_panel="Metric",
        ),
    ] = "1",
    format: Annotated[
        Format | None,
        typer.Option(help="Format of the detections.", show_default="by the file's name", rich_help_panel="Data"),
    ] = None,
    image_list: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For an ILSVRC submission: the kit's list, lines 'name number'.",
            rich_help_panel="Data",
        ),
    ] = None,
    invalid: Annotated[
        OnFault,
        typer.Option(
            help="If a detection has a bad score or box: fail, or skip it and count it.", rich_help_panel="Data"
        ),
    ] = OnFault.error,
    unknown_classes: Annotated[
        OnFault,
        typer.Option(help="If the data set lacks a class: fail, or skip its detections.", rich_help_panel="Data"),
    ] = OnFault.error,
    score_threshold: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="With a model: minimum score of a detection; AP needs low ones.", rich_help_panel="Model"
        ),
    ] = 0.01,
    max_detections: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With a model: maximum number of detections per image.",
            show_default="the model's own",
            rich_help_panel="Model",
        ),
    ] = None,
    search_side: Annotated[
        int | None,
        typer.Option(
            min=16,
            metavar="PIXELS",
            help="With a model: resize the longer side to N pixels for proposal search.",
            show_default="the model's own",
            rich_help_panel="Model",
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            min=1, help="With a model: use only its first N networks.", show_default="all", rich_help_panel="Model"
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="With a model: all networks look at all regions, also of a cascade.",
            rich_help_panel="Model",
        ),
    ] = False,
    first: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Use only the first N images.",
            show_default="all, or those of the run that --detections names",
            rich_help_panel="Data",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="With a model: auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="With a model: floating-point precision of its networks: float32, bfloat16, float16, or auto: the "
            "fastest that the device has instructions for.",
            rich_help_panel="Model",
        ),
    ] = "auto",
    on_error: Annotated[
        OnError,
        typer.Option(
            help="If an image cannot be read: fail, or skip it and exit with code 3.", rich_help_panel="Long runs"
        ),
    ] = OnError.fail,
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
    from detector.commands.evaluate_job import EvaluateRequest, run_evaluation

    lines, code = run_evaluation(EvaluateRequest(**options))
    for line in lines:
        typer.echo(line)
    raise typer.Exit(code)
