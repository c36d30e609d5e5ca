"""What ``detector evaluate`` does once its options are read: detections, from a file or a model, become figures."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.commands.console import SKIPPED, Faults, say
from detector.commands.detection_files import JSONL_FILE
from detector.commands.evaluate_data import Measured, digest_of, first_of_run, load_measured, read_for
from detector.commands.options import DetectionFile, Metric, OnError, OnFault
from detector.commands.resume import may_go_on
from detector.evaluation.assemble import assemble, score
from detector.evaluation.class_index import ClassIndex
from detector.evaluation.read_files import read_detections
from detector.evaluation.result import EvaluationResult, Interval
from detector.evaluation.tables import DetectionTable
from detector.runs.folder import final_path, new_run_folder
from detector.runs.shards import Shard
from detector.shown import shown
from proposals.errors import UserError
from proposals.types import Proposals

if TYPE_CHECKING:
    from detector.commands.evaluate_run import EvaluateRun

CLASSES_SHOWN = 40


@dataclass(frozen=True)
class EvaluateRequest:
    """The verb's options; see :func:`detector.commands.evaluate.evaluate`."""

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
    score_threshold: float
    max_detections: int | None
    image_side: int | None
    search_side: int | None
    members: int | None
    exact: bool
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
    sides = request.image_side is not None or request.search_side is not None
    if given and (sides or request.members is not None or request.exact):
        raise UserError("--members, --exact and the sides are for a model's run; leave them out with --detections")
    if request.classes_only and sides:
        raise UserError(f"--metric {request.metric} is of the networks as they are; leave the sides out")
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
        say(f"{detections} holds the first {first} images; only they are counted (--first N for others)")
    measured = load_measured(
        request.data,
        request.split,
        request.images,
        request.metric,
        pictures_needed=detections is None,
        first=first,
    )
    config = run_config(request, measured, first)
    faults = Faults(skip=request.on_error == "skip")
    if request.classes_only:
        lines, folder = _measure_networks(request, measured, config, faults)
    elif request.part is not None:
        run = _run_of(request, measured, config)
        with new_run_folder(
            request.out, "evaluate", config, request.seed, keep_unfinished=True, resume=going_on
        ) as folder:
            run.detect(folder, faults)
        results = request.out or final_path(folder)
        return [f"shard {request.part}: {len(run.own)} images; results in {results}"], _code(faults)
    else:
        lines, folder = _measure_detections(request, measured, config, faults)
    return [*lines, f"results in {request.out or final_path(folder)}"], _code(faults)


def run_config(request: EvaluateRequest, measured: Measured, first: int | None) -> dict[str, Any]:
    """What ``config.yaml`` says of the run."""
    images, detections, image_list = request.images, request.detections, request.image_list
    digest = None if detections is None else digest_of(detections, request.format)
    return {
        "data": request.data.resolve(),
        "split": measured.split,
        "images": images.resolve() if images else None,
        "metric": measured.metric,
        "model": None if detections else (request.model or "bundled"),
        "detections": detections.resolve() if detections else JSONL_FILE,
        "detections_sha256": digest,
        "format": request.format,
        "image_list": image_list.resolve() if image_list else None,
        "bootstrap": request.bootstrap,
        "crops": int(request.crops),
        "invalid": request.invalid,
        "unknown_classes": request.unknown_classes,
        "score_threshold": request.score_threshold,
        "max_detections": request.max_detections,
        "image_side": request.image_side,
        "search_side": request.search_side,
        "members": request.members,
        "exact": request.exact,
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
    model = load_classifier(request.model, device=request.device, members=request.members, precision=request.precision)
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


def _run_of(request: EvaluateRequest, measured: Measured, config: dict[str, Any]) -> EvaluateRun:
    """The run of a model, whose classes are known to fit the data set."""
    from detector.commands.detection_run import job_of, one_at_a_time
    from detector.commands.evaluate_run import EvaluateRun, RecordInput
    from detector.model.load import load_model

    assert measured.dataset is not None
    inputs = [RecordInput(measured.dataset, index) for index in range(len(measured.dataset))]
    alone = one_at_a_time(len(inputs) > 1, request.device)
    how: dict[str, Any] = {"device": request.device, "precision": request.precision, "seed": request.seed}
    detector = load_model(
        request.model,
        **how,
        score_threshold=request.score_threshold,
        threads=None if alone else 1,
        max_detections=request.max_detections,
        image_side=request.image_side,
        search_side=request.search_side,
        members=request.members,
        exact=request.exact,
    )
    check_classes(detector.class_names, measured, request.unknown_classes)
    job = job_of("evaluate", inputs, config, request.model, detector, **how, shard=request.part)
    return EvaluateRun(detector, job, [inputs[i] for i in job.positions], alone)


def _measure_detections(
    request: EvaluateRequest, measured: Measured, config: dict[str, Any], faults: Faults
) -> tuple[list[str], Path]:
    """Detections by a metric of detection: lines, and the run folder."""
    detections, unknown = request.detections, request.unknown_classes
    proposals: dict[str, Proposals] | None = None
    table: DetectionTable | None = None
    run: EvaluateRun | None = None
    if detections is not None:
        table = read_for(
            measured,
            detections,
            format=request.format,
            image_list=request.image_list,
            invalid=request.invalid,
            unknown_class=unknown,
        )
    else:
        run = _run_of(request, measured, config)
    with new_run_folder(request.out, "evaluate", config, seed=request.seed, keep_unfinished=True) as folder:
        if run is not None:
            proposals = run.detect(folder, faults)
            if faults.count:
                say(f"{faults.count} images were not looked at; their objects count as not found")
            table = read_detections(
                folder / JSONL_FILE,
                measured.class_names,
                class_keys=measured.class_keys,
                unknown_class=unknown,
            )
        assert table is not None
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
        raise UserError(
            f"the model and the data set have no class in common: {_listed(names[:5])}... "
            f"and {_listed(measured.class_names[:5])}...; choose data of the model's classes"
        )
    if strange and unknown == "error":
        raise UserError(
            f"the data set lacks classes of the model: {_listed(strange[:10])}; leave their detections out with "
            "--unknown-classes skip"
        )


def _listed(names: Sequence[str]) -> str:
    return shown(", ".join(names))


def _code(faults: Faults) -> int:
    return SKIPPED if faults.count else 0
