"""``detector detect``: images and videos in, a run folder with what was found out."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from detector.commands.console import SKIPPED, Faults, log, nothing_is_garbage
from detector.commands.options import (
    MODELS_OWN,
    Device,
    HelpAll,
    ModelFolder,
    OnErrorWord,
    ResumeWord,
    ShardWord,
    image_side_option,
    looks_option,
    may_go_on,
    members_option,
    rare,
    results_option,
    side_option,
)
from proposals.errors import UserError


class Format(str, Enum):
    """Files that the detections are written to; an Enum, for typer takes no list of literals."""

    jsonl = "jsonl"
    coco = "coco"
    csv = "csv"
    voc = "voc"
    yolo = "yolo"
    labelstudio = "labelstudio"
    parquet = "parquet"


def detect(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Images, folders, patterns, videos, .tar or .parquet files, lists of them (.txt), or - for standard "
            "input: an image's bytes or a list.",
        ),
    ],
    model: ModelFolder = None,
    score_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Minimum score of a detection.", show_default=MODELS_OWN)
    ] = None,
    nms_threshold: Annotated[
        float | None,
        rare(
            "Detections",
            "Of two boxes of one class with a greater IoU, the better stays; also in place of a model's soft "
            "suppression.",
            min=0,
            max=1,
            show_default=f"{MODELS_OWN}, commonly 0.3",
        ),
    ] = None,
    max_detections: Annotated[
        int | None, rare("Detections", "Maximum number of detections per image.", min=1, show_default=MODELS_OWN)
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Detect only this class; repeatable.", show_default="all"),
    ] = None,
    proposals: Annotated[
        str | None,
        rare(
            "Proposals",
            "Preset of selective search (single, fast, quality or googlenet), or multibox: the model's MultiBox alone, "
            "which is faster.",
            metavar="PRESET",
            show_default=MODELS_OWN,
        ),
    ] = None,
    members: Annotated[int | None, members_option("Speed")] = None,
    looks: Annotated[int | None, looks_option("Speed")] = None,
    exact: Annotated[
        bool, rare("Speed", "All networks look at all regions, also of a model that is a cascade: slower.", "--exact")
    ] = False,
    workers: Annotated[
        int,
        rare(
            "Speed",
            "Of several images, process N at once, with one core each; 0: as many as there are cores.",
            min=0,
            metavar="N",
        ),
    ] = 0,
    no_multibox: Annotated[
        bool, rare("Proposals", "Do not use the model's MultiBox proposals.", "--no-multibox")
    ] = False,
    image_side: Annotated[int | None, image_side_option("Speed")] = None,
    search_side: Annotated[int | None, side_option("Proposals")] = None,
    max_proposals: Annotated[
        int | None, rare("Proposals", "Classify at most N proposals per image.", min=1, show_default=MODELS_OWN)
    ] = None,
    seed: Annotated[int, rare("Proposals", "Random seed for proposal ranking.", min=0)] = 0,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16", "int8"],
        rare("Speed", "What the networks compute in; auto: the fastest of the device."),
    ] = "auto",
    runtime: Annotated[
        Literal["auto", "torch", "onnx", "openvino"],
        rare("Speed", "Runtime of the networks: torch; onnx or openvino of an exported model; auto: what it has."),
    ] = "torch",
    on_error: OnErrorWord = "fail",
    out: Annotated[Path | None, results_option("detect")] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Also write this format; repeatable.", show_default="detections.jsonl only"),
    ] = None,
    pictures: Annotated[
        bool | None,
        rare(
            "Output",
            "Write each image with its detections drawn in.",
            "--pictures/--no-pictures",
            show_default="yes, but with --engine ray no",
        ),
    ] = None,
    proposal_pictures: Annotated[
        bool,
        rare(
            "Output", "Also write each image with its proposals drawn in, one colour per source.", "--proposal-pictures"
        ),
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Open the image with its detections, or the folder of them, at the end.")
    ] = False,
    frame_step: Annotated[int, rare("Speed", "Process every N-th frame of a video.", min=1, metavar="N")] = 1,
    profile: Annotated[bool, rare("Speed", "Show where the time goes, by stage.", "--profile")] = False,
    shard: ShardWord = None,
    resume: ResumeWord = None,
    engine: Annotated[
        Literal["local", "ray"],
        rare("Long runs", "local: this process; ray: Ray Data, on this machine or a cluster."),
    ] = "local",
    address: Annotated[
        str | None,
        rare(
            "Long runs",
            "Ray cluster to join, or auto.",
            metavar="HOST:PORT",
            show_default="$RAY_ADDRESS, or this machine",
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
    from detector.commands.formats import write_formats
    from detector.commands.inputs import ArchiveInput, VideoInput, find_inputs
    from detector.images.archives import import_arrow
    from detector.runs.folder import final_path, holds_results, new_run_folder
    from detector.runs.shards import Shard

    part = None if shard is None else Shard.parse(shard)
    going_on = may_go_on(resume, out)
    on_ray = engine == "ray"
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
    faults = Faults(skip=on_error == "skip")
    found = find_inputs(inputs, faults, video_step=frame_step)
    if not found:
        raise UserError("nothing to detect in: every input was skipped; name images, a folder or a video")
    if part is not None and part.index > 1:  # every shard finds the same ones in the list; the first counts them
        faults = Faults(faults.skip)

    with nothing_is_garbage():
        from detector.commands import detection_run as run
        from detector.commands.detect_ray import detect_all_on_ray, join_cluster
        from detector.model.load import choose_device, load_model

        cluster = join_cluster(address) if on_ray else None  # while the model is loaded
        pace = run.pace_of(len(found) > 1 or isinstance(found[0], VideoInput | ArchiveInput), device)
        how: dict[str, Any] = {"device": device, "seed": seed}
        load = partial(
            load_model, model, **how, precision=precision, score_threshold=score_threshold, nms_threshold=nms_threshold,
            max_detections=max_detections, classes=classes or None, proposals=proposals, search_side=search_side,
            max_proposals=max_proposals, multibox=not no_multibox, image_side=image_side, members=members, looks=looks,
            exact=exact, runtime=runtime, threads=None if pace == "alone" else 1,
        )  # fmt: skip
        detector = load()
    config: dict[str, Any] = {
        "inputs": inputs,
        "model": model or "bundled",
        "members": members,
        "looks": looks,
        "exact": exact,
        "classes": "all" if detector.labels is None else [detector.class_names[label] for label in detector.labels],
        "device": device,
        "precision": precision,
        "runtime": getattr(detector.classifier, "runtime", "torch"),
        "postprocess": detector.config,
        "image_side": image_side,
        "proposals": run.settings_of(detector),
        "formats": wanted,
        "pictures": pictures,
        "proposal_pictures": proposal_pictures,
        "on_error": on_error,
        "frame_step": frame_step,
    }
    run.introduce(model, detector, str(choose_device(device)))
    job = run.job_of("detect", found, config, model, detector, **how, shard=part)
    folder = None
    try:
        with new_run_folder(out, "detect", config, seed, keep_unfinished=True, resume=going_on) as folder:
            with run.journaled(folder, job, faults) as journal:
                own = found[job.positions.start : job.positions.stop]
                if cluster is not None:
                    tally = detect_all_on_ray(own, load, journal, faults, cluster)
                else:
                    drawn = {"pictures": pictures, "proposal_pictures": proposal_pictures}
                    tally = run.detect_all(own, detector, journal, faults, **drawn, pace=pace, workers=workers)
            if part is None:
                if not tally.pictures:
                    raise UserError("nothing was detected in: every input was skipped; the lines above say why")
                write_formats(folder, wanted, detector.class_names, detector.class_keys, faults.told)
    except KeyboardInterrupt:
        if folder is not None and folder.exists() and holds_results(folder):
            log(f"what was finished is in {folder}; the same command with --resume goes on")
        raise
    tally.show(out or final_path(folder), faults.count)
    if profile:
        tally.show_stages(detector.stages.seconds)
    if show:
        run.show_images(out or final_path(folder))
    raise typer.Exit(SKIPPED if faults.count else 0)
