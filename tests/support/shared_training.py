"""A short training on made-up pictures, by one process or by one of several; what the tests compare.

Run as a script with torchrun's environment variables and a folder: each process trains, and rank 0 leaves ``log.csv``
and ``net.pt``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from detector.crop import CropConfig
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_net import SharedMaps
from detector.recipes.build import crop_trainer
from detector.recipes.build_shared import shared_trainer
from detector.training.loop import Machine
from detector.training.pool import ImagePool
from detector.training.processes import Processes, joined_processes
from detector.training.region_settings import RegionTrainingConfig
from detector.training.schedule import ScheduleConfig
from detector.training.shared_batches import SharedBatches, SharedTrainingConfig

BATCH = 9  # does not divide among two


def made_up_pool(pictures: int = 7) -> ImagePool:
    """Noise with a red or a blue square; an odd number of pictures, the last of them with two objects."""
    rng = np.random.default_rng(0)
    images, boxes, owner = [], [], []
    for i in range(pictures):
        image = rng.integers(60, 190, (40, 48, 3), dtype=np.uint8)
        for _ in range(2 if i == pictures - 1 else 1):
            x, y, side = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(14, 24))
            image[y : y + side, x : x + side, 2 * (len(boxes) % 2)] = 250
            boxes.append([x, y, x + side, y + side])
            owner.append(i)
        images.append(image)
    return ImagePool(
        images=images,
        sizes=np.array([image.shape[:2] for image in images], np.float32),
        boxes=np.array(boxes, np.float32),
        labels=np.arange(len(boxes)) % 2,
        owner=np.array(owner),
        first=np.searchsorted(owner, np.arange(pictures + 1)),
    )


def train(folder: Path, processes: Processes, norm: str) -> torch.nn.Module:
    """Six steps without dropout, which each process would draw for itself.

    With batch normalisation in float64: so small a net with so small a batch magnifies float32's rounding within a few
    steps, in one process as in several.
    """
    config = RegionTrainingConfig(
        net=GoogLeNetConfig(num_outputs=3, norm=norm, width=0.1, stem="stride4", dropout=0.0),
        crop=CropConfig(size=32, context_pad=2),
        schedule=ScheduleConfig(rate=0.05, warmup=0.1),
        steps=6,
        batch_size=BATCH,
        average=0.5,
        statistics_batches=1,
        seed=3,
    )
    pool = made_up_pool()
    folder.mkdir(parents=True, exist_ok=True)
    machine = Machine(torch.device("cpu"), processes, checkpoint_minutes=1e9)
    trainer = crop_trainer(
        config, pool, pool, 2, folder, machine=machine, report=lambda entry: None, log_every=1, validate_every=3
    )
    if norm == "batch":
        trainer.net.double()
        trainer.net.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
        trainer.restart_average()
    return trainer.run()


def train_on_shared_maps(folder: Path, processes: Processes) -> torch.nn.Module:
    """Six steps of a region network on shared maps, in float64 as above."""
    config = SharedTrainingConfig(
        net=GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4", dropout=0.0),
        maps=SharedMaps(image_side=48, levels=2, region_side=24),
        schedule=ScheduleConfig(rate=0.02, warmup=0.1),
        steps=6,
        batch_size=40,
        regions=8,
        average=0.5,
        statistics_batches=1,
        dropout=0.0,
        seed=3,
    )
    pool = made_up_pool()
    corner = np.random.default_rng(1).uniform(0, 20, (20, 2))
    boxes = np.concatenate([corner, corner + 18], axis=1).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = shared_trainer(
        config,
        SharedBatches(pool, [boxes] * len(pool.images), 2, config, processes),
        folder,
        machine=Machine(torch.device("cpu"), processes, checkpoint_minutes=1e9),
        report=lambda entry: None,
        log_every=1,
    )
    trainer.net.double()
    trainer.net.register_forward_pre_hook(
        lambda module, inputs: ([x.double() for x in inputs[0]], inputs[1].double(), inputs[2])
    )
    trainer.restart_average()
    return trainer.run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined_processes("cpu") as joined:
        for kind in ("batch", "lrn"):
            net = train(Path(sys.argv[1]) / kind, joined, kind)
            if joined.writes:
                torch.save(net.state_dict(), Path(sys.argv[1]) / kind / "net.pt")
        net = train_on_shared_maps(Path(sys.argv[1]) / "shared", joined)
        if joined.writes:
            torch.save(net.state_dict(), Path(sys.argv[1]) / "shared" / "net.pt")
