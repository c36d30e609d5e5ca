"""``detector evaluate``: how good are detections, or a model, on an annotated data set."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands.console import SKIPPED, Faults, say
from detector.commands.help_all import HelpAll
from detector.commands.resume import ResumeWord, ShardWord, may_go_on
from detector.shown import shown
from proposals.errors import UserError

if TYPE_CHECKING:
    from detector.commands.evaluate_data import Measured
    from detector.detection.pipeline import Detector
    from detector.evaluation.result import EvaluationResult
    from detector.model.load import Classifier
    from proposals.types import Proposals

_CLASSES_SHOWN = 40


class Metric(str, Enum):
    """Protocols of detection, and accuracy of the classifier on annotated objects or whole images."""

    voc07 = "voc07"
    voc10 = "voc10"
    coco = "coco"
    ilsvrc_det = "ilsvrc_det"
    regions = "regions"
    images = "images"


class Engine(str, Enum):
    """COCO evaluators; the numbers are the same."""

    builtin = "builtin"
    pycocotools = "pycocotools"
    hotcoco = "hotcoco"


class Format(str, Enum):
    """Detection files."""

    jsonl = "jsonl"
    csv = "csv"
    coco = "coco"
    voc = "voc"
    ilsvrc_det = "ilsvrc_det"


class OnFault(str, Enum):
    """What a faulty detection does to the run."""

    error = "error"
    skip = "skip"


class OnError(str, Enum):
    """What an image that cannot be read does to the run."""

    fail = "fail"
    skip = "skip"


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
    engine: Annotated[
        Engine, typer.Option(help="Engine for the COCO metric.", rich_help_panel="Metric")
    ] = Engine.builtin,
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
    device: Annotated[str, typer.Option(help="With a model: auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="Of a model: what its networks compute in: float32, bfloat16, float16, or auto, which is float16 on a "
            "GPU and float32 on a processor.",
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
    from detector.commands.evaluate_data import first_of_run, load_measured, read_for
    from detector.evaluation.assemble import assemble, score
    from detector.runs.folder import final_path, new_run_folder
    from detector.runs.shards import Shard

    if model is not None and detections is not None:
        raise UserError("--model and --detections exclude each other; name one of them")
    if detections is not None and (search_side is not None or members is not None or exact):
        raise UserError("--search-side, --members and --exact are for a model's run; leave them out with --detections")
    classes_only = metric in (Metric.regions, Metric.images)
    if metric is not None and classes_only and (detections is not None or report):
        raise UserError(f"--metric {metric.value} measures a model; leave --detections and --report out")
    if crops not in ("1", "10", "144"):
        raise UserError(f"--crops must be 1, 10 or 144, not {crops}")
    part = None if shard is None else Shard.parse(shard)
    if part is not None and (detections is not None or classes_only or report):
        raise UserError(
            "--shard is for the detections of a model; leave out --detections, --report, and --metric regions or images"
        )
    if resume is not None and part is None:
        raise UserError("--resume needs --shard; 1/1 is the whole data set")
    going_on = may_go_on(resume, out)
    if detections is not None and first is None and (first := first_of_run(detections)) is not None:
        say(f"{detections} holds the first {first} images; only they are counted (--first N for others)")
    measured = load_measured(
        data, split, images, metric.value if metric else None, pictures_needed=detections is None, first=first
    )
    config: dict[str, Any] = {
        "data": data.resolve(),
        "split": measured.split,
        "images": images.resolve() if images else None,
        "metric": measured.metric,
        "model": None if detections else (model or "bundled"),
        "detections": detections.resolve() if detections else "detections.jsonl",
        "format": format,
        "image_list": image_list.resolve() if image_list else None,
        "bootstrap": bootstrap,
        "crops": int(crops),
        "engine": engine,
        "invalid": invalid,
        "unknown_classes": unknown_classes,
        "score_threshold": score_threshold,
        "max_detections": max_detections,
        "search_side": search_side,
        "members": members,
        "exact": exact,
        "first": first,
        "precision": precision,
    }
    faults = Faults(skip=on_error is OnError.skip)
    proposals: dict[str, Proposals] | None = None
    detector: Any = None  # a detector, or for whole images and regions its classifier alone
    if detections is not None:
        table = read_for(
            measured,
            detections,
            format=format.value if format else None,
            image_list=image_list,
            invalid=invalid.value,
            unknown_class=unknown_classes.value,
        )
    else:
        from detector.commands.detection_run import one_at_a_time

        assert measured.dataset is not None
        given = {
            "max_detections": max_detections,
            "search_side": search_side,
            "members": members,
            "exact": exact or None,
        }
        settings = {
            "device": device,
            "precision": precision,
            "seed": seed,
            "score_threshold": score_threshold,
            "threads": None if one_at_a_time(len(measured.dataset) > 1, device) else 1,
            **{name: value for name, value in given.items() if value is not None},
        }
        detector = _load(model, measured, settings, unknown_classes, classes_only)
    if classes_only:
        from detector.commands.evaluate_classes import classify

        assert detector is not None
        assert measured.dataset is not None
        with new_run_folder(out, "evaluate", config, seed=seed) as folder:
            lines = classify(
                detector,
                measured.dataset,
                folder,
                faults,
                whole_images=metric is Metric.images,
                crops=int(crops),
                bootstrap_samples=bootstrap,
                seed=seed,
            )
        for line in [*lines, f"results in {out or final_path(folder)}"]:
            typer.echo(line)
        raise typer.Exit(SKIPPED if faults.count else 0)
    if detector is not None:
        from detector.commands.detection_files import JSONL_FILE
        from detector.commands.evaluate_run import EvaluateRun
        from detector.evaluation.read_files import read_detections

        run = EvaluateRun.of(measured, config, model, detector, device, precision, seed, part)
    if part is not None:
        with new_run_folder(out, "evaluate", config, seed, keep_unfinished=True, resume=going_on) as folder:
            run.detect(folder, faults)
        typer.echo(f"shard {part}: {len(run.own)} images; results in {out or final_path(folder)}")
        raise typer.Exit(SKIPPED if faults.count else 0)
    with new_run_folder(out, "evaluate", config, seed=seed, keep_unfinished=True) as folder:
        if detector is not None:
            proposals = run.detect(folder, faults)
            if faults.count:
                say(f"{faults.count} images were not looked at; their objects count as not found")
            table = read_detections(
                folder / JSONL_FILE,
                measured.class_names,
                class_keys=measured.class_keys,
                unknown_class=unknown_classes.value,
            )
        result = score(
            measured.metric,
            table,
            measured.truth,
            measured.class_names,
            blacklist=measured.blacklist,
            engine=engine.value,
            bootstrap_samples=bootstrap,
            seed=seed,
            faults=measured.faults,
        )
        info = {
            "data": f"{data.name} {measured.split}".strip(),
            "command": " ".join(["detector", *sys.argv[1:]]),
            "created": time.strftime("%Y-%m-%d %H:%M"),
            ("detections" if detections else "model"): str(detections or model or "the bundled model"),
        }
        boxes = None if proposals is None else {name: given.boxes for name, given in proposals.items()}
        evaluation = assemble(result, proposals=boxes, pictures=measured.pictures(proposals), info=info)
        evaluation.save(folder)
        if report:
            from detector.report.write import PAGE, write_report

            text = (folder / "config.yaml").read_text(encoding="utf-8")
            write_report(evaluation, folder / PAGE, config=text)
    for line in summary(result):
        typer.echo(line)
    typer.echo(f"results in {out or final_path(folder)}")
    raise typer.Exit(SKIPPED if faults.count else 0)


def _load(
    model: Path | None, measured: Measured, settings: dict[str, Any], unknown: OnFault, classes_only: bool
) -> Detector | Classifier:
    """The model, once its classes are known to fit the data set; ``settings`` are those of ``load_model``.

    With ``classes_only`` its classifier alone; the model may then be one that names whole images.
    """
    from detector.evaluation.class_index import ClassIndex
    from detector.model.load import load_classifier, load_model

    detector: Detector | Classifier
    if classes_only:
        own = {name: settings[name] for name in ("device", "precision", "members") if name in settings}
        detector = load_classifier(model, **own)
    else:
        detector = load_model(model, **settings)
    classes = ClassIndex(measured.class_names)
    strange = [name for name in detector.class_names if classes.find(name) < 0]
    if len(strange) == len(detector.class_names):
        raise UserError(
            f"the model and the data set have no class in common: {_listed(detector.class_names[:5])}... "
            f"and {_listed(measured.class_names[:5])}...; choose data of the model's classes"
        )
    if strange and unknown is OnFault.error:
        raise UserError(
            f"the data set lacks classes of the model: {_listed(strange[:10])}; leave their detections out with "
            "--unknown-classes skip"
        )
    return detector


def _listed(names: Sequence[str]) -> str:
    return shown(", ".join(names))


def summary(result: EvaluationResult) -> list[str]:
    """The numbers for a terminal, then what was counted."""
    lines = [f"{result.metric}: mean AP {_percent(result.mean_ap)}{_interval(result.interval)}"]
    others = {name: value for name, value in result.numbers.items() if name not in ("mean_ap", "ap")}
    if others:
        lines.append("  ".join(f"{name} {_percent(value)}" for name, value in others.items()))
    names = [shown(row.name) for row in result.classes[:_CLASSES_SHOWN]]
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


def _interval(interval: Any) -> str:
    return "" if interval is None else f" ({_percent(interval.low)} to {_percent(interval.high)})"
