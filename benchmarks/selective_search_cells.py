"""The paper's table of single changes: MABO and number of boxes of 29 variants on VOC 2007 trainval.

    PYTHONPATH=. python benchmarks/selective_search_cells.py VOCdevkit/VOC2007 [--limit 500]

Base: RGB, CTSF, k = 50. Each cell changes one of them, and the published value stands beside ours. The protocol is the
authors': objects that are not difficult, mean over the 20 classes, no repeats, no boxes with a side below 20 pixels.
NOT RUN by this project: VOC 2007 was not at hand, so no figure of ours is claimed for this table.
"""

import argparse
from pathlib import Path

import numpy as np

from detector.data import load_dataset
from detector.images.read import read_image
from proposals.recall import best_overlaps, mean_average_best_overlap, mean_number
from proposals.selective_search import SelectiveSearch, SelectiveSearchConfig

# (what is changed, its value): the paper's MABO and number of boxes.
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


def cells():
    """(name, config, published MABO, published number of boxes) of each cell."""
    base = {"color_spaces": ("RGB",), "similarities": ("CTSF",), "k": (50,), "min_box_side": 20, "defer_iou": 1}
    for field, table in (("similarities", SIMILARITIES), ("color_spaces", COLOR_SPACES), ("k", SCALES)):
        for value, (mabo, number) in table.items():
            yield f"{field} {value}", SelectiveSearchConfig(**{**base, field: (value,)}), mabo, number


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--limit", type=int, help="only the first so many images")
    arguments = parser.parse_args()
    if arguments.data is None:
        print("not run: needs the folder of VOC 2007, see --help")
        return
    dataset = load_dataset(arguments.data, "trainval")
    records = [dataset[i] for i in range(min(len(dataset), arguments.limit or len(dataset)))]
    wanted = [~(record.ground_truth.ignore | record.ground_truth.crowd) for record in records]
    truths = [record.ground_truth.boxes[keep] for record, keep in zip(records, wanted, strict=True)]
    labels = np.concatenate([record.ground_truth.labels[keep] for record, keep in zip(records, wanted, strict=True)])
    everything = [10**9]
    print("| cell | MABO | boxes | paper's MABO | paper's boxes |\n|---|---|---|---|---|")
    for name, config, mabo, number in cells():
        search = SelectiveSearch(config)
        boxes = [search.propose(read_image(record.path)).boxes for record in records]
        ours = mean_average_best_overlap(best_overlaps(boxes, truths, everything), labels)[0]
        print(f"| {name} | {ours:.3f} | {mean_number(boxes, everything)[0]:.0f} | {mabo:.3f} | {number} |", flush=True)


if __name__ == "__main__":
    main()
