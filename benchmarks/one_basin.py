"""Why members that were fine-tuned from one network gain little together: how far apart are they?

    python benchmarks/one_basin.py runs/tiny_imagenet_cpu/seeds --data data/tiny-imagenet-200

For an ensemble's folder, in naming annotated objects: the top-1 of its singles on training and on validation objects
(members that fit the training set little better than the validation set have little of their own for a mean to take
away), the top-1 of all of them together, and that of one network with the mean of their weights, whose normalisation
statistics are measured anew. Where that mean is a good network, the members lie in one basin of the loss (Wortsman et
al., Model soups, ICML 2022), and say nearly the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from detector.data import Dataset, load_dataset
from detector.detection.ensemble import Ensemble, Member
from detector.model.config import read_model_config
from detector.model.load import choose_device, read_member
from detector.nets.googlenet import GoogLeNet
from detector.recipes.region import read_ensemble_recipe
from detector.training.batches import RegionBatches
from detector.training.pool import ImagePool
from detector.training.regions import measure_statistics

STATISTICS_BATCHES = 40


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ensemble", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--objects", type=int, default=5000, help="pictures of either split")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    device = choose_device(given.device)
    train, val = (evenly(load_dataset(given.data, split=split), given.objects) for split in ("train", "val"))
    members = [read_member(given.ensemble, member) for member in read_model_config(given.ensemble).members]
    mean = averaged(members, given.ensemble, train, device)  # before the ensemble folds the members' normalisation
    ensemble = Ensemble(members, device)
    for name, data in (("training", train), ("validation", val)):
        singles, together = top1(ensemble, data)
        print(f"{name}: singles {100 * singles:.1f} %, together {100 * together:.1f} %", flush=True)
    print(
        f"one network with the mean of their weights, validation: {100 * top1(Ensemble([mean], device), val)[1]:.1f} %"
    )


def evenly(data: Dataset, count: int) -> Dataset:
    """So many pictures of ``data``, in even steps."""
    return data.subset(np.unique(np.linspace(0, len(data) - 1, count).astype(int)).tolist())


def averaged(members: list[Member], folder: Path, train: Dataset, device: torch.device) -> Member:
    """A member with the mean of all weights, and statistics of crops drawn as the recipe in ``folder`` draws them."""
    settings = read_ensemble_recipe(folder / "recipe.yaml").base.training
    states = [member.net.state_dict() for member in members]
    net = GoogLeNet(members[0].net.config)
    net.load_state_dict({name: torch.stack([s[name].float() for s in states]).mean(0) for name in states[0]})
    net = net.to(device)
    batches = RegionBatches(
        ImagePool.load(train),
        num_classes=settings.num_classes,
        crop=settings.crop,
        fill=settings.normalization.fill,
        sampling=settings.sampling,
        augment=settings.augment,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    crops = (batches.batch(step).crops.to(device) for step in range(STATISTICS_BATCHES))
    measure_statistics(net, (settings.normalization(x) for x in crops))
    return Member(net, members[0].crop, members[0].normalization)


def top1(ensemble: Ensemble, data: Dataset) -> tuple[float, float]:
    """The mean top-1 of the members, and that of their mean softmax, on the annotated objects of ``data``."""
    singles, together = [], []
    for number in range(len(data)):
        truth = data[number].ground_truth
        if len(truth):
            probs = np.stack([o.probs.numpy() for o in ensemble.predict_members(data.read(number), truth.boxes)])
            singles.append((probs.argmax(2) == truth.labels).mean(0))
            together.append(probs.mean(0).argmax(1) == truth.labels)
    return float(np.concatenate(singles).mean()), float(np.concatenate(together).mean())


if __name__ == "__main__":
    main()
