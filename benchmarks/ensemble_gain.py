"""What members of an ensemble gain together over their own mean single, in naming annotated objects.

    python benchmarks/ensemble_gain.py runs/tiny_imagenet_cpu/seeds runs/tiny_imagenet_cpu/initialisations \
        --data data/tiny-imagenet-200 --split val --members 3

For each model directory: how often two members agree, the top-1 of the singles, the mean top-1 of every choice of so
many members whose softmaxes are averaged, and the gain, with a 95 % bootstrap interval over objects. With several
models the last line is of all their members together. The models must have the same classes. Prints a table for
``docs/experiment.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.data import Dataset, load_dataset
from detector.detection.ensemble import Ensemble
from detector.model.config import read_model_config
from detector.model.load import choose_device, read_member


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--bootstrap", type=int, default=1000)
    given = parser.parse_args()
    keys = [read_model_config(model).class_keys for model in given.models]
    if any(other != keys[0] for other in keys):
        raise SystemExit("error: the models have different classes")
    data = load_dataset(given.data, split=given.split)
    print("| model | two agree on | singles | together | gain |\n|---|---|---|---|---|")
    everything = []
    for model in given.models:
        probs, labels = predict_members(model, data, given.device)
        everything.append(probs)
        print(row(model.name, probs, labels, min(given.members, len(probs)), given.bootstrap), flush=True)
    if len(everything) > 1:
        joined = np.concatenate(everything)
        print(f"\nall {len(joined)} together: {100 * right(joined, range(len(joined)), labels).mean():.1f} %")


def predict_members(folder: Path, data: Dataset, device: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Each member's probabilities ``(M, N, K + 1)`` for the annotated objects of ``data``; their labels ``(N,)``."""
    config = read_model_config(folder)
    members = [read_member(folder, member, len(config.class_names)) for member in config.members]
    ensemble = Ensemble(members, choose_device(device))
    index = {key: label for label, key in enumerate(config.class_keys)}
    try:
        labels_of = np.array([index[str(key)] for key in data.class_keys])
    except KeyError as error:
        raise SystemExit(f"error: {folder}: does not know the class {error.args[0]}") from None
    probs, labels = [], []
    for number in range(len(data)):
        truth = data[number].ground_truth
        if len(truth):
            probs.append(np.stack([o.probs.numpy() for o in ensemble.predict_members(data.read(number), truth.boxes)]))
            labels.append(labels_of[truth.labels])
    return np.concatenate(probs, axis=1), np.concatenate(labels)


def right(probs: NDArray[np.float32], members: Sequence[int], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which objects ``(N,)`` the mean of these members names right."""
    return np.asarray(probs[list(members)].mean(0).argmax(1) == labels)


def row(name: str, probs: NDArray[np.float32], labels: NDArray[np.int64], count: int, samples: int) -> str:
    """One row of the table."""
    named = probs.argmax(2)
    agree = [np.mean(named[i] == named[j]) for i, j in combinations(range(len(probs)), 2)]
    single = np.mean([right(probs, [i], labels) for i in range(len(probs))], axis=0)
    together = np.mean([right(probs, chosen, labels) for chosen in combinations(range(len(probs)), count)], axis=0)
    gain = together - single  # of each object, so that both are resampled alike
    rng = np.random.default_rng(0)
    means = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(samples)]
    low, high = np.percentile(means, [2.5, 97.5]) * 100
    return (
        f"| {name}, {count} of {len(probs)} | {100 * np.mean(agree):.1f} % | {100 * single.mean():.1f} | "
        f"{100 * together.mean():.1f} | {100 * gain.mean():+.1f} ({low:.1f} to {high:.1f}) |"
    )


if __name__ == "__main__":
    main()
