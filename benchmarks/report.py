"""How long a report of 5,000 images takes to write, how large it is, and how quickly its page answers.

Command: ``python benchmarks/report.py [--images 5000] [--classes 80]``; with a Chromium, the page
is timed too. Pictures are scikit-image's sample photographs, over and over; objects and detections are drawn by chance.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from detector.evaluation.analysis_types import Evaluation, PictureInfo
from detector.evaluation.assemble import assemble, proposal_rows, score
from detector.report.write import write_report
from detector.types import Detections, GroundTruth
from proposals.types import Proposals

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

SIZE = (375, 500)
ROUNDS = 5
PAINT = "first-contentful-paint"
ACTIONS = {
    "sort the table": "document.querySelectorAll('#class-table thead button')[1].click()",
    "filter the table": "(() => { const f = document.querySelector('#class-filter'); f.value = '7';"
    " f.dispatchEvent(new Event('input')); })()",
    "filter the gallery": "(() => { const f = document.querySelector('#by-class'); f.value = f.value ? '' : '7';"
    " f.dispatchEvent(new Event('input', {bubbles: true})); })()",
    "open a picture": "document.querySelector('#view').close(), document.querySelector('.card-open').click()",
}


def made_up(folder: Path, n_images: int, n_classes: int) -> Evaluation:
    """Three objects, twenty detections and a hundred proposals per image on average."""
    import skimage.data

    rng = np.random.default_rng(0)
    photographs = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = Image.fromarray(getattr(skimage.data, name)()).resize((SIZE[1], SIZE[0]))
        photographs.append(folder / f"{name}.jpg")
        picture.save(photographs[-1], quality=88)
    names = tuple(f"class {i:03d}" for i in range(n_classes))
    truth, found, pictures, boxes_of = {}, {}, {}, {}
    for i in range(n_images):
        image_id, n = f"image-{i:05d}", int(rng.integers(1, 6))
        path = folder / f"{image_id}.jpg"
        path.symlink_to(photographs[i % len(photographs)])
        corners = rng.uniform(0, 280, (n, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(20, 90, (n, 2))], axis=1).astype(np.float32)
        labels = rng.integers(0, n_classes, n)
        near = rng.integers(0, n, int(rng.integers(5, 35)))
        moved = (boxes[near] + rng.normal(0, 10, (len(near), 4))).astype(np.float32)
        taken_for = np.where(rng.random(len(near)) < 0.7, labels[near], rng.integers(0, n_classes, len(near)))
        around = (boxes[rng.integers(0, n, 100)] + rng.normal(0, 20, (100, 4))).astype(np.float32)
        given = Proposals(around, rng.random(100).astype(np.float32), rng.integers(1, 3, 100).astype(np.uint8), SIZE)
        truth[image_id] = GroundTruth.of(boxes, labels)
        found[image_id] = Detections.sorted(moved, rng.beta(2, 4, len(near)).astype(np.float32), taken_for, SIZE)
        pictures[image_id] = PictureInfo(str(path), *SIZE, proposal_rows(given))
        boxes_of[image_id] = around
    result = score("voc10", found, truth, names, bootstrap_samples=100)
    return assemble(result, proposals=boxes_of, picture_of=pictures.get, info={"data": "made up"})


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def time_page(page_file: Path, folder: Path) -> None:
    """Seconds until the page is loaded, and milliseconds of script and layout for each action."""
    from headless_browser import Page, find_browser

    program = find_browser()
    if program is None:
        print("no Chromium here: the page is not timed")
        return
    with Page(program, folder / f"profile-{page_file.stem}") as page:
        loads, paints = [], []
        for _ in range(ROUNDS):
            loads.append(seconds(lambda: page.open(page_file)))
            page.until(f"performance.getEntriesByName('{PAINT}').length")
            paints.append(page.run(f"performance.getEntriesByName('{PAINT}')[0].startTime / 1000"))
        print(f"| {page_file.stem}: numbers seen, s | {median(paints):.2f} ({min(paints):.2f} to {max(paints):.2f}) |")
        print(f"| {page_file.stem}: load, s | {median(loads):.2f} ({min(loads):.2f} to {max(loads):.2f}) |")
        page.run("document.querySelector('#gallery').scrollIntoView({behavior: 'instant'})")
        page.until("document.querySelectorAll('.card-open').length > 0")
        for name, script in ACTIONS.items():
            done = "document.body.offsetHeight; return performance.now() - t;"
            timed = f"(() => {{ const t = performance.now(); {script}; {done} }})()"
            times = [page.run(timed) for _ in range(ROUNDS)]
            print(f"| {page_file.stem}: {name}, ms | {median(times):.0f} ({min(times):.0f} to {max(times):.0f}) |")


def main() -> None:
    """Print the table of report.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        evaluation = made_up(folder / "pictures", arguments.images, arguments.classes)
        print("| what | median (least to greatest) |\n|---|---|")
        for stem, in_folder in (("one file", False), ("with a folder", True)):
            page = folder / stem / f"{stem}.html"
            spent = seconds(
                lambda page=page, in_folder=in_folder: write_report(evaluation, page, pictures_in_folder=in_folder)
            )
            print(f"| {stem}: write, s | {spent:.1f} |\n| {stem}: page, MB | {page.stat().st_size / 1e6:.1f} |")
            time_page(page, folder)


if __name__ == "__main__":
    main()
