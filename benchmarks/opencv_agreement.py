"""How many of OpenCV's selective-search boxes ours has too, with the same strategies and the same smoothing.

    python3 -m venv peer
    peer/bin/pip install opencv-contrib-python numba pydantic pillow scikit-image
    PYTHONPATH=. peer/bin/python benchmarks/opencv_agreement.py data/coco128/train2017 --images 24

A box is matched when one of ours has an IoU of at least 0.7 with it. Ours runs once with the 4-connected pixel graph
that OpenCV has and once with its own 8-connected one; no box is left out for its size.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from opencv_peer import composed
from PIL import Image

from proposals.boxes import iou
from proposals.selective_search import selective_search


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=24)
    arguments = parser.parse_args()
    if arguments.folder is None or not hasattr(cv2, "ximgproc"):
        print(
            "not run: needs a folder of photographs and OpenCV's contrib build in an environment of its own, see --help"
        )
        return
    shares = {4: [], 8: []}
    found = total = 0
    paths = sorted(arguments.folder.glob("*.jpg"))[: arguments.images]
    started = time.perf_counter()
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        peer = composed(image)
        for connectivity, values in shares.items():
            boxes = selective_search(image, {"connectivity": connectivity, "min_box_side": 0}).boxes
            overlap = np.concatenate([iou(peer[i : i + 500], boxes).max(axis=1) for i in range(0, len(peer), 500)])
            values.append((overlap >= 0.7).mean())
            if connectivity == 4:
                found += int((overlap >= 0.7).sum())
                total += len(peer)
    print(f"{len(paths)} photographs, {total:,} boxes of OpenCV, {time.perf_counter() - started:.0f} s")
    for connectivity, values in shares.items():
        print(f"{connectivity}-connected: matched {np.mean(values):.4f} (mean of photographs, least {min(values):.4f})")
    print(f"4-connected, all boxes pooled: {found / max(1, total):.4f}")


if __name__ == "__main__":
    main()
