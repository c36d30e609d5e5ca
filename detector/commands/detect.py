"""``detector detect``: images and videos in, a run folder with what was found out."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from detector.commands.console import SKIPPED, Faults, OnError, say
from detector.commands.help_all import HelpAll
from detector.commands.resume import ResumeWord, ShardWord, may_go_on
from proposals.errors import UserError


class Format(str, Enum):
    """Files that the detections are written to."""

    jsonl = "jsonl"
    coco = "coco"
    csv = "csv"
    voc = "voc"
    yolo = "yolo"
    labelstudio = "labelstudio"
    parquet = "parquet"


class Engine(str, Enum):
    """What runs the detector."""

    local = "local"
    ray = "ray"


class Precision(str, Enum):
    """What the region classifiers compute in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Runtime(str, Enum):
    """What runs the region classifiers; auto is what is installed and the model has graphs for."""

    auto = "auto"
    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


def detect(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Images, folders, patterns, videos, .tar or .parquet files, lists of them (.txt), or - for standard "
            "input: an image's bytes or a list.",
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Model directory.", show_default="the bundled model")
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Minimum score of a detection.", show_default="the model's own"),
    ] = None,
    nms_threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Of two boxes of one class with a greater IoU, the better stays; also in place of a model's soft "
            "suppression.",
            show_default="the model's own, commonly 0.3",
            rich_help_panel="Detections",
        ),
    ] = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of detections per image.",
            show_default="the model's own",
            rich_help_panel="Detections",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Detect only this class; repeatable.", show_default="all"),
    ] = None,
    proposals: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET",
            help="Preset of selective search (single, fast, quality or googlenet), or multibox: the model's MultiBox "
            "alone, which is faster.",
            show_default="the model's own",
            rich_help_panel="Proposals",
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Use only the model's first N networks; fewer are faster.",
            show_default="all",
            rich_help_panel="Speed",
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="All networks look at all regions, also of a model that is a cascade: slower.",
            rich_help_panel="Speed",
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Of several images, process N at once on a CPU, with one core each; 0: as many as there are cores.",
            rich_help_panel="Speed",
        ),
    ] = 0,
    no_multibox: Annotated[
        bool,
        typer.Option("--no-multibox", help="Do not use the model's MultiBox proposals.", rich_help_panel="Proposals"),
    ] = False,
    search_side: Annotated[
        int | None,
        typer.Option(
            min=16,
            metavar="PIXELS",
            help="Resize the longer side to N pixels for proposal search; smaller is faster.",
            show_default="the model's own",
            rich_help_panel="Proposals",
        ),
    ] = None,
    max_proposals: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Classify at most N proposals per image.",
            show_default="the model's own",
            rich_help_panel="Proposals",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed for proposal ranking.", rich_help_panel="Proposals")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.")] = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            help="Floating-point precision of the networks; auto: the fastest that the device has instructions for.",
            rich_help_panel="Speed",
        ),
    ] = Precision.auto,
    runtime: Annotated[
        Runtime,
        typer.Option(
            help="Runtime of the networks: torch; onnx or openvino of an exported model; auto: what it has.",
            rich_help_panel="Speed",
        ),
    ] = Runtime.torch,
    on_error: Annotated[
        OnError,
        typer.Option(
            help="If an image or a video frame cannot be read: fail, or skip it and exit with code 3.",
            rich_help_panel="Long runs",
        ),
    ] = OnError.fail,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="New or empty folder for the results.", show_default="runs/detect-<date>-<time>"
        ),
    ] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            help="Also write this format; repeatable.",
            show_default="detections.jsonl only",
        ),
    ] = None,
    pictures: Annotated[
        bool | None,
        typer.Option(
            "--pictures/--no-pictures",
            help="Write each image with its detections drawn in.",
            show_default="yes, but with --engine ray no",
            rich_help_panel="Output",
        ),
    ] = None,
    proposal_pictures: Annotated[
        bool,
        typer.Option(
            "--proposal-pictures",
            help="Also write each image with its proposals drawn in, one colour per source.",
            rich_help_panel="Output",
        ),
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Open the image with its detections, or the folder of them, at the end.")
    ] = False,
    frame_step: Annotated[
        int, typer.Option(min=1, metavar="N", help="Process every N-th frame of a video.", rich_help_panel="Speed")
    ] = 1,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the time goes, by stage.", rich_help_panel="Speed")
    ] = False,
    shard: ShardWord = None,
    resume: ResumeWord = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="local: this process; ray: Ray Data, on this machine or a cluster.", rich_help_panel="Long runs"
        ),
    ] = Engine.local,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Ray cluster to join, or auto.",
            show_default="$RAY_ADDRESS, or this machine",
            rich_help_panel="Long runs",
        ),
    ] = None,
    help_all: HelpAll = False,
) -> None:
    """Find objects in images and videos.

    The results are a new folder: [bold]detections.jsonl[/bold], one line per image;
    [bold]pictures/[/bold], the images with boxes; [bold]config.yaml[/bold], every setting.
    Nothing that exists is overwritten. An interrupted run goes on with --resume.

    [bold]Example:[/bold] detector detect holiday/ cat.jpg --score-threshold 0.5 --out found
    """
    from detector.commands.detection_files import JSONL_FILE
    from detector.commands.formats import write_formats
    from detector.commands.inputs import ArchiveInput, VideoInput, find_inputs
    from detector.images.archives import import_arrow
    from detector.runs.folder import final_path, holds_results, new_run_folder
    from detector.runs.journal import open_journal
    from detector.runs.shards import Shard

    part = None if shard is None else Shard.parse(shard)
    going_on = may_go_on(resume, out)
    on_ray = engine is Engine.ray
    if on_ray and (pictures or proposal_pictures):
        raise UserError("--engine ray draws no images: leave out --pictures and --proposal-pictures")
    if on_ray and workers:
        raise UserError("--workers is for this process alone; with --engine ray, Ray takes all of its cores")
    if on_ray and device.startswith("cuda:"):
        raise UserError(f"--device {device}: with --engine ray, Ray gives each process its GPU; name cuda")
    if address is not None and not on_ray:
        raise UserError("--address is of a Ray cluster: give --engine ray, too")
    pictures = not on_ray if pictures is None else pictures
    if show and not pictures:
        raise UserError("--show opens the images with detections; leave --no-pictures out")
    wanted = sorted({"jsonl", *(choice.value for choice in formats or ())})
    if "parquet" in wanted:
        import_arrow()
    faults = Faults(skip=on_error is OnError.skip)
    found = find_inputs(inputs, faults, video_step=frame_step)
    if not found:
        raise UserError("nothing to detect in: every input was skipped; name images, a folder or a video")
    if part is not None and part.index > 1:  # every shard finds the same ones in the list; the first counts them
        faults = Faults(faults.skip)

    from detector.commands.detect_ray import detect_all_on_ray, join_cluster

    cluster = join_cluster(address) if on_ray else None  # while the model is loaded
    from detector.commands.detect_run import detect_all, introduce, settings_of, show_images
    from detector.commands.detection_run import job_of, one_at_a_time
    from detector.model.load import choose_device, load_model

    given: dict[str, Any] = {
        "score_threshold": score_threshold,
        "nms_threshold": nms_threshold,
        "max_detections": max_detections,
        "classes": classes or None,
        "proposals": proposals,
        "search_side": search_side,
        "members": members,
        "exact": exact or None,
        "max_proposals": max_proposals,
        "multibox": False if no_multibox else None,
        "runtime": None if runtime is Runtime.torch else runtime.value,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    alone = one_at_a_time(len(found) > 1 or isinstance(found[0], VideoInput | ArchiveInput), device)
    if not alone:
        settings["threads"] = 1
    how: dict[str, Any] = {"device": device, "precision": precision.value, "seed": seed}
    detector = load_model(model, **how, **settings)
    config = {
        "inputs": inputs,
        "model": model or "bundled",
        "members": members,
        "exact": exact,
        "classes": "all" if detector.labels is None else [detector.class_names[label] for label in detector.labels],
        "device": device,
        "precision": precision,
        "runtime": getattr(detector.classifier, "runtime", "torch"),
        "postprocess": detector.config,
        "proposals": settings_of(detector),
        "formats": wanted,
        "pictures": pictures,
        "proposal_pictures": proposal_pictures,
        "on_error": on_error,
        "frame_step": frame_step,
    }
    introduce(model, detector, str(choose_device(device)))
    job = job_of(
        "detect",
        found,
        config,
        model,
        detector,
        device=device,
        precision=precision.value,
        seed=seed,
        shard=part,
    )
    folder = None
    try:
        with new_run_folder(out, "detect", config, seed, keep_unfinished=True, resume=going_on) as folder:
            with open_journal(folder, job, JSONL_FILE) as journal:
                faults.told += journal.faults
                own = found[job.positions.start : job.positions.stop]
                if cluster is not None:
                    load = partial(load_model, model, **how, **settings)
                    tally = detect_all_on_ray(own, load, journal, faults, cluster)
                else:
                    tally = detect_all(own, detector, journal, faults, pictures, proposal_pictures, alone, workers)
                journal.finish(faults.told)
            if part is None:
                if not tally.pictures:
                    raise UserError("nothing was detected in: every input was skipped; the lines above say why")
                write_formats(folder, wanted, detector.class_names, detector.class_keys, faults.told)
    except KeyboardInterrupt:
        if folder is not None and folder.exists() and holds_results(folder):
            say(f"what was finished is in {folder}; the same command with --resume goes on")
        raise
    tally.show(out or final_path(folder), faults.count)
    if profile:
        tally.show_stages(detector.stages.seconds)
    if show:
        show_images(out or final_path(folder))
    raise typer.Exit(SKIPPED if faults.count else 0)
