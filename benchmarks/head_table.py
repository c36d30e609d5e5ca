"""SVM or softmax, with and without box regression, of one run of the head recipe, all on the same features.

    python benchmarks/head_table.py runs/bccd-head --data data/bccd --split test

The run's trunk and the features of its training regions are taken from the caches that it left (``--cache`` and
``--proposals``, as of the run); the features of the measured pictures' proposals are computed once and cached as well.
Each classifier is fitted anew and measured by COCO's rules after one round, R-CNN's; with ``--whole`` the run's own
model follows with its rounds. Prints rows for ``docs/training_head.md``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detector.data import Dataset, load_dataset
from detector.detection.suppression import PostprocessConfig, postprocess
from detector.evaluation import evaluate_coco, truth_of_dataset
from detector.model.config import ProposalConfig, read_model_config
from detector.model.load import load_model
from detector.model.proposals import stored_source
from detector.nets.region_head import HeadKind, RegionHead
from detector.recipes.build_head import first_trunk, propose_all, tuned_trunk, tuning_folder, tuning_of
from detector.recipes.head import read_head_recipe
from detector.training.features import FeatureExtractor, FeatureTable, compute_features
from detector.training.heads import TrainingSet, grid_rows, train_head
from detector.training.loop import Machine
from detector.training.pool import ImagePool
from detector.training.region_table import RegionTable, RegionTableConfig, make_table
from detector.training.trunk_tuning import TuningBatches
from detector.types import Detections
from proposals.boxes import decode

KINDS: tuple[HeadKind, ...] = ("svm", "softmax")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--cache", type=Path, default=Path("runs/features"))
    parser.add_argument("--proposals", type=Path, default=Path("runs/proposals"))
    parser.add_argument("--nms", type=float, default=None, help="by default the run's own")
    parser.add_argument("--whole", action="store_true", help="also the run's own model, rounds and all")
    given = parser.parse_args()

    recipe, model = read_head_recipe(given.run / "recipe.yaml"), read_model_config(given.run)
    limits = model.postprocess.model_copy(update={"score_threshold": 0.001})
    if given.nms is not None:
        limits = limits.model_copy(update={"nms_threshold": given.nms})
    train = load_dataset(given.data, split=recipe.train_split or None)
    test = load_dataset(given.data, split=given.split, classes=train.class_names)
    classes = len(train.class_names)

    pool = ImagePool.load(train)
    table = make_table(pool, proposed(model.proposals, given.proposals, pool), classes, recipe.regions, recipe.seed)
    trunk, tuning = first_trunk(recipe, given.cache), tuning_of(recipe)
    if tuning is not None:
        batches = TuningBatches(pool, table, classes, trunk.crop, trunk.normalization.fill, tuning)
        folder = tuning_folder(tuning, trunk, pool, table, classes, given.cache)
        machine = Machine(torch.device("cpu"), tell=print)
        trunk = tuned_trunk(trunk, batches, folder, machine, lambda entry: print(entry))
    extractor = FeatureExtractor(
        trunk.build(), trunk.digest, trunk.crop, trunk.normalization, recipe.head.grid, torch.device("cpu")
    )
    features, made = compute_features(extractor, pool, table, grid_rows(table, recipe.head), given.cache)
    print(f"{made} of {len(pool.images)} training pictures had no features yet", flush=True)
    data = TrainingSet(pool, table, features, classes)

    measured = ImagePool.load(test)
    none = RegionTableConfig(shifts=0, mirror=False)
    blank = ImagePool(
        measured.images, measured.sizes, measured.boxes[:0], measured.labels[:0], measured.owner[:0],
        np.zeros_like(measured.first),
    )  # fmt: skip
    asked = make_table(blank, proposed(model.proposals, given.proposals, measured), classes, none, 0)
    seen, _ = compute_features(extractor, blank, asked, np.ones(len(asked), np.bool_), given.cache)

    print("| classifier | box regression | AP at 0.5 | COCO AP | seconds to fit | by class at 0.5 |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        begun = time.monotonic()
        head = train_head(data, recipe.head.model_copy(update={"kind": kind}), recipe.seed)
        seconds = time.monotonic() - begun
        for regress in (False, True):
            found = {
                test.image_ids[i]: detect(head, seen, asked, i, measured, limits, regress)
                for i in range(len(measured.images))
            }
            print(row(kind, "yes" if regress else "no", found, test, f"{seconds:.1f}"), flush=True)
    if given.whole:
        detector = load_model(given.run, device="cpu", score_threshold=limits.score_threshold,
                              nms_threshold=limits.nms_threshold)  # fmt: skip
        found = {test.image_ids[i]: detector(measured.images[i]) for i in range(len(measured.images))}
        rounds = model.refinement.rounds if model.refinement else 0
        print(row(f"the run's own, {recipe.head.kind}", f"{rounds} rounds", found, test, "-"))


def proposed(config: ProposalConfig, store: Path, pool: ImagePool) -> list[NDArray[np.float32]]:
    """The proposals of each image of ``pool``."""
    return propose_all(stored_source(config, store), pool, config.max_proposals, lambda: None)


def detect(
    head: RegionHead,
    seen: FeatureTable,
    asked: RegionTable,
    image: int,
    pool: ImagePool,
    limits: PostprocessConfig,
    regress: bool,
) -> Detections:
    """The detections of one image from the features of its proposals."""
    boxes, features = asked.boxes[asked.of_image(image)], seen.image(image)
    size = pool.images[image].shape[:2]
    with torch.inference_mode():
        probs = head.probabilities(torch.from_numpy(features.pooled.astype(np.float32))).numpy()
        if not regress or head.regress is None:
            return postprocess(boxes, probs, size, limits)
        deltas = head.regress(torch.from_numpy(features.grid.astype(np.float32))).numpy()
    each = np.repeat(boxes, head.num_classes, axis=0)
    moved = decode(each, deltas.reshape(-1, 4)).astype(np.float32).reshape(len(boxes), -1, 4)
    return postprocess(moved, probs, size, limits)


def row(kind: str, regression: str, found: dict[str, Detections], test: Dataset, seconds: str) -> str:
    """One row of the table."""
    result = evaluate_coco(found, truth_of_dataset(test), test.class_names)
    by_class = " ".join(f"{c.name} {c.numbers['ap50']:.3f}" for c in result.classes)
    ap50, ap = result.numbers["ap50"], result.numbers["ap"]
    return f"| {kind} | {regression} | {ap50:.3f} | {ap:.3f} | {seconds} | {by_class} |"


if __name__ == "__main__":
    main()
