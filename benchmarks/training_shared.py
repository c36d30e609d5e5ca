"""Seconds of a training step on shared maps: whole, with frozen first layers, and with a loader's thread beside it.

Command:  .venv/bin/python benchmarks/training_shared.py        (or: make benchmark ONLY=training_shared)

The recipe is configs/voc.yaml's; the images are scikit-image's photographs with a made-up object each. The three ways
take turns, ten steps each, of which the last six count (a thread has made the first ones' batches while the others had
their turn), for ``--rounds`` rounds; the figures are medians with the 10th and 90th percentile.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch

from detector.model.load import search_source
from detector.recipes.build import shared_trainer
from detector.recipes.region import SharedRecipe, read_recipe
from detector.training.ahead import make_ahead
from detector.training.pool import ImagePool
from detector.training.processes import ALONE, Machine
from detector.training.shared_batches import SharedBatches
from detector.types import GroundTruth, ImageRecord

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("astronaut", "chelsea", "coffee", "rocket")
CLASSES = 20
TURN, COUNTED = 10, 6


def records(folder: Path) -> list[ImageRecord]:
    """Each photograph eight times, with an object in its middle."""
    found = []
    for number in range(8 * len(IMAGES)):
        image = getattr(skimage.data, IMAGES[number % len(IMAGES)])()
        path = folder / f"{number}.jpg"
        cv2.imwrite(str(path), cv2.resize(image, (500, 375))[..., ::-1])
        box = np.array([[120.0, 90, 380, 290]], np.float32)
        found.append(ImageRecord(str(number), path, (375, 500), GroundTruth.of(box, np.array([number % CLASSES]))))
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    recipe = read_recipe(ROOT / "configs/voc.yaml")
    assert isinstance(recipe, SharedRecipe)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = ImagePool.load(records(folder))
        source = search_source(recipe.model.proposals, 0)
        proposals = [source.propose(image).boxes[: recipe.model.proposals.max_proposals] for image in pool.images]
        ways = []
        for label, frozen, threads in (
            ("everything learns", False, 0),
            ("frozen up to 3b", True, 0),
            ("frozen, batches made by a thread beside it", True, 1),
        ):
            config = recipe.training.model_copy(update={"frozen": frozen})
            batches = SharedBatches(pool, proposals, CLASSES, config)
            machine = Machine(torch.device("cpu"), ALONE, None, 5.0, lambda line: None)
            trainer = shared_trainer(config, batches, folder, machine=machine, report=lambda entry: None)
            trainer.net.train()
            stream = iter(make_ahead(batches.batch, iter(range(10**6)), threads))
            ways.append((label, trainer, stream, []))
        for _ in range(arguments.rounds):
            for _, trainer, stream, seconds in ways:
                for step in range(TURN):
                    begun = time.perf_counter()
                    trainer.gradients.of(next(stream))
                    trainer.gradients.step(trainer.adjust_gradients)
                    if step >= TURN - COUNTED:
                        seconds.append(time.perf_counter() - begun)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    images = recipe.training.images
    print(f"| {images} images, {recipe.training.regions} regions of each | median s | 10 % | 90 % | images/s |")
    print("|---|---|---|---|---|")
    for label, _, _, seconds in ways:
        low, median, high = np.percentile(seconds, [10, 50, 90])
        print(f"| {label} | {median:.2f} | {low:.2f} | {high:.2f} | {images / median:.1f} |")


if __name__ == "__main__":
    main()
