"""Which network for small regions? Top-1 after equal training time, and crops classified per second.

Command:  OMP_NUM_THREADS=1 .venv/bin/python benchmarks/region_networks.py --data data/tiny-imagenet-200

Every tenth class of Tiny-ImageNet-200 (20 classes, 10,000 training pictures) is learned for as many steps as the net
alone does in ``--seconds`` (its speed is measured first), with the default settings otherwise; top-1 is on the
annotated boxes of the validation pictures at hand, among the classes and background. So short a training ranks the
networks only roughly: the standard error of top-1 is printed beside it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from detector.crop import CropConfig
from detector.data import Dataset, load_dataset
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.recipes.build import crop_trainer
from detector.training.loop import Machine
from detector.training.pool import ImagePool
from detector.training.region_settings import RegionTrainingConfig
from detector.training.schedule import ScheduleConfig
from detector.types import GroundTruth, ImageRecord

EVERY = 10
CANDIDATES = (
    (64, "stride8", 0.5),
    (48, "stride4", 0.5),
    (64, "stride8", 0.75),
    (64, "stride4", 0.375),
)


def every_tenth_class(dataset: Dataset) -> list[ImageRecord]:
    """The records of every tenth class in the order of their keys, labelled from 0."""
    keys = sorted(str(key) for key in dataset.class_keys)
    new = {str(key): keys.index(str(key)) for key in dataset.class_keys}
    labels = [new[str(key)] for key in dataset.class_keys]
    chosen = []
    for record in dataset:
        label = labels[int(record.ground_truth.labels[0])]
        if label % EVERY == 0:
            truth = record.ground_truth
            chosen.append(replace(record, ground_truth=GroundTruth.of(truth.boxes, truth.labels * 0 + label // EVERY)))
    return chosen


def speeds(net: GoogLeNetConfig, side: int, batch_size: int) -> tuple[float, float]:
    """Crops per second of training steps and of inference."""
    model = GoogLeNet(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randn(batch_size, 3, side, side).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.long)
    steps, calls = [], []
    for _ in range(4):
        start = time.perf_counter()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
        steps.append(time.perf_counter() - start)
    model.eval().fold_normalization()
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            model(x[:64])
            calls.append(time.perf_counter() - start)
    return batch_size / min(steps[1:]), 64 / statistics.median(calls[1:])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=110.0)
    arguments = parser.parse_args()
    parts = [load_dataset(arguments.data, split="train")]
    parts.append(load_dataset(arguments.data, split="val", classes=parts[0].class_names))
    train, val = (ImagePool.load(every_tenth_class(part)) for part in parts)
    classes = int(train.labels.max()) + 1
    print(
        f"{torch.get_num_threads()} thread(s); {len(train.images)} training and {len(val.images)} validation pictures\n"
    )
    print("| crop | stem | width | parameters | trained /s | classified /s | steps | top-1 |")
    print("|---|---|---|---|---|---|---|---|")
    for side, stem, width in CANDIDATES:
        net = GoogLeNetConfig(num_outputs=classes + 1, norm="batch", width=width, stem=stem, dropout=0.2)  # type: ignore[arg-type]
        trained, classified = speeds(net, side, 128)
        config = RegionTrainingConfig(
            net=net,
            crop=CropConfig(size=side, context_pad=round(16 / 224 * side)),
            schedule=ScheduleConfig(kind="linear", rate=0.15, warmup=0.05),
            steps=int(arguments.seconds * trained / 128),
            average=0.98,
        )
        with tempfile.TemporaryDirectory() as folder:
            trainer = crop_trainer(
                config,
                train,
                val,
                classes,
                Path(folder),
                machine=Machine(torch.device("cpu")),
                report=lambda entry: None,
            )
            trainer.run()
        top1 = trainer.last_metric or 0.0
        error = math.sqrt(top1 * (1 - top1) / len(val.labels))
        parameters = sum(p.numel() for p in trainer.net.parameters())
        print(
            f"| {side} | {stem} | {width} | {parameters / 1e6:.2f} M | {trained:.0f} | {classified:.0f} | "
            f"{config.steps} | {100 * top1:.1f} ± {100 * error:.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
