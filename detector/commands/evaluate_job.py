"""What ``detector evaluate`` does once its options are read: detections, from a file or a model, become figures."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.commands.console import SKIPPED, Faults, log
from detector.commands.detection_files import JSONL_FILE
from detector.commands.evaluate_data import Measured, digest_of, first_of_run, load_measured, read_for
from detector.commands.options import DetectionFile, Metric, OnError, OnFault, may_go_on
from detector.evaluation.assemble import assemble, score
from detector.evaluation.class_index import ClassIndex
from detector.evaluation.read_files import read_detections
from detector.evaluation.result import EvaluationResult, Interval
from detector.runs.folder import final_path, new_run_folder
from detector.runs.shards import Job, Shard
from detector.shown import shown
from proposals.errors import UserError
from proposals.types import Proposals

CLASSES_SHOWN = 40


@dataclass(frozen=True)
class EvaluateRequest:
    """The verb's options; see :func:`detector.commands.evaluate.evaluate`.

    ``looking`` are those that decide how a model looks, by the names that ``load_model`` has for them.
    """

    data: Path
    model: Path | None
    detections: Path | None
    metric: Metric | None
    split: str | None
    images: Path | None
    report: bool
    out: Path | None
    bootstrap: int
    seed: int
    crops: str
    format: DetectionFile | None
    image_list: Path | None
    invalid: OnFault
    unknown_classes: OnFault
    looking: Mapping[str, Any]
    first: int | None
    device: str
    precision: str
    on_error: OnError
    shard: str | None
    resume: str | None

    @property
    def classes_only(self) -> bool:
        """Whether the accuracy of the networks is measured, and no detections."""
        return self.metric in ("regions", "images")

    @property
    def part(self) -> Shard | None:
        """The share of the images that is looked at."""
        return None if self.shard is None else Shard.parse(self.shard)


def check(request: EvaluateRequest) -> None:
    """UserError for options that do not go together."""
    given = request.detections is not None
    if request.model is not None and given:
        raise UserError("--model and --detections exclude each other; name one of them")
    sides = request.looking["image_side"] is not None or request.looking["search_side"] is not None
    if given and (sides or any(request.looking[name] for name in ("members", "looks", "exact"))):
        raise UserError(
            "--members, --looks, --exact and the sides are for a model's run; leave them out with --detections"
        )
    if request.classes_only and (sides or request.looking["looks"]):
        raise UserError(f"--metric {request.metric} is of the networks as they are; leave the sides and --looks out")
    if request.classes_only and (given or request.report):
        raise UserError(f"--metric {request.metric} measures a model; leave --detections and --report out")
    if request.crops not in ("1", "10", "144"):
        raise UserError(f"--crops must be 1, 10 or 144, not {request.crops}")
    if request.part is not None and (given or request.classes_only or request.report):
        raise UserError(
            "--shard is for the detections of a model; leave out --detections, --report, and --metric regions or images"
        )
    if request.resume is not None and request.part is None:
        raise UserError("--resume needs --shard; 1/1 is the whole data set")


def run_evaluation(request: EvaluateRequest) -> tuple[list[str], int]:
    """Measure as asked; lines for the terminal, and the exit code.

    Raises:
        UserError: anything the user can mend.
    """
    check(request)
    going_on = may_go_on(request.resume, request.out)
    detections, first = request.detections, request.first
    if detections is not None and first is None and (first := first_of_run(detections)) is not None:
        log(f"{detections} holds the first {first} images; only they are counted (--first N for others)")
    about = request.data, request.split, request.images, request.metric
    measured = load_measured(*about, pictures_needed=detections is None, first=first)
    config = run_config(request, measured, first)
    faults = Faults(skip=request.on_error == "skip")
    lines: list[str] = []
    what = ""
    if request.part is not None:
        job, detect = _detection(request, measured, config, faults)
        with new_run_folder(
            request.out, "evaluate", config, request.seed, keep_unfinished=True, resume=going_on
        ) as folder:
            detect(folder)
        what = f"shard {request.part}: {len(job.positions)} images; "
    else:
        measure = _measure_networks if request.classes_only else _measure_detections
        lines, folder = measure(request, measured, config, faults)
    return [*lines, f"{what}results in {request.out or final_path(folder)}"], SKIPPED if faults.count else 0


def run_config(request: EvaluateRequest, measured: Measured, first: int | None) -> dict[str, Any]:
    """What ``config.yaml`` says of the run."""
    images, detections, image_list = request.images, request.detections, request.image_list
    return {
        "data": request.data.resolve(),
        "split": measured.split,
        "images": images.resolve() if images else None,
        "metric": measured.metric,
        "model": None if detections else (request.model or "bundled"),
        "detections": detections.resolve() if detections else JSONL_FILE,
        "detections_sha256": digest_of(detections, request.format) if detections else None,
        "format": request.format,
        "image_list": image_list.resolve() if image_list else None,
        "bootstrap": request.bootstrap,
        "crops": int(request.crops),
        "invalid": request.invalid,
        "unknown_classes": request.unknown_classes,
        **request.looking,
        "first": first,
        "precision": request.precision,
    }


def _measure_networks(
    request: EvaluateRequest, measured: Measured, config: dict[str, Any], faults: Faults
) -> tuple[list[str], Path]:
    """The accuracy of a model's networks on annotated objects or whole images: lines, and the run folder."""
    from detector.commands.evaluate_classes import classify
    from detector.model.load import load_classifier

    assert measured.dataset is not None
    model = load_classifier(
        request.model, device=request.device, members=request.looking["members"], precision=request.precision
    )
    check_classes(model.class_names, measured, request.unknown_classes)
    with new_run_folder(request.out, "evaluate", config, seed=request.seed) as folder:
        lines = classify(
            model,
            measured.dataset,
            folder,
            faults,
            whole_images=request.metric == "images",
            crops=int(request.crops),
            bootstrap_samples=request.bootstrap,
            seed=request.seed,
        )
    return lines, folder


def _detection(
    request: EvaluateRequest, measured: Measured, config: dict[str, Any], faults: Faults
) -> tuple[Job, Callable[[Path], dict[str, Proposals]]]:
    """The run of a model, whose classes are known to fit the data set.

    Returns:
        Which run it is, and what writes its detections to a folder as they come and gives the proposals by image, of
        a shard none.
    """
    from detector.commands.detection_run import RecordInput, detect_in_images, job_of, pace_of
    from detector.model.load import load_model

    assert measured.dataset is not None
    inputs = [RecordInput(measured.dataset, index) for index in range(len(measured.dataset))]
    pace = pace_of(len(inputs) > 1, request.device)
    how: dict[str, Any] = {"device": request.device, "seed": request.seed}
    threads = None if pace == "alone" else 1
    detector = load_model(request.model, **how, precision=request.precision, **request.looking, threads=threads)
    check_classes(detector.class_names, measured, request.unknown_classes)
    job = job_of("evaluate", inputs, config, request.model, detector, **how, shard=request.part)
    own = [inputs[i] for i in job.positions]

    def detect(folder: Path) -> dict[str, Proposals]:
        found = detect_in_images(folder, job, own, detector, faults, pace=pace, what="evaluate")
        return {each.frame.image_id: each.proposals for each in found if job.shard is None}

    return job, detect


def _measure_detections(
    request: EvaluateRequest, measured: Measured, config: dict[str, Any], faults: Faults
) -> tuple[list[str], Path]:
    """Detections by a metric of detection: lines, and the run folder."""
    detections, unknown = request.detections, request.unknown_classes
    proposals: dict[str, Proposals] | None = None
    if detections is None:
        detect = _detection(request, measured, config, faults)[1]
    else:
        how: dict[str, Any] = {"format": request.format, "image_list": request.image_list, "invalid": request.invalid}
        table = read_for(measured, detections, **how, unknown=unknown)
    with new_run_folder(request.out, "evaluate", config, seed=request.seed, keep_unfinished=True) as folder:
        if detections is None:
            proposals = detect(folder)
            if faults.count:
                log(f"{faults.count} images were not looked at; their objects count as not found")
            names, keys = measured.class_names, measured.class_keys
            table = read_detections(folder / JSONL_FILE, names, class_keys=keys, unknown_class=unknown)
        result = score(
            measured.metric,
            table,
            measured.truth,
            measured.class_names,
            blacklist=measured.blacklist,
            bootstrap_samples=request.bootstrap,
            seed=request.seed,
            faults=measured.faults,
        )
        info = {
            "data": f"{request.data.name} {measured.split}".strip(),
            "command": shlex.join(["detector", *sys.argv[1:]]),
            "created": time.strftime("%Y-%m-%d %H:%M"),
            ("detections" if detections else "model"): str(detections or request.model or "the bundled model"),
        }
        boxes = None if proposals is None else {name: given.boxes for name, given in proposals.items()}
        evaluation = assemble(result, proposals=boxes, picture_of=measured.picture_of(proposals), info=info)
        evaluation.save(folder)
        if request.report:
            from detector.report.write import PAGE, write_report

            text = (folder / "config.yaml").read_text(encoding="utf-8")
            write_report(evaluation, folder / PAGE, config=text)
    return summary(result), folder


def summary(result: EvaluationResult) -> list[str]:
    """The numbers for a terminal, then what was counted."""
    lines = [f"{result.metric}: mean AP {_percent(result.mean_ap)}{_interval(result.interval)}"]
    others = {name: value for name, value in result.numbers.items() if name not in ("mean_ap", "ap")}
    if others:
        lines.append("  ".join(f"{name} {_percent(value)}" for name, value in others.items()))
    names = [shown(row.name) for row in result.classes[:CLASSES_SHOWN]]
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


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval.points()})"


def check_classes(names: Sequence[str], measured: Measured, unknown: OnFault) -> None:
    """UserError where a model's classes do not fit the data set."""
    classes = ClassIndex(measured.class_names)
    strange = [name for name in names if classes.find(name) < 0]
    if len(strange) == len(names):
        mine, theirs = (shown(", ".join(some[:5])) for some in (names, measured.class_names))
        raise UserError(
            f"the model and the data set have no class in common: {mine}... and {theirs}...; choose data of the "
            "model's classes"
        )
    if strange and unknown == "error":
        raise UserError(
            f"the data set lacks classes of the model: {shown(', '.join(strange[:10]))}; leave their detections out "
            "with --unknown-classes skip"
        )
