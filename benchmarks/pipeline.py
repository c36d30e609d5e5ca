"""Where the time of one image goes: seconds by stage, and the networks' share of the peak.

Command:  .venv/bin/python benchmarks/pipeline.py        (or: make benchmark ONLY=pipeline)
          --model DIR for another model, --repeats N, --threads N; as for detector detect: --members N,
          --precision float32, --proposals multibox, --max-proposals N, --image-side N, --looks N

The images are scikit-image's, scaled to fill 640x480. Every repeat does all of them in turn; the figures are medians
over images and repeats, with the 10th and 90th percentile. On one thread the time is the processor's, which a busy
machine changes little; on more of them it is the clock's. Several images are detected side by side, one thread each.
The peak is what a product of two 2048x2048 matrices reaches in the same format, measured between the repeats.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detector.detection.precision import DTYPES
from detector.detection.stages import Stages
from detector.model.load import load_model
from detector.nets.int8 import Int8Conv

IMAGES = ("astronaut", "chelsea", "coffee", "rocket")
SIZE = (480, 640)


def photograph(name: str) -> np.ndarray:
    """One of scikit-image's images, cut and scaled to 640x480."""
    image = getattr(skimage.data, name)()
    height, width = image.shape[:2]
    scale = max(SIZE[0] / height, SIZE[1] / width)
    image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[: SIZE[0], : SIZE[1]])


def peak(precision: str, clock: Callable[[], float], side: int = 2048) -> float:
    """Operations a second of a product of two square matrices."""
    if precision == "int8":
        conv = nn.Conv2d(side, side, 1)
        layer = Int8Conv(conv, torch.ones(side), 1.0, torch.float32)
        x = torch.randint(0, 256, (1, side, side, 1), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        begun = clock()
        layer(x)
    else:
        left, right = (torch.rand(side, side, dtype=DTYPES[precision]) for _ in range(2))
        begun = clock()
        left @ right
    return 2 * side**3 / (clock() - begun)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--members", type=int, help="only the first so many networks")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16", "int8"])
    parser.add_argument("--proposals", help="a preset of selective search, or multibox")
    parser.add_argument("--max-proposals", type=int, help="classify at most so many regions")
    parser.add_argument("--looks", type=int, help="classify regions so many times")
    parser.add_argument("--image-side", type=int, help="the longer side of the image that the networks see")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.thread_time if arguments.threads == 1 else time.perf_counter
    load = partial(
        load_model,
        arguments.model,
        device="cpu",
        members=arguments.members,
        proposals=arguments.proposals,
        max_proposals=arguments.max_proposals,
        image_side=arguments.image_side,
        looks=arguments.looks,
        threads=arguments.threads,
    )
    images = [photograph(name) for name in IMAGES]
    detector, counted, operations = load(precision=arguments.precision), load(precision="float32"), []
    precision = detector.classifier.precision  # type: ignore[attr-defined]
    for image in images:  # compiled loops and convolution plans are loaded here as well
        detector(image)
        with FlopCounterMode(display=False) as counter:  # of products in whole numbers it knows nothing
            counted(image)
        operations.append(counter.get_total_flops())

    rows: dict[str, list[float]] = {}
    reached, peaks = [], []
    for _ in range(arguments.repeats):
        peaks.append(peak(precision, clock))
        for image, count in zip(images, operations, strict=True):
            detector.stages = Stages(clock)
            begun = clock()
            detector(image)
            spent = {**detector.stages.seconds, "whole call": clock() - begun}
            reached.append(count / spent["networks"])
            for stage, seconds in spent.items():
                rows.setdefault(stage, []).append(seconds)

    print(f"{platform.machine()}, threads: {arguments.threads}; {precision}; torch {torch.__version__}\n")
    print("| stage | median s | 10 % | 90 % |\n|---|---|---|---|")
    for stage, values in rows.items():
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        print(f"| {stage} | {middle:.3f} | {low:.3f} | {high:.3f} |")
    rate, top = np.median(reached) / 1e9, np.median(peaks) / 1e9
    print(
        f"\nNetworks: {np.median(operations) / 1e9:.1f} GFLOP an image at {rate:.0f} GFLOP/s, {rate / top:.0%} of the "
        f"peak of {top:.0f}"
    )


if __name__ == "__main__":
    main()
