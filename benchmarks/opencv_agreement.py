"""How many of OpenCV's selective-search boxes ours has too, and what the others are due to.

    python3 -m venv peer
    peer/bin/pip install opencv-contrib-python numba numpy pydantic pillow scikit-image pyyaml
    PYTHONPATH=. peer/bin/python benchmarks/opencv_agreement.py data/coco128/train2017 --images 24

Both run the strategies of the paper's Fast: HSV and Lab, k = min_size = 50 and 100, CTSF and TSF, smoothing 0.8. A box
of OpenCV's is matched when one of ours has an IoU of at least 0.7 with it; no box of ours is left out for its size. The
rows replace parts of ours by OpenCV's one after the other, so that each step shows what that part is worth:

1. ours as it is set by default, on the 8-connected pixel graph
2. the same on the 4-connected graph, as OpenCV's: a setting
3. and with OpenCV's texture filter in the place of the paper's Gaussian derivatives: now all strategies are the same
4. and from OpenCV's superpixels: what is left of the order of equal edges and of our weights' 13 bits
5. and with the neighbours that OpenCV sees
6. colour, size and fill alone (CSF and SF) on the 4-connected graph, all parts ours: no texture is involved
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numba
import numpy as np
from opencv_peer import composed, neighbours, superpixels, texture
from PIL import Image

from proposals.colors import to_planes
from proposals.grouping import group
from proposals.regions import Regions, describe, texture_bins
from proposals.superpixels import segment

IOU = 0.7
SCALES = ((50.0, 50), (100.0, 100))
FULL, NO_TEXTURE = ("CTSF", "TSF"), ("CSF", "SF")


def search(
    rgb, peer_labels, connectivity=4, measures=FULL, texture_of=texture_bins, with_labels=False, with_pairs=False
):
    """Our boxes ``(N, 4)``, with some parts of OpenCV's; ``peer_labels`` are its superpixels of each colour space."""
    area = rgb.shape[0] * rgb.shape[1]
    found = []
    for space in ("HSV", "Lab"):
        planes = to_planes(rgb, space)
        bins = texture_of(planes)
        for labels in peer_labels[space] if with_labels else segment(planes, SCALES, 0.8, connectivity):
            regions = describe(planes, bins, labels)
            if with_pairs:
                regions = Regions(regions.sizes, regions.boxes, neighbours(labels), regions.color, regions.texture)
            found.append(regions.boxes)
            found.extend(group(regions, letters, area) for letters in measures)
    return np.unique(np.concatenate(found), axis=0).astype(np.float32)


ROWS = {
    "1. ours by default (8-connected)": {"connectivity": 8},
    "2. 4-connected": {},
    "3. and OpenCV's texture filter": {"texture_of": texture},
    "4. and OpenCV's superpixels": {"texture_of": texture, "with_labels": True},
    "5. and OpenCV's neighbours": {"texture_of": texture, "with_labels": True, "with_pairs": True},
    "6. 4-connected, without texture": {"measures": NO_TEXTURE},
}


@numba.njit
def matched(peer, boxes):
    """Which of OpenCV's boxes ``(N, 4)`` are matched: ``(N,)`` bool."""
    found = np.zeros(len(peer), np.bool_)
    for i in range(len(peer)):
        x1, y1, x2, y2 = peer[i]
        for j in range(len(boxes)):
            width = min(x2, boxes[j, 2]) - max(x1, boxes[j, 0])
            height = min(y2, boxes[j, 3]) - max(y1, boxes[j, 1])
            if width > 0 and height > 0:
                both = width * height
                area = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                if both >= IOU * ((x2 - x1) * (y2 - y1) + area - both):
                    found[i] = True
                    break
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=24)
    arguments = parser.parse_args()
    if arguments.folder is None or not hasattr(cv2, "ximgproc"):
        print("not run: needs photographs and OpenCV's contrib build in an environment of its own, see --help")
        return
    hits = {name: [] for name in ROWS}
    paths = sorted(arguments.folder.glob("*.jpg"))[: arguments.images]
    started = time.perf_counter()
    boxes = 0
    for path in paths:
        rgb = np.asarray(Image.open(path).convert("RGB"))
        peers = {measures: composed(rgb, measures=measures) for measures in (FULL, NO_TEXTURE)}
        labels = {space: [superpixels(rgb, space, *scale) for scale in SCALES] for space in ("HSV", "Lab")}
        boxes += len(peers[FULL])
        for name, parts in ROWS.items():
            hits[name].append(matched(peers[parts.get("measures", FULL)], search(rgb, labels, **parts)))
        print(path.name, *(f"{masks[-1].mean():.3f}" for masks in hits.values()), file=sys.stderr, flush=True)
    print(f"{len(paths)} photographs, {boxes:,} boxes of OpenCV, {time.perf_counter() - started:.0f} s\n")
    print("| ours | mean of photographs | least | all boxes pooled |\n|---|---|---|---|")
    for name, masks in hits.items():
        shares = [mask.mean() for mask in masks]
        pooled = np.concatenate(masks).mean()
        print(f"| {name} | {np.mean(shares):.4f} | {min(shares):.4f} | {pooled:.4f} |")


if __name__ == "__main__":
    main()
