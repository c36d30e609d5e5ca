"""Recall of selective search beside OpenCV's own ``fast``, on any data set: the same truths, budgets and measures.

    PYTHONPATH=. peer/bin/python benchmarks/opencv_recall.py boxes DIR data/fruit/JPEGImages/*.jpg
    PYTHONPATH=. python benchmarks/opencv_recall.py table DIR data/fruit --split test

The first runs OpenCV (k 150, 300, 450, min_size 100, ``srand(0)`` before each image) where its contrib build is
installed (see opencv_agreement.py) and writes ``DIR/<name of the image>.npy``; a picture whose file is there is passed
over. The second needs the project's environment. Truths are the annotated boxes that are neither ignored nor crowds,
pooled; MABO is the mean over the classes. Ours ranks by the seeds 0, 1 and 2, and the figures are their mean. A method
that has fewer boxes than a budget is counted with all it has, so a last row gives OpenCV's with as many boxes as
``googlenet`` has for each image.
"""

import argparse
from pathlib import Path

import numpy as np

BUDGETS = (100, 500, 1000, 2000, 10**9)
SEEDS = (0, 1, 2)


def write_boxes(folder, pictures):
    import cv2
    from opencv_peer import seed, switched
    from PIL import Image

    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    for picture in map(Path, pictures):
        target = folder / f"{picture.stem}.npy"
        if not target.exists():
            seed(0)
            np.save(target, switched(np.asarray(Image.open(picture).convert("RGB")), "fast"))


def figures(boxes, truths, labels):
    """Mean number of boxes, then recall at 0.5 and 0.7, AR, ABO and MABO ``(5, B)``."""
    from proposals import recall as measure

    overlaps = measure.best_overlaps(boxes, truths, BUDGETS)
    rows = [measure.recall(overlaps, 0.5), measure.recall(overlaps, 0.7), measure.average_recall(overlaps)]
    rows += [measure.average_best_overlap(overlaps), measure.mean_average_best_overlap(overlaps, labels)]
    return np.mean([len(b) for b in boxes]), np.array(rows)


def table(folder, data, split, presets):
    from detector.data import load_dataset
    from detector.images.read import read_image
    from proposals.selective_search import selective_search

    dataset = load_dataset(data, split)
    records = [record for record in dataset if (folder / f"{Path(record.path).stem}.npy").exists()]
    wanted = [~(record.ground_truth.ignore | record.ground_truth.crowd) for record in records]
    truths = [record.ground_truth.boxes[keep] for record, keep in zip(records, wanted, strict=True)]
    labels = np.concatenate([record.ground_truth.labels[keep] for record, keep in zip(records, wanted, strict=True)])
    images = [read_image(record.path) for record in records]
    print(f"{len(records)} of {len(dataset)} images, {len(labels):,} truths, {len(set(labels.tolist()))} classes\n")
    print("| | boxes | recall 0.5 | recall 0.7 | AR | ABO | MABO |\n|---|---|---|---|---|---|---|")
    numbers = {}
    for preset in presets:
        runs = [[selective_search(image, preset, seed).boxes for image in images] for seed in SEEDS]
        numbers[preset] = [len(boxes) for boxes in runs[0]]
        results = [figures(boxes, truths, labels) for boxes in runs]
        show(f"`{preset}`", results[0][0], np.mean([rows for _, rows in results], axis=0))
    peer = [np.load(folder / f"{Path(record.path).stem}.npy") for record in records]
    show("OpenCV fast", *figures(peer, truths, labels))
    if "googlenet" in presets:
        cut = [boxes[:number] for boxes, number in zip(peer, numbers["googlenet"], strict=True)]
        show("OpenCV fast, no more boxes than `googlenet`", *figures(cut, truths, labels))


def show(name, number, rows):
    cells = " | ".join(" ".join(f"{value:.3f}".removeprefix("0") for value in row) for row in rows)
    print(f"| {name} | {number:.0f} | {cells} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    boxes = verbs.add_parser("boxes", help="run OpenCV")
    boxes.add_argument("folder", type=Path)
    boxes.add_argument("pictures", nargs="+")
    report = verbs.add_parser("table", help="measure and print")
    report.add_argument("folder", type=Path)
    report.add_argument("data", type=Path)
    report.add_argument("--split")
    report.add_argument("--presets", default="single,fast,googlenet")
    arguments = parser.parse_args()
    if arguments.verb == "boxes":
        write_boxes(arguments.folder, arguments.pictures)
    else:
        table(arguments.folder, arguments.data, arguments.split, arguments.presets.split(","))


if __name__ == "__main__":
    main()
