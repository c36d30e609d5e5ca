"""What sharing the cores costs a detector, by how long threads wait for one another before they let go of their core.

Command:  .venv/bin/python benchmarks/busy_machine.py        (or: make benchmark ONLY=busy_machine)
          --rounds N, --spins N ... for other counts

Threads of PyTorch that have done their part of a layer turn in a loop until the others have done theirs, by libgomp's
default 300,000 times. Where other programs want the cores as well, they so keep from working the very thread that they
wait for. ``GOMP_SPINCOUNT`` is the number of turns; :mod:`detector.cli` sets it for the command line.

Each setting in turn, round after round: one detector alone, two at once, and one beside a busy loop on each core. Every
detector is a process that has loaded the bundled model, has detected once, and begins when all are ready. Seconds for
one 640x480 photograph of scikit-image's, in every round another, as median, least and most; and the median over the
rounds of the ratio to the first setting's.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np

VARIABLE = "GOMP_SPINCOUNT"
PLACES = ("alone", "two at once", "beside busy loops")


def detect(number: int) -> None:
    """Be one detector: say when ready, wait for a line, and print the seconds for a photograph."""
    from pipeline import IMAGES, photograph

    from detector.model.load import load_model

    detector = load_model()
    image = photograph(IMAGES[number % len(IMAGES)])
    detector(image)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    detector(image)
    print(time.perf_counter() - start, flush=True)


def seconds(spins: int, place: str, number: int) -> float:
    """For one photograph, the mean over the detectors that run at once."""
    environment = {**os.environ, VARIABLE: str(spins)}
    with ExitStack() as stack:
        detectors = []
        for _ in range(2 if place == "two at once" else 1):
            process = subprocess.Popen(
                [sys.executable, __file__, "--detect", str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            detectors.append(stack.enter_context(process))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for _ in range(os.cpu_count() or 1 if place == "beside busy loops" else 0):
            loop = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(loop.kill)
        for process in detectors:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return float(np.mean([float(process.stdout.readline()) for process in detectors if process.stdout]))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--spins", type=int, nargs="+", default=[300_000, 10_000, 3_000, 0])
    parser.add_argument("--detect", type=int, metavar="N", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.detect is not None:
        detect(arguments.detect)
        return
    found: dict[tuple[int, str], list[float]] = {(spins, place): [] for spins in arguments.spins for place in PLACES}
    for number in range(arguments.rounds):
        for (spins, place), values in found.items():
            values.append(seconds(spins, place, number))
            print(f"round {number + 1}: {spins:,} turns, {place}: {values[-1]:.2f} s", file=sys.stderr)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {arguments.rounds} rounds\n")
    print(f"| {VARIABLE} | {' | '.join(PLACES)} |\n|---|{'---|' * len(PLACES)}")
    for spins in arguments.spins:
        cells = []
        for place in PLACES:
            values = found[spins, place]
            ratio = np.median(np.divide(values, found[arguments.spins[0], place]))
            cells.append(f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f}), {ratio:.2f}")
        print(f"| {spins:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
