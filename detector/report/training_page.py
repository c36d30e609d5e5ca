"""A training as one HTML file: its course, what it was shown, what it finds in new images, and what to do next."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.data import Dataset
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.assemble import assemble, score
from detector.report.drawing import draw_detections, draw_truth
from detector.report.html import style
from detector.report.markup import Child, Markup, element
from detector.report.sections import points
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
    facts = (*facts, ("Covered by selective search", f"{points(covered)} % of the training objects, at IoU 0.5"))
    parts = [
        _section("The run", element("table", [element("tr", element("th", n), element("td", v)) for n, v in facts])),
        _picture(folder / "curves.png", "Its course"),
        _picture(folder / "crops.png", "What it was shown"),
        _measured(evaluation, held_out),
        _classes(train, evaluation),
        _section("What to do next", element("ul", [element("li", line) for line in advice])),
        None if held_out is None else _images(held_out),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", f"{folder.name} – training"),
            element("style", Markup(style())),
        ),
        element("body", element("main", element("header", element("h1", folder.name)), parts)),
        lang="en",
    )
    (folder / PAGE).write_text(f"<!doctype html>\n{page}\n", encoding="utf-8", errors="replace")
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
    rows = sorted((row for row in errors.classes if row.ap == row.ap), key=lambda row: row.ap)
    if rows and rows[0].ap < errors.mean_ap - LOST:
        worst = rows[0]
        lines.append(f"{worst.name} is found worst (AP {points(worst.ap)}): label more of it, as varied as you can.")
    costs = {kind: cost for kind, cost in errors.cost.items() if cost == cost and cost >= LOST}
    for kind, text in ADVICE.items():
        if kind in costs:
            lines.append(text.format(points(costs[kind])))
    pair = _confused(evaluation)
    if pair is not None:
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


def _section(title: str, *children: Child) -> Markup:
    return element("section", element("h2", title), element("div", children, class_="panel"))


def _measured(evaluation: Evaluation | None, held_out: HeldOut | None) -> Markup:
    if evaluation is None or held_out is None:
        text = "Nothing: no image with objects was held out, or several processes trained."
        return _section("What was measured", element("p", text))
    result = evaluation.result
    interval = result.interval
    between = "" if interval is None else f" ({points(interval.low)} to {points(interval.high)})"
    line = (
        f"Mean AP {points(result.mean_ap)}{between} at IoU 0.5 on {len(held_out.data)} images with "
        f"{len(held_out.data.boxes)} objects that it was not trained on."
    )
    few = element("p", "Of so few images the figure says little.") if len(held_out.data) < FEW_IMAGES else None
    return _section("What was measured", element("p", line), few)


def _classes(train: Dataset, evaluation: Evaluation | None) -> Markup:
    aps = {} if evaluation is None else {row.name: row.ap for row in evaluation.errors.classes if row.ap == row.ap}
    head = element("tr", [element("th", text) for text in ("Class", "Training objects", "AP")])
    rows = [
        element("tr", element("td", name), element("td", count), element("td", points(aps.get(name))))
        for name, count in zip(train.class_names, train.class_counts().tolist(), strict=True)
    ]
    return _section("Classes", element("table", head, rows))


def _images(held_out: HeldOut) -> Markup:
    """Held-out images, as labelled and as found side by side."""
    data, names, shown = held_out.data, held_out.data.class_names, []
    for index in range(min(SHOWN, len(data))):
        try:
            image = data.read(index)
        except UserError:
            continue
        found = held_out.found[data.image_ids[index]]
        pair = (
            draw_truth(image, data.ground_truth(index), names, min_side=SIDE),
            draw_detections(image, found, names, score_threshold=held_out.threshold, min_side=SIDE),
        )
        caption = element("figcaption", f"{data.image_ids[index]}: labelled, found")
        shown.append(element("figure", [_embedded(_jpeg(one), "") for one in pair], caption))
    return _section("Images that it was not trained on", shown)


def _picture(path: Path, title: str) -> Markup | None:
    if not path.is_file():
        return None
    return _section(title, _embedded(path.read_bytes(), title, "png"))


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    picture, file = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()


def _embedded(data: bytes, alt: str, kind: str = "jpeg") -> Markup:
    return element("img", src=f"data:image/{kind};base64,{b64encode(data).decode()}", alt=alt, style="max-width:100%")
