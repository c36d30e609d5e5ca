"""Share of a MultiBox training step that goes into matching truths to priors.

Command:  .venv/bin/python benchmarks/multibox_matching.py        (--steps N, --threads N, --device cuda)

Made-up pictures, mosaics of them as in training, the recipe of configs/multibox.yaml. In each step the
parts are timed one after another: making the batch (which training does ahead in another thread), the forward pass,
matching, the loss with its backward pass, and the optimizer's step. Medians over the steps after 2 warm-up steps, with
the 10th and 90th percentile.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from detector.nets.trunk import Trunk
from detector.recipes.multibox import read_multibox_recipe
from detector.training.multibox import MultiBoxTrainingConfig, SceneBatches, fit_priors, make_optimizer
from detector.training.pool import ImagePool
from proposals.multibox import MultiBoxNet
from proposals.multibox_loss import Truths, match, multibox_loss

RECIPE = Path(__file__).resolve().parents[1] / "configs" / "multibox.yaml"
WARM_UP = 2


def made_up_pool(pictures: int = 256) -> ImagePool:
    """Noise of 64x64 pixels with one or two random boxes a picture."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 3, pictures)
    corner = rng.integers(0, 40, (counts.sum(), 2))
    side = rng.integers(8, 24, (counts.sum(), 2))
    return ImagePool(
        images=list(rng.integers(0, 256, (pictures, 64, 64, 3), dtype=np.uint8)),
        sizes=np.full((pictures, 2), 64, np.float32),
        boxes=np.concatenate([corner, corner + side], axis=1).astype(np.float32),
        labels=np.zeros(counts.sum(), np.int64),
        owner=np.repeat(np.arange(pictures), counts),
        first=np.concatenate([[0], np.cumsum(counts)]),
    )


def measure(config: MultiBoxTrainingConfig, pool: ImagePool, steps: int, device: torch.device) -> None:
    """Print the table of one configuration."""
    priors = fit_priors(config, pool)
    net = MultiBoxNet(Trunk(config.trunk), priors, config.multibox).to(device).train()
    optimizer, batches = make_optimizer(net, config), SceneBatches(pool, config)
    seconds: dict[str, list[float]] = defaultdict(list)
    truths_seen = []

    def lap(name: str) -> None:
        nonlocal mark
        if device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        seconds[name].append(now - mark)
        mark = now

    for step in range(WARM_UP + steps):
        mark = time.perf_counter()
        batch = batches.batch(step)
        truths = Truths(*(t.to(device) for t in batch.truths))
        lap("batch (made ahead)")
        output = net(config.normalization(batch.pictures.to(device)))
        lap("forward")
        matches = match(output, net.priors, truths, config.loss)
        lap("matching")
        optimizer.zero_grad()
        multibox_loss(output, truths, matches, config.loss).total.backward()  # type: ignore[no-untyped-call]
        lap("loss, backward")
        optimizer.step()
        lap("optimizer")
        truths_seen.append(len(truths.boxes) / config.batch_size)
    parts = ("forward", "matching", "loss, backward", "optimizer")
    step_ms = 1e3 * np.sum([seconds[name][WARM_UP:] for name in parts], axis=0)
    print(f"\n{config.multibox.head} head, {len(priors)} priors, batch {config.batch_size}, "
          f"{np.mean(truths_seen):.1f} objects a picture\n")  # fmt: skip
    print("| part | ms, median (10th to 90th percentile) | of the step |\n|---|---|---|")
    for name, times in seconds.items():
        ms = 1e3 * np.array(times[WARM_UP:])
        low, high = np.quantile(ms, (0.1, 0.9))
        print(f"| {name} | {np.median(ms):.1f} ({low:.1f} to {high:.1f}) | {np.median(ms / step_ms):.1%} |")


def main() -> None:
    """Measure both heads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    recipe = read_multibox_recipe(RECIPE).training
    pool = made_up_pool()
    torch.manual_seed(0)
    for head in ("global", "convolutional"):
        multibox = recipe.multibox.model_copy(update={"head": head})
        config = recipe.model_copy(update={"multibox": multibox})
        measure(config, pool, arguments.steps, torch.device(arguments.device))


if __name__ == "__main__":
    main()
