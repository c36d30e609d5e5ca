"""Pools and settings of small trainings, and such a training by one process or by one of several.

Run as a script with torchrun's environment variables and two folders: each process trains every kind in a folder of
its name in the first, and goes on from the checkpoints that one process has left in the second. Rank 0 leaves
``log.csv``, ``net.pt`` and ``half.pt``, the checkpoint of half the way.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from detector.crop import CropConfig
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_net import SharedMaps
from detector.recipes.build import crop_trainer, shared_trainer
from detector.training.gradients import WeightAverage
from detector.training.pool import ImagePool
from detector.training.processes import Machine, Processes, joined_processes
from detector.training.region_settings import RegionTrainingConfig, ScheduleConfig, SharedTrainingConfig
from detector.training.region_trainer import RegionTrainer
from detector.training.shared_batches import SharedBatches
from detector.types import GroundTruth, ImageRecord
from proposals.multibox import MultiBoxConfig

KINDS = ("batch", "lrn", "shared", "multibox")
HALF = 3
SETTINGS: dict[str, Any] = {"steps": 6, "seed": 3}
NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")


def pool_of(images: list[Any], objects: list[list[Any]], labels: list[list[int]]) -> ImagePool:
    """A pool of ``images`` with the boxes and labels of each one's objects."""
    counts = [len(boxes) for boxes in objects]
    return ImagePool(
        images=images,
        sizes=np.array([image.shape[:2] for image in images], np.float32),
        boxes=np.array([box for boxes in objects for box in boxes], np.float32).reshape(-1, 4),
        labels=np.array([label for own in labels for label in own], np.int64),
        owner=np.repeat(np.arange(len(images)), counts),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def made_up_pool(pictures: int = 7) -> ImagePool:
    """Noise with a red or a blue square; an odd number of pictures, the last of them with two objects."""
    rng = np.random.default_rng(0)
    images, boxes, count = [], [], 0
    for i in range(pictures):
        image = rng.integers(60, 190, (40, 48, 3), dtype=np.uint8)
        boxes.append([])
        for _ in range(2 if i == pictures - 1 else 1):
            x, y, side = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(14, 24))
            image[y : y + side, x : x + side, 2 * (count % 2)] = 250
            boxes[-1].append([x, y, x + side, y + side])
            count += 1
        images.append(image)
    labels = iter(range(count))
    return pool_of(images, boxes, [[next(labels) % 2 for _ in own] for own in boxes])


def made_up_proposals(pool: ImagePool) -> list[NDArray[np.float32]]:
    """The same twenty boxes for each picture."""
    corner = np.random.default_rng(1).uniform(0, 20, (20, 2))
    return [np.concatenate([corner, corner + 18], axis=1).astype(np.float32)] * len(pool.images)


def write_records(folder: Path, count: int = 6) -> list[ImageRecord]:
    """Grey pictures on disk with an object each, of two classes in turn; their names are p0, p1..."""
    records = []
    for i in range(count):
        path = folder / f"{i}.png"
        Image.fromarray(np.full((40, 48, 3), 20 * i, np.uint8)).save(path)
        truth = GroundTruth.of(np.array([[4, 4, 30, 36]], np.float32), np.array([i % 2]))
        records.append(ImageRecord(f"p{i}", path, (40, 48), truth))
    return records


def crop_settings(**changes: Any) -> RegionTrainingConfig:
    """A training on crops of two classes that takes a second, with ``changes``."""
    settings: dict[str, Any] = {
        "net": NET,
        "crop": CropConfig(size=32, context_pad=2),
        "schedule": ScheduleConfig(rate=0.05, warmup=0.1),
        "batch_size": 8,
        "statistics_batches": 1,
    }
    return RegionTrainingConfig(**{**SETTINGS, **settings, **changes})


def shared_settings(**changes: Any) -> SharedTrainingConfig:
    """A training on shared maps that takes a second, with ``changes``."""
    settings: dict[str, Any] = {
        "net": NET,
        "maps": SharedMaps(image_side=48, levels=2, region_side=24),
        "schedule": ScheduleConfig(rate=0.05, warmup=0.1),
        "batch_size": 64,
        "regions": 16,
        "statistics_batches": 1,
        "dropout": 0.0,
    }
    return SharedTrainingConfig(**{**SETTINGS, **settings, **changes})


def crops(folder: Path, norm: str, about: dict[str, Any]) -> RegionTrainer[Any]:
    """A trainer on crops; the net with batch normalisation computes in float64.

    So small a net with so small a batch magnifies float32's rounding within a few steps, in one process as in several.
    """
    net = NET.model_copy(update={"norm": norm, "dropout": 0.0})  # and 9 crops, which two processes cannot halve
    pool = made_up_pool()
    trainer = crop_trainer(crop_settings(net=net, batch_size=9), pool, pool, 2, folder, validate_every=3, **about)
    if norm == "batch":
        in_float64(trainer, lambda module, inputs: (inputs[0].double(),))
    return trainer


def shared_maps(folder: Path, about: dict[str, Any], only_multibox: bool = False) -> RegionTrainer[Any]:
    """A trainer on shared maps, in float64; with MultiBox, or of MultiBox alone."""
    config = shared_settings(
        schedule=ScheduleConfig(rate=0.02, warmup=0.1),
        batch_size=40,
        regions=8,
        multibox=MultiBoxConfig(channels=8, count=2),
        only_multibox=only_multibox,
    )
    pool = made_up_pool()
    trainer = shared_trainer(config, SharedBatches(pool, made_up_proposals(pool), 2, config), folder, **about)

    def doubled(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        levels = [x.double() for x in inputs[0]]
        return (levels, inputs[1].double(), inputs[2]) if len(inputs) > 1 else (levels,)

    in_float64(trainer, doubled)
    return trainer


def in_float64(trainer: RegionTrainer[Any], convert: Callable[..., Any]) -> None:
    """Let the net compute in float64, with inputs that ``convert`` converts."""
    trainer.net.double()
    trainer.net.register_forward_pre_hook(convert)
    trainer.average = WeightAverage(trainer.net, trainer.config.decay)


def train(folder: Path, processes: Processes, kind: str, resume: Path | None = None) -> None:
    """Train in ``folder``, from the beginning or from a checkpoint; no dropout, which each process draws for itself."""
    folder.mkdir(parents=True, exist_ok=True)

    def keep(entry: Any) -> None:
        if entry.step == HALF and processes.writes:
            trainer.save()
            shutil.copy(trainer.checkpoint_path, folder / "half.pt")

    machine = Machine(torch.device("cpu"), processes, checkpoint_minutes=1e9)
    about = {"machine": machine, "report": keep, "log_every": 1}
    makers = {"shared": shared_maps, "multibox": partial(shared_maps, only_multibox=True)}
    trainer = makers[kind](folder, about) if kind in makers else crops(folder, kind, about)
    if resume is not None:
        if processes.writes:
            shutil.copy(resume, trainer.checkpoint_path)
        trainer.resume()
    net = trainer.run()
    if processes.writes:
        torch.save(net.state_dict(), folder / "net.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    together, alone = map(Path, sys.argv[1:])
    with joined_processes("cpu") as joined:
        for each in KINDS:
            train(together / each, joined, each)
            train(together / f"{each}-resumed", joined, each, alone / each / "half.pt")
