"""YOLOv8n trained from random weights on photographs of one's own, for as many minutes: a peer of ``detector train``.

Command:  python benchmarks/yolov8_peer.py --data data/fruit --split train --test test --minutes 10 --out runs/yolov8
Then:     detector evaluate --data data/fruit --split test --metric coco --detections runs/yolov8/detections.csv

``yolo`` is the command of Ultralytics (``pip install ultralytics``, AGPL-3.0, in an environment of its own), with its
defaults: images of 640 pixels, batches of 16, mosaics. Nothing is validated while it trains, and the last weights are
taken: the data sets have no images to spare for a choice. ``docs/results/own_photographs.md`` has the figures.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from pathlib import Path

import numpy as np
import yaml

from detector import load_dataset
from detector.data import Dataset

LEAST_SCORE, MOST = 0.005, 300


def write_images(data: Dataset, folder: Path) -> None:
    """The images of ``data`` as links, and a text file of boxes for each, as YOLO has them."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for record in data:
        (folder / "images" / record.path.name).symlink_to(record.path.resolve())
        height, width = record.image_size
        boxes = record.ground_truth.boxes / np.array([width, height, width, height])
        rows = [
            f"{label} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n"
            for label, (x1, y1, x2, y2) in zip(record.ground_truth.labels.tolist(), boxes.tolist(), strict=True)
        ]
        (folder / "labels" / f"{record.path.stem}.txt").write_text("".join(rows), encoding="utf-8")


def read_found(labels: Path, data: Dataset, file: Path) -> None:
    """What ``yolo`` has written into ``labels``, as a table that ``detector evaluate`` reads."""
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("image_id", "class_name", "score", "x1", "y1", "x2", "y2"))
        for record in data:
            found = labels / f"{record.path.stem}.txt"
            height, width = record.image_size
            for line in found.read_text(encoding="utf-8").splitlines() if found.is_file() else ():
                label, x, y, w, h, score = map(float, line.split())
                box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
                rows.writerow((record.image_id, data.class_names[int(label)], score, *(f"{side:.2f}" for side in box)))


def run_yolo(mode: str, out: Path, name: str, *settings: str) -> None:
    """``yolo detect`` in a ``mode``, into the folder ``name`` of ``out``."""
    where = ("device=cpu", f"project={out}", f"name={name}", "exist_ok=True")
    subprocess.run(["yolo", "detect", mode, *settings, *where], check=True)


def main() -> None:
    """Train, detect, and write ``detections.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    parts = {"train": load_dataset(given.data, given.split), "test": load_dataset(given.data, given.test)}
    out = given.out.resolve()
    for name, data in parts.items():
        write_images(data, out / name)
    described = {"path": str(out), "train": "train/images", "val": "train/images", "names": list(data.class_names)}
    (out / "data.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    run_yolo(
        "train", out, "run", "model=yolov8n.yaml", "pretrained=False", f"data={out / 'data.yaml'}",
        f"time={given.minutes / 60:.5f}", "val=False", "plots=False",
    )  # fmt: skip
    run_yolo(
        "predict", out, "found", f"model={out / 'run' / 'weights' / 'last.pt'}", f"source={out / 'test' / 'images'}",
        f"conf={LEAST_SCORE}", f"max_det={MOST}", "save=False", "save_txt=True", "save_conf=True",
    )  # fmt: skip
    read_found(out / "found" / "labels", parts["test"], out / "detections.csv")


if __name__ == "__main__":
    main()
