"""Seconds of processor time for one 640x480 photograph in torch, ONNX Runtime and OpenVINO.

Command:  detector export bundled --out bundled-onnx
          .venv/bin/python benchmarks/runtimes.py bundled-onnx     (--repeats N, --threads N)

The whole detector is called, proposals included, on scikit-image's astronaut scaled to fill 640x480. The runtimes take
turns, so that a busy moment of the machine falls on all alike. Processor time counts all threads, and other programs
hardly change it; on a machine that does nothing else, one thread's is what the clock shows.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from pipeline import photograph

from detector.model.load import load_model

RUNTIMES = {
    "torch": ("torch", "float32"),
    "onnx": ("onnx", "float32"),
    "openvino": ("openvino", "float32"),
    "openvino, bfloat16": ("openvino", "bfloat16"),
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    image = photograph("astronaut")
    detectors = {
        name: load_model(given.model, device="cpu", runtime=runtime, precision=precision, threads=given.threads)
        for name, (runtime, precision) in RUNTIMES.items()
    }
    found = {name: detector(image) for name, detector in detectors.items()}  # the first call is not timed
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in RUNTIMES}
    for _ in range(given.repeats):
        for name, detector in detectors.items():
            clock, used = time.perf_counter(), time.process_time()
            detector(image)
            spent[name].append((time.process_time() - used, time.perf_counter() - clock))
    print(
        f"{'runtime':20} {'CPU s: median':>14} {'10 %':>6} {'90 %':>6} {'clock: median':>14}  objects, score differs by"
    )
    for name, times in spent.items():
        used, clock = np.array(times).T
        few, many = np.percentile(used, [10, 90])
        same = len(found[name]) == len(found["torch"])
        apart = f"{np.abs(found[name].scores - found['torch'].scores).max(initial=0):.1g}" if same else "-"
        print(
            f"{name:20} {np.median(used):14.3f} {few:6.3f} {many:6.3f} {np.median(clock):14.3f}  "
            f"{len(found[name])}, {apart}"
        )


if __name__ == "__main__":
    main()
