"""Where the time of one image goes: processor seconds by stage on one thread, and the networks' share of the peak.

Command:  .venv/bin/python benchmarks/pipeline.py        (or: make benchmark ONLY=pipeline)
          --model DIR for another model, --members N, --precision bfloat16, --proposals multibox, --repeats N

The images are scikit-image's, scaled to fill 640x480. Every repeat does all of them in turn; the figures are medians
over images and repeats, with the 10th and 90th percentile. The time is the processor's, which a busy machine changes
little; several images are detected side by side, so that two cores do twice as many. The peak is what a product of two
2048x2048 matrices reaches in the same format, measured between the repeats.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from torch.utils.flop_counter import FlopCounterMode

from detector.detection.stages import Stages
from detector.model.load import load_model

IMAGES = ("astronaut", "chelsea", "coffee", "rocket")
SIZE = (480, 640)


def photograph(name: str) -> np.ndarray:
    """One of scikit-image's images, cut and scaled to 640x480."""
    image = getattr(skimage.data, name)()
    height, width = image.shape[:2]
    scale = max(SIZE[0] / height, SIZE[1] / width)
    image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[: SIZE[0], : SIZE[1]])


def peak(dtype: torch.dtype, side: int = 2048) -> float:
    """Operations a second of a product of two square matrices on this thread."""
    left, right = (torch.rand(side, side, dtype=dtype) for _ in range(2))
    begun = time.thread_time()
    left @ right
    return 2 * side**3 / (time.thread_time() - begun)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--members", type=int, help="only the first so many networks")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--proposals", help="a preset of selective search, or multibox")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detector = load_model(
        arguments.model,
        device="cpu",
        members=arguments.members,
        precision=arguments.precision,
        proposals=arguments.proposals,
        threads=1,
    )
    images = [photograph(name) for name in IMAGES]
    operations = []
    for image in images:  # compiled loops and convolution plans are loaded here as well
        with FlopCounterMode(display=False) as counter:
            detector(image)
        operations.append(counter.get_total_flops())

    rows: dict[str, list[float]] = {}
    reached, peaks = [], []
    for _ in range(arguments.repeats):
        peaks.append(peak(getattr(torch, arguments.precision)))
        for image, count in zip(images, operations, strict=True):
            detector.stages = Stages(time.thread_time)
            begun = time.thread_time()
            detector(image)
            spent = {**detector.stages.seconds, "whole call": time.thread_time() - begun}
            reached.append(count / spent["networks"])
            for stage, seconds in spent.items():
                rows.setdefault(stage, []).append(seconds)

    print(f"{platform.machine()}, 1 thread, {arguments.precision}; torch {torch.__version__}\n")
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
