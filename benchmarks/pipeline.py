"""Seconds for one 640x480 photograph, by stage: proposals, maps, regions, later looks and suppression.

Command:  .venv/bin/python benchmarks/pipeline.py        (or: make benchmark ONLY=pipeline)
          --model DIR for another model, --members N, --repeats N, --threads N, --device cuda

The photographs are scikit-image's, scaled to fill 640x480. Each stage is run on its own for every photograph in turn,
so that a busy moment of the machine falls on all alike; the figures are medians over photographs and repeats, with the
10th and 90th percentile. The whole pipeline is timed as well, as one call.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch

from detector.detection.ensemble import Ensemble, ImageView
from detector.detection.pipeline import Detector
from detector.detection.suppression import RefinementConfig, next_regions, postprocess, scored
from detector.model.load import load_model

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
SIZE = (480, 640)


def photograph(name: str) -> np.ndarray:
    """One of scikit-image's pictures, cut and scaled to 640x480."""
    image = getattr(skimage.data, name)()
    height, width = image.shape[:2]
    scale = max(SIZE[0] / height, SIZE[1] / width)
    image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[: SIZE[0], : SIZE[1]])


def timed(stage: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and what it returns; waits for a GPU."""
    start = time.perf_counter()
    value = stage()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, value


def looked_again(
    ensemble: Ensemble, view: ImageView, boxes: np.ndarray, scores: np.ndarray, looks: RefinementConfig, power: float
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores of the last look, as the detector does it."""
    for _ in range(looks.rounds - 1):
        regions = next_regions(boxes, scores, view.image.shape[:2], looks)
        found = ensemble.predict(view, regions, mirror=looks.mirror)
        boxes, scores = found.boxes, scored(found.probs, found.overlap, power)
    return boxes, scores


def one_photograph(detector: Detector, ensemble: Ensemble, image: np.ndarray) -> tuple[dict[str, float], int]:
    """Seconds of each stage for one image, and the number of regions."""
    spent, view, power = {}, ImageView(image), detector.config.overlap_power
    spent["proposals"], proposals = timed(
        lambda: detector.proposals.propose(image).select(slice(detector.max_proposals))
    )
    # No region needs maps all the same, and crops of none cost nothing.
    spent["maps of the image"], _ = timed(lambda: ensemble.predict(view, proposals.boxes[:0]))
    spent["regions"], found = timed(lambda: ensemble.predict(view, proposals.boxes))
    boxes, scores = found.boxes, scored(found.probs, found.overlap, power)
    looks = detector.refinement
    if looks is not None and looks.rounds > 1:
        spent["looks after the first"], (boxes, scores) = timed(
            lambda: looked_again(ensemble, view, boxes, scores, looks, power)
        )
    spent["suppression"], _ = timed(lambda: postprocess(boxes, scores, proposals.image_size, detector.config))
    spent["whole call"], _ = timed(lambda: detector(image))
    return spent, len(proposals)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--members", type=int, help="only the first so many networks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    detector = load_model(
        arguments.model, device=arguments.device, members=arguments.members, threads=arguments.threads
    )
    ensemble = detector.classifier
    assert isinstance(ensemble, Ensemble)
    images = [photograph(name) for name in PHOTOGRAPHS]
    for image in images[:2]:
        detector(image)  # compiled loops and convolution plans are loaded

    seconds: dict[str, list[float]] = {}
    regions = []
    for _ in range(arguments.repeats):
        for image in images:
            spent, count = one_photograph(detector, ensemble, image)
            regions.append(count)
            for stage, value in spent.items():
                seconds.setdefault(stage, []).append(value)

    print(f"{platform.machine()}, {arguments.threads} threads, {arguments.device}; torch {torch.__version__}")
    print(f"{ensemble.num_members} network(s), {np.median(regions):.0f} regions a photograph (median)\n")
    print("| stage | median s | 10 % | 90 % |\n|---|---|---|---|")
    for stage, values in seconds.items():
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        print(f"| {stage} | {middle:.3f} | {low:.3f} | {high:.3f} |")


if __name__ == "__main__":
    main()
