"""The ``calibrate`` verb."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proposals.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from detector.data import Dataset
    from detector.pipeline import Detector


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model directory; it stays as it is.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="DATA", help="Annotated data set that the model was not trained on.")
    ],
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Part of the data set.", show_default="val, or else test")
    ] = None,
    first: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N pictures.", show_default="all of them")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="New or empty folder for the model.", show_default="runs/calibrate-<date>-<time>"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Make a copy of a model whose probabilities mean what they say.

    One temperature for all probabilities is fitted on the annotated objects of about half of the pictures; the
    expected calibration error is that of the others, before and after. Which half a picture falls in depends on its
    name alone. No class becomes likelier than another that it was not: accuracy stays.

    [bold]Example:[/bold] detector calibrate my-model --data photos --out my-calibrated-model
    """
    import sys

    import numpy as np

    from detector.classify import Ensemble
    from detector.commands.evaluate_data import load_measured
    from detector.evaluation.confidence import BINS, expected_calibration_error, fit_temperature, tempered
    from detector.model import begin_copy, load_model, read_model_config, write_model_config
    from detector.run_folder import final_path, new_run_folder, refuse_occupied

    refuse_occupied(out)
    config = read_model_config(model)
    if any(member.head is not None and member.head.shape.kind == "svm" for member in config.members):
        raise UserError(f"{model}: its machines are calibrated one by one; a temperature is for softmaxes")
    measured = load_measured(data, split, None, "regions", pictures_needed=True, first=first)
    dataset = measured.dataset
    assert dataset is not None
    detector = load_model(model, device=device)
    assert isinstance(detector.classifier, Ensemble)
    detector.classifier.temperature = 1.0  # the model's own, if it has one, is replaced
    fitted, measured_on = (_log_probabilities(detector, part) for part in halves(dataset))
    if not (len(fitted[1]) and len(measured_on[1])):
        raise UserError(
            f"{data}: {len(fitted[1])} and {len(measured_on[1])} objects of the model's classes in its two halves; "
            "both need some"
        )
    temperature = round(fit_temperature(*fitted), 4)
    errors = []
    for value in (1.0, temperature):
        probabilities = np.exp(tempered(measured_on[0], value))
        right = probabilities.argmax(axis=1) == measured_on[1]
        errors.append(expected_calibration_error(np.clip(probabilities.max(axis=1), 0, 1), right))
    settings = {"model": model.resolve(), "data": data.resolve(), "split": measured.split, "first": first}
    with new_run_folder(out, "calibrate", settings) as folder:
        begin_copy(folder, [model / file for file in config.files])
        scores = {"calibration_error_at_temperature_1": errors[0], "calibration_error": errors[1]}
        changes = {
            "temperature": temperature,
            "scores": {**config.scores, **{name: round(error, 4) for name, error in scores.items()}},
            "provenance": {**config.provenance, "calibrated": " ".join(["detector", *sys.argv[1:]])},
        }
        write_model_config(folder, config.model_copy(update=changes))
    typer.echo(f"temperature {temperature:g}, fitted to {len(fitted[1])} objects")
    typer.echo(
        f"expected calibration error of {len(measured_on[1])} others ({BINS} bins): "
        f"{100 * errors[0]:.1f} % before, {100 * errors[1]:.1f} % after"
    )
    typer.echo(f"the model is in {out or final_path(folder)}")


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The pictures by the last bit of the SHA-256 of their name."""
    import numpy as np

    odd = [hashlib.sha256(name.encode()).digest()[-1] & 1 for name in dataset.image_ids]
    return dataset.subset(np.flatnonzero(np.array(odd) == 0)), dataset.subset(np.flatnonzero(odd))


def _log_probabilities(detector: Detector, dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logarithms of the probabilities ``(n, K + 1)`` of annotated objects, and their labels ``(n,)``."""
    import numpy as np

    from detector.commands.console import Faults, progress
    from detector.commands.evaluate_classes import annotated_samples

    tables, labels = [np.zeros((0, len(detector.class_names) + 1))], [np.zeros(0, np.int64)]
    with progress("calibrate", len(dataset), "picture") as advance:
        for image, boxes, wanted in annotated_samples(detector, dataset, Faults(skip=False), False, {}, advance):
            tables.append(np.asarray(detector.classifier.predict(image, boxes.astype(np.float32)), np.float64))
            labels.append(wanted)
    with np.errstate(divide="ignore"):
        return np.log(np.concatenate(tables)), np.concatenate(labels)
