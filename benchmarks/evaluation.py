"""Speed, memory and agreement of the evaluation protocols.

    python benchmarks/evaluation.py                    # every measurement; results on standard output as Markdown
    python benchmarks/evaluation.py voc coco --repeats 3

Each measurement runs in a process of its own (so that its peak memory is its own), after one warm-up run on a small set
that loads the compiled loops; the figure is the median of the repeats, with the lowest and highest, and the processor
time, which other work on the machine hardly changes. Measurements are interleaved. "MB" counts the whole process; what
was there before the call are the libraries and the data. The data are random: every image has objects, and detections
of which half lie near an object.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from detector.evaluation.coco import evaluate_coco
from detector.evaluation.error_analysis import analyse_errors
from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det
from detector.evaluation.prepare import prepare
from detector.evaluation.read_files import read_detections
from detector.evaluation.tables import DetectionTable, TruthTable
from detector.evaluation.voc import evaluate_voc
from detector.evaluation.warmup import warmup

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from coco_reference import reference_arrays
from official_files import write_coco_results


def make_set(images: int, classes: int, per_image: int, objects: int = 7) -> tuple[DetectionTable, TruthTable]:
    """``images`` pictures of 500 x 500 with ``objects`` objects and ``per_image`` detections each."""
    rng = np.random.default_rng(0)
    ids = tuple(str(i) for i in range(images))
    truth_image = np.repeat(np.arange(images), objects)
    corner = rng.uniform(0, 400, (len(truth_image), 2))
    sides = rng.uniform(5, 150, (len(truth_image), 2))
    labels = rng.integers(0, classes, len(truth_image))
    none = np.zeros(len(truth_image), np.bool_)
    truth = TruthTable(
        ids,
        np.full((images, 2), 500, np.int64),
        truth_image,
        labels,
        np.concatenate([corner, corner + sides], axis=1),
        sides,
        none,
        rng.random(len(truth_image)) < 0.01,
        sides.prod(axis=1),
    )
    image = np.repeat(np.arange(images), per_image)
    near = rng.random(len(image)) < 0.5
    source = image * objects + rng.integers(0, objects, len(image))
    start = np.where(
        near[:, None], corner[source] + rng.normal(0, 8, (len(image), 2)), rng.uniform(0, 400, (len(image), 2))
    )
    size = np.where(
        near[:, None], sides[source] * rng.uniform(0.8, 1.25, (len(image), 2)), rng.uniform(5, 150, (len(image), 2))
    )
    found_labels = np.where(near & (rng.random(len(image)) < 0.8), labels[source], rng.integers(0, classes, len(image)))
    scores = np.clip(rng.normal(np.where(near, 0.6, 0.3), 0.2), 0, 1)
    table = DetectionTable(ids, image, found_labels, scores, np.concatenate([start, start + size], axis=1), size)
    return table, truth


def names(classes: int) -> list[str]:
    """Class names."""
    return [f"class {i}" for i in range(classes)]


Measure = Callable[[], Callable[[], object]]


def voc(images: int = 5000) -> Callable[[], object]:
    """VOC 2007, 20 classes, 100 detections an image."""
    found, truth = make_set(images, 20, 100)
    return lambda: evaluate_voc(found, truth, names(20))


def ilsvrc(images: int = 20000) -> Callable[[], object]:
    """ILSVRC DET, 200 classes, 100 detections an image."""
    found, truth = make_set(images, 200, 100)
    return lambda: evaluate_ilsvrc_det(found, truth, names(200))


def coco(images: int = 5000) -> Callable[[], object]:
    """COCO, 80 classes, 100 detections an image."""
    found, truth = make_set(images, 80, 100)
    return lambda: evaluate_coco(found, truth, names(80))


def reference() -> Callable[[], object]:
    """The same by pycocotools."""
    found, truth = make_set(5000, 80, 100)
    return lambda: reference_arrays(prepare(found, truth, names(80)))


def interval(metric: str) -> Callable[[], object]:
    """1000 resamples on top of an evaluation."""
    if metric == "voc":
        found, truth = make_set(5000, 20, 100)
        return lambda: evaluate_voc(found, truth, names(20), bootstrap_samples=1000)
    if metric == "coco":
        found, truth = make_set(5000, 80, 100)
        return lambda: evaluate_coco(found, truth, names(80), bootstrap_samples=1000)
    found, truth = make_set(20000, 200, 100)
    return lambda: evaluate_ilsvrc_det(found, truth, names(200), bootstrap_samples=1000)


def errors() -> Callable[[], object]:
    """Error analysis of the VOC set."""
    found, truth = make_set(5000, 20, 100)
    result = evaluate_voc(found, truth, names(20))
    return lambda: analyse_errors(result.need_matches())


def read_big(megabytes: int) -> Callable[[], object]:
    """A COCO results file of about so many megabytes."""
    folder = TemporaryDirectory()
    path = Path(folder.name) / "results.json"
    rows = megabytes * 6_400  # one takes some 155 bytes
    found, _ = make_set(max(rows // 100, 1), 80, 100)
    write_coco_results(path, found, list(range(1, 81)))
    print(f"{path.stat().st_size / 1e6:.0f} MB", file=sys.stderr)

    def read(keep: object = folder) -> object:
        return read_detections(path, names(80), class_keys=[str(i) for i in range(1, 81)])

    return read


MEASURES: dict[str, Callable[[], Callable[[], object]]] = {
    "voc": voc,
    "voc, 10,000 images": lambda: voc(10000),
    "voc, 20,000 images": lambda: voc(20000),
    "voc, 100,000 images": lambda: voc(100000),
    "ilsvrc": ilsvrc,
    "ilsvrc, 10,000 images": lambda: ilsvrc(10000),
    "ilsvrc, 40,000 images": lambda: ilsvrc(40000),
    "coco": coco,
    "coco, 20,000 images": lambda: coco(20000),
    "coco, 100,000 images": lambda: coco(100000),
    "pycocotools": reference,
    "voc with 1000 resamples": lambda: interval("voc"),
    "coco with 1000 resamples": lambda: interval("coco"),
    "ilsvrc with 1000 resamples": lambda: interval("ilsvrc"),
    "error analysis, voc": errors,
    "read 50 MB of COCO results": lambda: read_big(50),
    "read 500 MB of COCO results": lambda: read_big(500),
}


def run_one(name: str) -> dict[str, float]:
    """Time and peak memory of one measurement in this process."""
    warmup()
    call = MEASURES[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, busy = time.perf_counter(), time.process_time()
    call()
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu": busy, "before_mb": before / 1024, "peak_mb": after / 1024}


def main() -> None:
    """Run the measurements named on the command line (prefixes), or all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="measurements to run, by the start of their names")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_one(arguments.one)))
        return
    chosen = [n for n in MEASURES if not arguments.names or any(n.startswith(p) for p in arguments.names)]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for _ in range(arguments.repeats):
        for name in chosen:
            command = [sys.executable, __file__, "--one", name]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs[name].append(json.loads(out.splitlines()[-1]))
            print(name, runs[name][-1], file=sys.stderr, flush=True)
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}\n")
    print(
        "| measurement | seconds, median (lowest to highest) | processor seconds, least | peak MB | before the call |"
    )
    print("|---|---|---|---|---|")
    for name, rows in runs.items():
        seconds = sorted(row["seconds"] for row in rows)
        memory, before = max(row["peak_mb"] for row in rows), max(row["before_mb"] for row in rows)
        spread = f"{statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})"
        busy = min(row["cpu"] for row in rows)
        print(f"| {name} | {spread} | {busy:.2f} | {memory:.0f} | {before:.0f} |")


if __name__ == "__main__":
    main()
