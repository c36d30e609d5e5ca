"""Pictures, objects and detections of a detector that does not exist, to look at a report before there is a model.

``python tools/example_report.py FOLDER`` writes such a report.

The pictures are collages of scikit-image's sample photographs; the detections are the objects, moved, confused, doubled
and lost by chance. Everything comes from one seed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detector.evaluation.analysis_types import Evaluation, PictureInfo
from detector.evaluation.assemble import assemble, proposal_rows, score
from detector.images.pixels import write_picture
from detector.types import Detections, GroundTruth, ImageRecord
from proposals.boxes import clip, iou
from proposals.types import Proposals, Source

CLASS_NAMES = ("astronaut", "cat", "coffee cup", "rocket", "camera", "coin", "eye")
_CUTS = {
    "astronaut": ("astronaut", (150, 0, 300, 210)),
    "cat": ("chelsea", (110, 10, 320, 290)),
    "coffee cup": ("coffee", (170, 15, 415, 280)),
    "rocket": ("rocket", (290, 60, 350, 385)),
    "camera": ("camera", (225, 85, 365, 225)),
    "coin": ("coins", (18, 12, 78, 76)),
    "eye": ("chelsea", (130, 60, 220, 130)),
}
# How often each class is found, and how well: a report with equal classes would show little.
_SKILL = dict(zip(CLASS_NAMES, (0.95, 0.9, 0.85, 0.7, 0.6, 0.8, 0.4), strict=True))
_TWINS = {"cat": "eye", "eye": "cat", "coffee cup": "coin", "coin": "coffee cup", "camera": "rocket"}


def example_data_set(
    folder: Path, n_images: int = 60, seed: int = 0, image_size: tuple[int, int] = (360, 480)
) -> list[ImageRecord]:
    """``n_images`` collages, written to ``folder`` as JPEG, and where their objects are.

    Args:
        folder: made if it does not exist. image_size: (height, width) of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cuts = [_cut(*_CUTS[name]) for name in CLASS_NAMES]
    grounds = [_photograph(name) for name in ("hubble_deep_field", "brick", "grass", "gravel", "moon")]
    return [_collage(folder / f"collage-{i:03d}.jpg", cuts, grounds, image_size, rng) for i in range(n_images)]


def example_evaluation(folder: Path, n_images: int = 60, seed: int = 0) -> Evaluation:
    """The evaluation of the example's detections on pictures that are written to ``folder``."""
    records = example_data_set(folder, n_images, seed)
    found = {record.image_id: example_detections(record, seed) for record in records}
    given = {record.image_id: example_proposals(record, seed) for record in records}
    truth = {record.image_id: record.ground_truth for record in records}
    return assemble(
        score("voc10", found, truth, CLASS_NAMES, bootstrap_samples=1000, seed=seed),
        proposals={name: p.boxes for name, p in given.items()},
        picture_of={
            r.image_id: PictureInfo(str(r.path), *r.image_size, proposal_rows(given[r.image_id])) for r in records
        }.get,
        info={
            "data": "Collages of sample photographs",
            "model": "An example: these detections are made up, there is no model behind them",
            "command": "python tools/example_report.py FOLDER",
        },
    )


def _photograph(name: str) -> Image.Image:
    import skimage.data

    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def _cut(photograph: str, box: tuple[int, int, int, int]) -> Image.Image:
    """A part of a photograph with round corners, RGBA."""
    cut = _photograph(photograph).crop(box)
    mask = Image.new("L", cut.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, cut.width - 1, cut.height - 1), min(cut.size) * 0.28, fill=255)
    cut.putalpha(mask)
    return cut


def _collage(
    path: Path,
    cuts: list[Image.Image],
    grounds: list[Image.Image],
    image_size: tuple[int, int],
    rng: np.random.Generator,
) -> ImageRecord:
    height, width = image_size
    ground = grounds[rng.integers(len(grounds))].resize((width, height)).filter(ImageFilter.GaussianBlur(2))
    # Most of the photographs are grey: a tint makes the collages easier to tell apart.
    tint = Image.new("RGB", ground.size, tuple(rng.integers(60, 230, 3).tolist()))
    ground = Image.blend(ground, tint, 0.25)
    boxes: list[list[float]] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(0, 6))):
        label = int(rng.integers(len(cuts)))
        cut = cuts[label]
        side = float(np.exp(rng.uniform(np.log(28), np.log(0.62 * height))))
        size = (max(8, round(cut.width * side / max(cut.size))), max(8, round(cut.height * side / max(cut.size))))
        x, y = int(rng.integers(0, width - size[0])), int(rng.integers(0, height - size[1]))
        box = [x, y, x + size[0], y + size[1]]
        if boxes and iou(np.array([box], float), np.array(boxes, float)).max() > 0.1:
            continue
        small = cut.resize(size)
        ground.paste(small, (x, y), small)
        boxes.append([float(v) for v in box])
        labels.append(label)
    write_picture(path, np.asarray(ground), quality=88)
    truth = GroundTruth.of(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))
    return ImageRecord(path.stem, path, image_size, truth)


def example_proposals(record: ImageRecord, seed: int = 0, n: int = 200) -> Proposals:
    """``n`` proposals of both sources, most of them around the objects; some small objects get none."""
    rng = np.random.default_rng([seed, *record.image_id.encode()])
    height, width = record.image_size
    corners = rng.uniform(0, 1, (n, 2, 2)) * [width, height]
    boxes = np.concatenate([corners.min(1), corners.max(1) + 4], axis=1).astype(np.float32)
    truths = record.ground_truth.boxes
    seen = truths[(truths[:, 2] - truths[:, 0]) > 34]
    for i in range(0, n // 2 if len(seen) else 0):
        boxes[i] = _jitter(seen[i % len(seen)], 0.08 + 0.2 * rng.random(), rng)
    boxes = clip(boxes, record.image_size)
    source = rng.choice([Source.SELECTIVE_SEARCH, Source.MULTIBOX], n).astype(np.uint8)
    return Proposals(boxes, np.sort(rng.random(n))[::-1].astype(np.float32), source, record.image_size)


def example_detections(record: ImageRecord, seed: int = 0) -> Detections:
    """What a middling detector might report for ``record``."""
    rng = np.random.default_rng([seed + 1, *record.image_id.encode()])
    rows: list[tuple[NDArray[np.float32], float, int]] = []
    truth = record.ground_truth
    for box, label in zip(truth.boxes, truth.labels.tolist(), strict=True):
        name = CLASS_NAMES[label]
        skill = _SKILL[name] * min(1.0, float(box[2] - box[0]) / 45)
        if rng.random() < skill:
            rows.append((_jitter(box, 0.05, rng), float(rng.beta(9, 2)), label))
        elif rng.random() < 0.5:
            rows.append((_jitter(box, 0.45, rng), float(rng.beta(4, 4)), label))
        if rng.random() < 0.12 and name in _TWINS:
            rows.append((_jitter(box, 0.06, rng), float(rng.beta(5, 4)), CLASS_NAMES.index(_TWINS[name])))
        if rng.random() < 0.1:
            rows.append((_jitter(box, 0.12, rng), float(rng.beta(3, 4)), label))
    for _ in range(int(rng.poisson(1.0))):
        height, width = record.image_size
        corners = rng.uniform(0, 1, (2, 2)) * [width - 8, height - 8]
        box = np.concatenate([corners.min(0), corners.max(0) + 8]).astype(np.float32)
        rows.append((box, float(rng.beta(2, 6)), int(rng.integers(len(CLASS_NAMES)))))
    if not rows:
        return Detections.empty(record.image_size)
    boxes = clip(np.stack([row[0] for row in rows]), record.image_size).astype(np.float32)
    scores = np.array([row[1] for row in rows], np.float32)
    return Detections.sorted(boxes, scores, np.array([row[2] for row in rows], np.int64), record.image_size)


def _jitter(box: NDArray[np.float32], amount: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """``box`` ``(4,)`` with each edge moved by about ``amount`` of its sides."""
    side = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.normal(0, amount, 4) * side
    return np.concatenate([np.minimum(moved[:2], moved[2:] - 4), moved[2:]]).astype(np.float32)


if __name__ == "__main__":
    from detector.report.write import write_report

    place = Path(sys.argv[1])
    write_report(example_evaluation(place / "pictures"), place / "report.html")
    print(place / "report.html")
