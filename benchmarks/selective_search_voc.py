"""Selective search on the paper's own benchmark, VOC 2007: its 29 single changes on trainval and its presets on test.

    PYTHONPATH=. python benchmarks/selective_search_voc.py measure OUT VOCdevkit/VOC2007 test      # the presets
    PYTHONPATH=. python benchmarks/selective_search_voc.py measure OUT VOCdevkit/VOC2007 cells     # the 29 cells
    PYTHONPATH=. python benchmarks/selective_search_voc.py measure OUT VOCdevkit/VOC2007 order     # near-duplicates
    PYTHONPATH=. peer/bin/python benchmarks/selective_search_voc.py measure OUT VOCdevkit/VOC2007 opencv-fast
    PYTHONPATH=. peer/bin/python benchmarks/selective_search_voc.py measure OUT VOCdevkit/VOC2007 opencv-quality
    PYTHONPATH=. python benchmarks/selective_search_voc.py tables OUT VOCdevkit/VOC2007 [--plot IMAGE]

OpenCV's needs an environment with its contrib build, see ``opencv_agreement.py``. Everything runs in one thread. Each
image is one line of ``OUT/*.jsonl``: run the same command again to go on. Images come in a random order (seed 0), so a
run that was stopped has measured a fair sample, and the tables say of how many images.

The paper's protocol: objects that are not difficult, mean over the 20 classes; no repeats, no side below 20 pixels, the
paper's order. Hosang et al.'s: all objects pooled. Seconds are processor time, the median of the images.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np

BUDGETS = (10, 20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 7000, 10000, 10**9)
DEFERRED = (1, 0.75)  # 1: nothing is
PAPER = {"min_box_side": 20, "defer_iou": 1}

# The paper's MABO and number of boxes on trainval, by what is changed of RGB, CTSF, k = 50.
SIMILARITIES = {
    "C": (0.635, 356), "T": (0.581, 303), "S": (0.640, 466), "F": (0.634, 449), "CT": (0.635, 346), "CS": (0.660, 383),
    "CF": (0.660, 389), "TS": (0.650, 406), "TF": (0.638, 400), "SF": (0.638, 449), "CTS": (0.662, 377),
    "CTF": (0.659, 381), "CSF": (0.674, 401), "TSF": (0.655, 427), "CTSF": (0.676, 395),
}  # fmt: skip
COLOR_SPACES = {
    "HSV": (0.693, 463), "I": (0.670, 399), "RGB": (0.676, 395), "rgI": (0.693, 362), "Lab": (0.690, 328),
    "H": (0.644, 322), "rgb": (0.647, 207), "C": (0.615, 125),
}  # fmt: skip
SCALES = {
    50: (0.676, 395), 100: (0.671, 239), 150: (0.668, 168), 250: (0.647, 102), 500: (0.585, 46), 1000: (0.477, 19),
}  # fmt: skip
# The paper's recall, MABO, number of boxes and seconds on test.
TEST = {
    "single": (0.840, 0.690, 289, 0.71), "fast": (0.980, 0.804, 2134, 3.79), "quality": (0.991, 0.879, 10097, 17.15),
}  # fmt: skip
FIRST_OF_QUALITY = {500: 0.758, 3000: 0.855, 10000: 0.883}  # MABO of so many of its boxes
# Hosang et al., PAMI 2015: recall at 0.5 and AR of so many boxes; the last of all that there are.
HOSANG = {100: (0.560, 0.290), 1000: (0.835, 0.519), 2000: (0.884, 0.581), 8753: (0.956, 0.685)}
SHIPPED = {"fast, scale 1": "fast", "googlenet, scale 2": "googlenet", "quality": "quality"}


def measure(out, data, what):
    from detector.data import load_dataset

    dataset = load_dataset(data, "trainval" if what == "cells" else "test")
    index = {name: i for i, name in enumerate(dataset.image_ids)}
    path = out / f"{what}.jsonl"
    done = read_lines(path)
    out.mkdir(parents=True, exist_ok=True)
    list(MEASURED[what](dataset.read(0)))  # so that what is done once only is in no image's seconds
    with path.open("a", encoding="utf-8") as file:
        for name in in_order(index):
            if name not in done:
                image, truths = dataset.read(index[name]), dataset[index[name]].ground_truth.boxes
                found = MEASURED[what](image)
                line = {row: [len(boxes), seconds, best(boxes, truths)] for row, boxes, seconds in found}
                file.write(f"\n{json.dumps({'image': name, **line})}")
                file.flush()


def in_order(names):
    """The images in an order of which every beginning is a fair sample, the same for all commands."""
    return np.random.default_rng(0).permutation(sorted(names)).tolist()


def read_lines(path):
    """The images of a file by name; a line that was cut short counts as missing."""
    lines = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        lines[line["image"]] = line
    return lines


def best(boxes, truths):
    """The best IoU of each truth among the first boxes, ``(M, budgets)`` as lists."""
    from proposals.recall import best_overlaps

    return best_overlaps([boxes], [truths], BUDGETS).round(4).tolist()


def preset_boxes(image):
    """(row, boxes, seconds) of each preset, in the paper's protocol and, named "... here", as it comes."""
    from proposals.search_steps import search
    from proposals.selective_search import PRESETS, rank

    size = image.shape[:2]
    for name, preset in PRESETS.items():
        started = time.process_time()
        found = search(
            image, preset.color_spaces, preset.similarities, preset.scales(), preset.sigma, preset.connectivity, 1
        )
        ranked = rank(found, preset.model_copy(update=PAPER), 0, size).boxes
        seconds = time.process_time() - started
        yield name, ranked, seconds
        yield f"{name} here", rank(found, preset, 0, size).boxes, seconds


def cell_boxes(image):
    """(row, boxes, seconds) of each cell; the cells of a column share what they have in common, so none is timed."""
    from proposals.search_steps import search

    columns = [
        ("similarities", ("RGB",), tuple(SIMILARITIES), (50,)),
        ("color_spaces", tuple(COLOR_SPACES), ("CTSF",), (50,)),
        ("k", ("RGB",), ("CTSF",), tuple(SCALES)),
    ]
    for column, spaces, similarities, scales in columns:
        found = search(image, spaces, similarities, [(k, k) for k in scales], 0.8, 8, 1)
        hierarchies = [(initial, merged) for initial, *merges in found for merged in merges]
        values = {"similarities": similarities, "color_spaces": spaces, "k": scales}[column]
        for value, both in zip(values, hierarchies, strict=True):
            boxes = np.unique(np.concatenate(both), axis=0)
            wide = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= PAPER["min_box_side"]
            yield f"{column} {value}", boxes[wide].astype(np.float32), 0


def order_boxes(image):
    """(row, boxes, seconds) of the preset ``fast``, near-duplicates where the paper has them, and behind the others."""
    from proposals.search_steps import search
    from proposals.selective_search import PRESETS, rank

    preset = PRESETS["fast"]
    found = search(
        image, preset.color_spaces, preset.similarities, preset.scales(), preset.sigma, preset.connectivity, 1
    )
    for iou in DEFERRED:
        yield f"defer_iou {iou}", rank(found, preset.model_copy(update={"defer_iou": iou}), 0, image.shape[:2]).boxes, 0


def opencv_boxes(mode, image):
    """The same of OpenCV's own mode."""
    import cv2
    from opencv_peer import seed, switched

    cv2.setNumThreads(1)
    seed(0)
    started = time.process_time()
    boxes = switched(image, mode)
    yield f"opencv {mode}", boxes, time.process_time() - started


MEASURED = {
    "test": preset_boxes,
    "cells": cell_boxes,
    "order": order_boxes,
    "opencv-fast": partial(opencv_boxes, "fast"),
    "opencv-quality": partial(opencv_boxes, "quality"),
}


def tables(out, data, plot):
    from detector.report.plots import plot_recall

    lines = {what: read_lines(out / f"{what}.jsonl") for what in MEASURED}
    test, truths = lines["test"], read_truths(data, "test")
    print(f"Test, the paper's protocol: {len(test):,} of {len(truths):,} images. Ours / the paper's.\n")
    print("| | boxes | recall 0.5 | MABO | with difficult objects | seconds an image |\n|---|---|---|---|---|---|")
    everything = {image: (labels, np.ones_like(plain)) for image, (labels, plain) in truths.items()}
    for name, (recall, mabo, boxes, seconds) in TEST.items():
        found = Figures([(line[name], truths[image]) for image, line in test.items()], pooled=False)
        harder = Figures([(line[name], everything[image]) for image, line in test.items()], pooled=False)
        print(f"| {name} | {found.boxes[-1]:,.0f} / {boxes:,} | {found.recall[-1]:.3f} / {recall:.3f} ", end="")
        print(f"| {found.mabo[-1]:.3f} / {mabo:.3f} | {harder.mabo[-1]:.3f} | {found.seconds:.3f} / {seconds} |")
    for budget, mabo in FIRST_OF_QUALITY.items():  # of the last row
        print(f"| its first {budget:,} | | | {found.mabo[BUDGETS.index(budget)]:.3f} / {mabo:.3f} | | |")

    found = Figures([(line["quality"], truths[image]) for image, line in test.items()], pooled=True)
    print("\nTest, all objects pooled, quality: ours / Hosang et al.'s.\n")
    print("| boxes | recall 0.5 | AR |\n|---|---|---|")
    for budget, (recall, average) in HOSANG.items():
        i = BUDGETS.index(budget) if budget in BUDGETS else -1
        print(f"| {found.boxes[i]:,.0f} / {budget:,} | {found.recall[i]:.3f} / {recall:.3f} ", end="")
        print(f"| {found.average_recall[i]:.3f} / {average:.3f} |")

    order = lines["order"]
    print(f"\nTest, all objects pooled, fast: {len(order):,} images; recall at 0.5, then AR.\n")
    print("| `defer_iou` | 100 | 300 | 1,000 | 2,000 | all |\n|---|---|---|---|---|---|")
    for iou in DEFERRED:
        found = Figures([(line[f"defer_iou {iou}"], truths[image]) for image, line in order.items()], pooled=True)
        print(f"| {iou} | {shown_at(found)} |")

    curves = {}
    for peers in (("fast",), ("fast", "quality")):
        common = [image for image in test if all(image in lines[f"opencv-{peer}"] for peer in peers)]
        if not common:
            continue
        print(f"\nTest, all objects pooled, as shipped: {len(common):,} images; recall at 0.5, then AR.\n")
        print("| | 100 | 300 | 1,000 | 2,000 | all | boxes | seconds |\n|---|---|---|---|---|---|---|---|")
        rows = {title: [as_shipped(test[image], name) for image in common] for title, name in SHIPPED.items()}
        rows |= {f"OpenCV {p}": [lines[f"opencv-{p}"][image][f"opencv {p}"] for image in common] for p in peers}
        for title, row in rows.items():
            found = Figures([(each, truths[image]) for each, image in zip(row, common, strict=True)], pooled=True)
            print(f"| {title} | {shown_at(found)} | {found.boxes[-1]:,.0f} | {found.seconds:.3f} |")
            curves[title] = (found.boxes.tolist(), found.recall.tolist())  # at last on images that all have
    if plot and curves:
        plot_recall(curves, plot, x_label="proposals an image", y_label="Recall at IoU 0.5")

    cells, truths = lines["cells"], read_truths(data, "trainval")
    print(f"\nTrainval, the paper's protocol: {len(cells):,} of {len(truths):,} images. Ours / the paper's.\n")
    print("| changed | boxes | MABO |\n|---|---|---|")
    for column, table in (("similarities", SIMILARITIES), ("color_spaces", COLOR_SPACES), ("k", SCALES)):
        for value, (mabo, boxes) in table.items():
            row = [(line[f"{column} {value}"], truths[image]) for image, line in cells.items()]
            found = Figures(row, pooled=False)
            print(f"| {column} {value} | {found.boxes[-1]:.0f} / {boxes} | {found.mabo[-1]:.3f} / {mabo:.3f} |")


def shown_at(found):
    """Recall and AR of 100, 300, 1,000, 2,000 and all boxes, as cells of a table."""
    at = [BUDGETS.index(budget) for budget in (100, 300, 1000, 2000)] + [-1]
    return " | ".join(f"{found.recall[i]:.3f} {found.average_recall[i]:.3f}" for i in at)


def as_shipped(line, preset):
    """The entry of ``preset`` in its own order; its seconds are those of the search, which the paper's order shares."""
    boxes, _, table = line[f"{preset} here"]
    return boxes, line[preset][1], table


class Figures:
    """What a row finds in some images, at each budget: all objects pooled, or by the paper's protocol.

    ``images``: of each the row's entry in its line, and the labels of its objects and which are not difficult.
    """

    def __init__(self, images, pooled):
        from proposals import recall

        keep = [pooled | plain for _, (_, plain) in images]
        tables = [np.reshape(entry[2], (-1, len(BUDGETS))) for entry, _ in images]
        overlaps = np.concatenate([table[kept] for table, kept in zip(tables, keep, strict=True)])
        labels = np.concatenate([of[kept] for (_, (of, _)), kept in zip(images, keep, strict=True)])
        self.boxes = np.minimum([[entry[0]] for entry, _ in images], BUDGETS).mean(axis=0)
        self.seconds = np.median([entry[1] for entry, _ in images])
        hits = (overlaps >= 0.5).astype(float)
        self.recall = hits.mean(axis=0) if pooled else recall.mean_over_classes(hits, labels)
        self.mabo = recall.mean_average_best_overlap(overlaps, labels)
        self.average_recall = recall.average_recall(overlaps)


def read_truths(data, split):
    """By image the labels of its objects, and which of them are not difficult."""
    from detector.data import load_dataset

    records = load_dataset(data, split)
    return {record.image_id: (record.ground_truth.labels, ~record.ground_truth.ignore) for record in records}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in (measure, tables):
        command = verbs.add_parser(verb.__name__)
        command.add_argument("out", type=Path)
        command.add_argument("data", type=Path)
        command.set_defaults(verb=verb)
        if verb is measure:
            command.add_argument("what", choices=MEASURED)
        else:
            command.add_argument("--plot", type=Path, metavar="IMAGE", help="draw the recall curves")
    arguments = vars(parser.parse_args())
    arguments.pop("verb")(**arguments)


if __name__ == "__main__":
    main()
