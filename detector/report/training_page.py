"""A training as one HTML file: its course, what it was shown, what it finds in new images, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.data import Dataset
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.assemble import assemble, score
from detector.report.drawing import draw_detections, draw_truth
from detector.report.pictures import data_uri, encoded
from detector.report.sections import points
from detector.report.write import fill
from detector.types import Detections
from proposals.boxes import FloatArray
from proposals.errors import UserError

PAGE = "training.html"
SHOWN, SIDE = 12, 480  # held-out images on the page, and their longer side in pixels
FEW_OBJECTS, FEW_IMAGES = 20, 20  # below which a class is hardly learned, and a measurement hardly means anything
WELL_COVERED = 0.85
LOST = 0.05  # mean AP that a kind of error must cost to be worth a line


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What a model finds in images that it was not trained on.

    Attributes:
        data: the images, with their objects. found: detections by image id. proposals: boxes ``(P, 4)`` by image id.
        threshold: detections of at least this score are drawn.
    """

    data: Dataset
    found: dict[str, Detections]
    proposals: dict[str, FloatArray]
    threshold: float

    def evaluate(self) -> Evaluation:
        """VOC's mean AP with its interval, and its errors."""
        truth = {name: self.data.ground_truth(i) for i, name in enumerate(self.data.image_ids)}
        result = score("voc10", self.found, truth, self.data.class_names, bootstrap_samples=1000)
        return assemble(result, proposals=self.proposals)


def write_training_page(
    folder: Path, train: Dataset, facts: Sequence[tuple[str, str]], covered: float, held_out: HeldOut | None
) -> list[str]:
    """Write ``training.html`` into the run folder, which has its curves and its sheet of regions; the advice on it.

    Args:
        train: what was learned from. facts: name and value of what is worth knowing of the run.
        covered: share of the training objects that a box of selective search overlaps by half.
        held_out: ``None`` where no image was kept from the training.
    """
    evaluation = None if held_out is None or not len(held_out.data.boxes) else held_out.evaluate()
    advice = advise(train, covered, evaluation)
    drawn = {"Its course": folder / "curves.png", "What it was shown": folder / "crops.png"}
    facts = (*facts, ("Covered by selective search", f"{points(covered)} % of the training objects, at IoU 0.5"))
    page = fill(
        "training.html",
        name=folder.name,
        facts=facts,
        pictures=[(title, data_uri(path.read_bytes(), "png")) for title, path in drawn.items() if path.is_file()],
        measured=_measured(evaluation, held_out),
        classes=_classes(train, evaluation),
        advice=advice,
        shown=None if held_out is None else list(_images(held_out)),
    )
    (folder / PAGE).write_text(page, encoding="utf-8", errors="replace")
    return advice


def advise(train: Dataset, covered: float, evaluation: Evaluation | None) -> list[str]:
    """What would help most, a line each; never empty."""
    counts = dict(zip(train.class_names, train.class_counts().tolist(), strict=True))
    few = [f"{name} ({count})" for name, count in counts.items() if 0 < count < FEW_OBJECTS]
    lines = []
    if covered < WELL_COVERED:
        lines.append(
            f"Selective search covers {points(covered)} % of the objects, and only MultiBox may find the others: they "
            "may be small, or touch each other; use images of a higher resolution or parts of them, or set "
            "model.proposals in a recipe."
        )
    if few:
        lines.append(f"Label more of {', '.join(few)}: fewer than {FEW_OBJECTS} objects hardly teach a class.")
    if missing := [name for name, count in counts.items() if not count]:
        lines.append(f"No object of {', '.join(missing)} in the training images: they are never found.")
    if evaluation is None:
        return [
            *lines,
            "Nothing was measured: no image with objects was held out, or several processes trained. detector evaluate "
            "measures the model on labelled images; one process does so itself on a part called val, or on a tenth of "
            "60 images or more.",
        ]
    errors = evaluation.errors
    worst = min((row for row in errors.classes if row.ap == row.ap), key=lambda row: row.ap, default=None)
    if worst is not None and worst.ap < errors.mean_ap - LOST:
        lines.append(f"{worst.name} is found worst (AP {points(worst.ap)}): label more of it, as varied as you can.")
    for kind, text in ADVICE.items():
        if (cost := errors.cost.get(kind, 0.0)) >= LOST:  # not where it is not defined
            lines.append(text.format(points(cost)))
    if pair := _confused(evaluation):
        lines.append(f"{pair[0]} is often taken for {pair[1]}: look whether both are labelled alike, or are one class.")
    return lines or ["Train longer (--minutes), or label more images: no kind of error stands out."]


ADVICE = {
    "missed_by_proposals": "{} points are lost on objects that no proposal covers: they may be too small; use images "
    "of a higher resolution, or parts of them.",
    "localisation": "{} points are lost on boxes that lie badly: see whether the labels end where the objects do.",
    "background": "{} points are lost on things that are no objects: add images that show such things without labels, "
    "and look for objects that were not labelled.",
    "duplicate": "{} points are lost on objects that are found twice: a lower --nms-threshold removes duplicates.",
}


def _confused(evaluation: Evaluation) -> tuple[str, str] | None:
    """The class that is most often taken for another, and that one, if it happens to more than a tenth of it."""
    confusion = evaluation.confusion
    table = confusion.matrix[:-1, :-1].astype(float).copy()
    total = confusion.matrix[:-1].sum(axis=1, keepdims=True)
    np.fill_diagonal(table, 0)
    share = table / np.maximum(total, 1)
    if not share.size or share.max() <= 0.1:
        return None
    truth, taken = np.unravel_index(int(share.argmax()), share.shape)
    return confusion.class_names[truth], confusion.class_names[taken]


def _measured(evaluation: Evaluation | None, held_out: HeldOut | None) -> list[str]:
    if evaluation is None or held_out is None:
        return ["Nothing: no image with objects was held out, or several processes trained."]
    result, images, objects = evaluation.result, len(held_out.data), len(held_out.data.boxes)
    between = "" if result.interval is None else f" ({result.interval.points()})"
    line = (
        f"Mean AP {points(result.mean_ap)}{between} at IoU 0.5 on {images} images with {objects} objects that it was "
        "not trained on."
    )
    return [line, "Of so few images the figure says little."] if images < FEW_IMAGES else [line]


def _classes(train: Dataset, evaluation: Evaluation | None) -> list[tuple[str, int, float | None]]:
    """Name, training objects and AP of each class."""
    aps = {} if evaluation is None else {row.name: row.ap for row in evaluation.errors.classes}
    counts = train.class_counts().tolist()
    return [(name, count, aps.get(name)) for name, count in zip(train.class_names, counts, strict=True)]


def _images(held_out: HeldOut) -> Iterator[tuple[str, str, str]]:
    """Held-out images: their names, and data URIs of them as labelled and as found."""
    data, names = held_out.data, held_out.data.class_names
    for index in range(min(SHOWN, len(data))):
        try:
            image = data.read(index)
        except UserError:
            continue
        found = held_out.found[data.image_ids[index]]
        labelled = draw_truth(image, data.ground_truth(index), names, min_side=SIDE)
        drawn = draw_detections(image, found, names, score_threshold=held_out.threshold, min_side=SIDE)
        yield data.image_ids[index], data_uri(encoded(labelled, SIDE)), data_uri(encoded(drawn, SIDE))
