"""``detector evaluate --metric regions`` and ``images``: how often a model names what it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.commands.console import Faults, progress
from detector.evaluation.class_index import ClassIndex
from detector.evaluation.classification import ClassificationResult, evaluate_classification
from detector.evaluation.confidence import BINS
from detector.evaluation.plain import to_plain
from detector.shown import json_text

if TYPE_CHECKING:
    from detector.data import Dataset
    from detector.model.load import Classifier

CLASSIFICATION_FILE = "classification.json"
Sample = tuple[NDArray[np.uint8], NDArray[np.floating[Any]], NDArray[np.int64]]


def classify(
    model: Classifier,
    dataset: Dataset,
    folder: Path,
    faults: Faults,
    *,
    whole_images: bool,
    crops: int,
    bootstrap_samples: int,
    seed: int,
) -> list[str]:
    """Score the classifier of a model, write ``classification.json`` into ``folder``, and return lines for a person.

    Args:
        whole_images: show it whole images whose objects are all of one class; otherwise every object of known class
            that is neither ignored nor a crowd. crops: windows of each, 1, 10 or 144.
    """
    skipped: dict[str, int] = {}
    with progress("evaluate", len(dataset), "image") as advance:
        samples = annotated_samples(model.class_names, dataset, faults, whole_images, skipped, advance)
        result = evaluate_classification(
            lambda image, boxes: model.classifier.predict(image, boxes).probs,
            samples,
            model.class_names,
            crops=crops,
            # An image is looked at through its centre square, a region as detection looks at it.
            whole=not whole_images,
            bootstrap_samples=bootstrap_samples,
            seed=seed,
        )
    content = {"result": to_plain(result), "what": "images" if whole_images else "regions", "skipped": skipped}
    (folder / CLASSIFICATION_FILE).write_text(json_text(content), encoding="utf-8")
    return in_words(result, skipped)


def annotated_samples(
    class_names: Sequence[str],
    dataset: Dataset,
    faults: Faults,
    whole: bool,
    skipped: dict[str, int],
    advance: Any,
) -> Iterator[Sample]:
    """What a model of ``class_names`` is asked to name, labelled by its own classes; see :func:`classify`.

    Args:
        skipped: counts what is left out, by reason. advance: called for each image.
    """
    from proposals.errors import UserError

    model_classes = ClassIndex(class_names)
    to_model = np.array([model_classes.find(name) for name in dataset.class_names], np.int64)

    def skip(reason: str, n: int = 1) -> None:
        if n:
            skipped[reason] = skipped.get(reason, 0) + n

    for index in range(len(dataset)):
        advance()
        truth = dataset.ground_truth(index)
        labels = to_model[truth.labels] if len(truth) else truth.labels
        if whole and len(set(labels.tolist())) != 1:
            skip("images without objects or with objects of several classes")
            continue
        kept = labels >= 0
        skip("objects of classes that the model does not know", int((~kept).sum()))
        if not whole:
            skip("ignored objects and crowds", int((kept & (truth.ignore | truth.crowd)).sum()))
            kept &= ~(truth.ignore | truth.crowd)
        if not kept.any():
            continue
        try:
            image = dataset.read(index)
        except UserError as fault:
            faults(fault)
            continue
        if whole:
            height, width = image.shape[:2]
            yield image, np.array([[0.0, 0.0, width, height]]), labels[:1]
        else:
            yield image, truth.boxes[kept], labels[kept]


def in_words(result: ClassificationResult, skipped: dict[str, int]) -> list[str]:
    """The result for a terminal."""
    lines = [f"{result.count} shown with {result.crops} crop{'s' if result.crops > 1 else ''} each"]
    for name, share, interval in (
        ("top-1", result.top1, result.top1_interval),
        ("top-5", result.top5, result.top5_interval),
    ):
        spread = "" if interval is None else f" ({interval.points()})"
        lines.append(f"{name} accuracy {100 * share:.1f} %{spread}")
    if result.count:
        lines.append(f"expected calibration error {100 * result.calibration_error:.1f} % ({BINS} bins)")
    return lines + [f"note: {n} {what} left out" for what, n in skipped.items()]
