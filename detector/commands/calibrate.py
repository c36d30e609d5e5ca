"""The ``calibrate`` verb."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands.console import print_line
from detector.commands.options import Device, MeasuredSplit, results_option
from proposals.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from detector.data import Dataset
    from detector.detection.pipeline import Detector
    from detector.model.config import ModelConfig

RANGE_IMAGES = 64
LEAST_SCORE = 0.01  # detections below it are not asked for: nearly all of them are wrong, and nobody would show them


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model directory; it stays as it is.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="DATA", help="Annotated data set that the model was not trained on.")
    ],
    of: Annotated[
        str,
        typer.Option(
            "--of",
            metavar="WHAT",
            help="regions: class probabilities of regions; detections: scores of detections; activations: the ranges "
            "that precision int8 needs.",
        ),
    ] = "regions",
    split: MeasuredSplit = None,
    first: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use only the first N images.", show_default="all of them")
    ] = None,
    out: Annotated[Path | None, results_option("calibrate")] = None,
    device: Device = "auto",
) -> None:
    """Make a copy of a model whose scores mean what they say, or that can compute in int8.

    --of regions fits one temperature for all probabilities on the annotated objects of about half of the images.
    --of detections fits one sigmoid for all scores, so that of the detections with a score of 0.5 half are right:
    they overlap an object of their class by half. The expected calibration error on the other images is told, before
    and after. Which half an image falls in depends on its name alone. The order of classes and of scores stays.
    --of activations measures how far the networks' activations reach, on 64 images of any kind, which int8 needs;
    region networks that detector train has made know it already.

    [bold]Example:[/bold] detector calibrate my-model --data photos --out my-calibrated-model
    """
    import sys

    from detector.commands.evaluate_data import load_measured
    from detector.model.config import read_model_config
    from detector.model.save import begin_copy, save_ranges, write_model_config
    from detector.runs.folder import final_path, new_run_folder, refuse_occupied

    if of not in ("regions", "detections", "activations"):
        raise UserError(f"--of {of}: say regions, detections or activations")
    refuse_occupied(out)
    config = read_model_config(model)
    if of == "regions" and any(m.head is not None and m.head.kind == "svm" for m in config.members):
        raise UserError(f"{model}: its SVMs are calibrated one by one; a temperature is for softmaxes")
    measured = load_measured(data, split, None, "regions", pictures_needed=True, first=first)
    dataset = measured.dataset
    assert dataset is not None
    ranges = _ranges(model, config, dataset, data, device) if of == "activations" else None
    changed, lines = config, list[str]()
    if ranges is None:
        changed, lines = (_of_regions if of == "regions" else _of_detections)(model, config, dataset, data, device)
    settings = {"model": model.resolve(), "data": data.resolve(), "of": of, "split": measured.split, "first": first}
    with new_run_folder(out, "calibrate", settings) as folder:
        begin_copy(folder, [model / file for file in config.files])
        if ranges is not None:
            changed = config.model_copy(update={"members": save_ranges(model, config, ranges, folder)})
        name = "calibrated" if of == "regions" else f"{of} calibrated"
        provenance = {**config.provenance, name: " ".join(["detector", *sys.argv[1:]])}
        write_model_config(folder, changed.model_copy(update={"provenance": provenance}))
    for line in lines:
        print_line(line)
    print_line(f"the model is in {out or final_path(folder)}")


def _of_regions(
    model: Path, config: ModelConfig, dataset: Dataset, data: Path, device: str
) -> tuple[ModelConfig, list[str]]:
    """The model's settings with a temperature, and lines for a person."""
    import numpy as np

    from detector.detection.ensemble import Ensemble
    from detector.evaluation.confidence import expected_calibration_error, fit_temperature, tempered
    from detector.model.load import load_model

    detector = load_model(model, device=device)
    assert isinstance(detector.classifier, Ensemble)
    detector.classifier.temperature = 1.0  # the model's own, if it has one, is replaced
    fitted, (others, labels) = (_log_probabilities(detector, part) for part in halves(dataset))
    if not (len(fitted[1]) and len(labels)):
        raise UserError(
            f"{data}: {len(fitted[1])} and {len(labels)} objects of the model's classes in its two halves; "
            "both need some: take more data"
        )
    temperature = round(fit_temperature(*fitted), 4)
    errors = []
    for value in (1.0, temperature):
        probabilities = np.exp(tempered(others, value))
        right = probabilities.argmax(axis=1) == labels
        errors.append(expected_calibration_error(np.clip(probabilities.max(axis=1), 0, 1), right))
    scores = {"calibration_error_at_temperature_1": round(errors[0], 4), "calibration_error": round(errors[1], 4)}
    changes = {"temperature": temperature, "scores": {**config.scores, **scores}}
    lines = [f"temperature {temperature:g}, fitted to {len(fitted[1])} objects", _change(len(labels), errors)]
    return config.model_copy(update=changes), lines


def _of_detections(
    model: Path, config: ModelConfig, dataset: Dataset, data: Path, device: str
) -> tuple[ModelConfig, list[str]]:
    """The model's settings with a calibration of scores, and lines for a person."""
    import numpy as np

    from detector.detection.suppression import calibrated
    from detector.evaluation.confidence import expected_calibration_error
    from detector.model.load import load_model
    from proposals.calibration import Calibration, fit_calibration

    detector = load_model(model, device=device, score_threshold=LEAST_SCORE)
    # The model's own calibration, if it has one, is replaced.
    detector.config = detector.config.model_copy(update={"calibration": Calibration()})
    (scores, right), (others, hits) = (_judged(detector, part) for part in halves(dataset))
    if not len(others):
        raise UserError(f"{data}: no detections in the half that the calibration is measured on; take more data")
    inside = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)  # a score of 1 has no logit
    fitted = fit_calibration(np.log(inside) - np.log1p(-inside), right)
    calibration = Calibration(slope=float(f"{fitted.slope:.4g}"), offset=float(f"{fitted.offset:.4g}"))
    after = calibrated(others, calibration)
    errors = [expected_calibration_error(values, hits) for values in (others, after)]
    names = ("detection_calibration_error_before", "detection_calibration_error")
    figures = {name: round(error, 4) for name, error in zip(names, errors, strict=True)}
    post = config.postprocess.model_copy(update={"calibration": calibration})
    lines = [
        f"score = sigmoid({calibration.slope:g} * logit {calibration.offset:+g}), fitted to {len(scores)} detections, "
        f"{int(right.sum())} of them right",
        _change(len(others), errors),
    ]
    for name, values in (("before", others), ("after", after)):
        sure = values >= 0.5
        share = f"{100 * hits[sure].mean():.1f} % are right" if sure.any() else "nothing to say of them"
        lines.append(f"scores of 0.5 and more {name}: {int(sure.sum())}; {share}")
    return config.model_copy(update={"postprocess": post, "scores": {**config.scores, **figures}}), lines


def _ranges(model: Path, config: ModelConfig, dataset: Dataset, data: Path, device: str) -> list[dict[str, float]]:
    """How far the activations of each network reach on some of the images."""
    import numpy as np

    from detector.commands.console import progress
    from detector.data import read_record
    from detector.detection.ensemble import Ensemble
    from detector.model.load import load_model
    from detector.nets.int8 import record_ranges

    if any(member.head is None for member in config.members):
        raise UserError(f"{model}: has a network without a head, which has no int8")
    detector = load_model(model, device=device, precision="float32", exact=True)
    assert isinstance(detector.classifier, Ensemble)
    some = dataset.subset(np.unique(np.linspace(0, len(dataset) - 1, RANGE_IMAGES).astype(np.int64)))

    def look() -> None:
        with progress("calibrate", len(some), "image") as advance:
            for record in some:
                advance()
                detector(read_record(record))

    found = record_ranges([member.net for member in detector.classifier.members], look)
    if not all(min(ranges.values()) > 0 for ranges in found):
        raise UserError(f"{data}: in its images a layer of the networks had nothing to say; take others")
    return found


def _change(others: int, errors: Sequence[float]) -> str:
    """How the error, before and after, of so many others has changed."""
    from detector.evaluation.confidence import BINS

    before, after = (f"{100 * error:.1f} %" for error in errors)
    return f"expected calibration error of {others} others ({BINS} bins): {before} before, {after} after"


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The images by the last bit of the SHA-256 of their name."""
    import numpy as np

    odd = [hashlib.sha256(name.encode(errors="surrogatepass")).digest()[-1] & 1 for name in dataset.image_ids]
    return dataset.subset(np.flatnonzero(np.array(odd) == 0)), dataset.subset(np.flatnonzero(odd))


def _log_probabilities(detector: Detector, dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logarithms of the probabilities ``(n, K + 1)`` of annotated objects, and their labels ``(n,)``."""
    import numpy as np

    from detector.commands.console import Faults, progress
    from detector.commands.evaluate_classes import annotated_samples

    names = detector.class_names
    tables, labels = [np.zeros((0, len(names) + 1))], [np.zeros(0, np.int64)]
    with progress("calibrate", len(dataset), "image") as advance:
        for image, boxes, wanted in annotated_samples(names, dataset, Faults(skip=False), False, {}, advance):
            tables.append(np.asarray(detector.classifier.predict(image, boxes.astype(np.float32)).probs, np.float64))
            labels.append(wanted)
    with np.errstate(divide="ignore"):
        return np.log(np.concatenate(tables)), np.concatenate(labels)


def _judged(detector: Detector, dataset: Dataset) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores ``(n,)`` of all detections that count by the rules of VOC, and which are right, at an IoU of 0.5."""
    import numpy as np

    from detector.commands.console import progress
    from detector.data import read_record
    from detector.evaluation.class_index import ClassIndex
    from detector.evaluation.matches import Outcome
    from detector.evaluation.voc import evaluate_voc
    from detector.types import Detections

    known = ClassIndex(dataset.class_names)
    to_data = np.array([known.find(name) for name in detector.class_names], np.int64)
    found = {}
    with progress("calibrate", len(dataset), "image") as advance:
        for record in dataset:
            advance()
            d = detector(read_record(record))
            kept = to_data[d.labels] >= 0  # of classes that are annotated in these images
            found[record.image_id] = Detections(d.boxes[kept], d.scores[kept], to_data[d.labels[kept]], d.image_size)
    truth = {record.image_id: record.ground_truth for record in dataset}
    matches = evaluate_voc(found, truth, dataset.class_names, year=2010).need_matches()
    counted = matches.outcome[0] != Outcome.IGNORED
    right = matches.outcome[0][counted] == Outcome.TRUE_POSITIVE
    return matches.detections.scores[counted].astype(np.float32), right
