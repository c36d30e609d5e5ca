"""How well does training use the processor, and does the loader ever let the net wait?

Command:  python benchmarks/training_speed.py [--data data/fruit] [--seconds 8]

For some networks and crop sizes, with batches as the recipes draw them:

- the machine's peak: the fastest of several float32 matrix multiplications, in multiply-adds per second;
- the net alone: forward, backward and the optimizer's step on one batch over and over; its multiply-adds are counted by
  PyTorch's counter, and their rate is the share of the peak (normalisation, pooling and activations count nothing, as
  in the paper);
- the loader alone: pictures in memory, regions drawn, crops cut, mirrored and distorted;
- both: the loader's thread beside the net, as in a run. The share of the time that the net waits for a batch says
  whether it starves.

Then the net alone in float32 and in bfloat16 (``precision: bfloat16``), step by step in turn, and whether the processor
has instructions for bfloat16; and what PyTorch's flush of denormal numbers is worth.

Without ``--data`` the pictures are scikit-image's.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage import data
from torch.utils.flop_counter import FlopCounterMode

from detector.crop import CropConfig
from detector.data import load_dataset
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, paper_config
from detector.nets.weights import Normalization
from detector.training.ahead import make_ahead
from detector.training.batches import RegionBatches
from detector.training.gradients import parameter_groups
from detector.training.pool import ImagePool
from detector.training.processes import on_device
from detector.training.region_batch import RegionBatch
from detector.training.region_loss import class_loss
from detector.training.region_settings import RegionTrainingConfig

SMALL = {"norm": "batch", "width": 0.375, "stem": "stride4", "dropout": 0.2}
CASES: tuple[tuple[str, GoogLeNetConfig, int, int], ...] = (  # name, net, crop, batch
    ("3/8 width, stride 4", GoogLeNetConfig(num_outputs=21, **SMALL), 48, 128),
    ("3/8 width, stride 4", GoogLeNetConfig(num_outputs=21, **SMALL), 64, 128),
    ("half width, stride 4 (the bundled net)", GoogLeNetConfig(num_outputs=21, **{**SMALL, "width": 0.5}), 48, 128),
    ("Table 1 with auxiliary heads", paper_config(21), 224, 16),
)
CPU = torch.device("cpu")


def made_pool() -> ImagePool:
    """Photographs that come with scikit-image, with made-up boxes."""
    images = [np.ascontiguousarray(getattr(data, name)()[:, :, :3]) for name in ("astronaut", "chelsea", "coffee")]
    rng = np.random.default_rng(0)
    boxes, owner = [], []
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        for _ in range(10):
            x, y = rng.uniform(0, 0.6, 2) * [width, height]
            boxes.append([x, y, x + rng.uniform(0.2, 0.4) * width, y + rng.uniform(0.2, 0.4) * height])
            owner.append(index)
    return ImagePool(
        images=images,
        sizes=np.array([image.shape[:2] for image in images], np.float32),
        boxes=np.array(boxes, np.float32),
        labels=np.arange(len(boxes)) % 20,
        owner=np.array(owner),
        first=np.searchsorted(owner, np.arange(len(images) + 1)),
    )


def matrix_peak(seconds: float) -> tuple[float, int]:
    """Multiply-adds per second of the fastest size, and that size."""
    best, best_size = 0.0, 0
    for size in (512, 1024, 2048, 4096):
        a, b, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
        torch.mm(a, b, out=out)
        end = time.perf_counter() + seconds / 4
        while time.perf_counter() < end:
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            rate = size**3 / (time.perf_counter() - start)
            if rate > best:
                best, best_size = rate, size
    return best, best_size


def rate_of(work: Callable[[], Any], examples: int, seconds: float) -> float:
    """Examples per second: the median of the calls that fit into ``seconds``, after one to warm up."""
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return examples / statistics.median(times)


def case(
    name: str, config: GoogLeNetConfig, size: int, batch: int, pool: ImagePool, peak: float, seconds: float
) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    net = on_device(GoogLeNet(config), CPU).train()
    optimizer = torch.optim.SGD(parameter_groups(net, 1e-4), lr=1e-3, momentum=0.9, nesterov=True)
    normalization = Normalization()
    crop = CropConfig(size=size, context_pad=round(16 / 224 * size))
    batches = RegionBatches(pool, RegionTrainingConfig(net=config, crop=crop, batch_size=batch, steps=1))

    def learn(made: RegionBatch) -> None:
        loss = class_loss(net(normalization(made.images)), made.labels)
        float(loss.detach())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    one = batches.batch(0)
    with FlopCounterMode(display=False) as counter:
        learn(one)
    multiply_adds = counter.get_total_flops() / 2 / batch
    alone = rate_of(lambda: learn(one), batch, seconds)
    steps: Iterator[int] = count()
    loading = rate_of(lambda: batches.batch(next(steps)), batch, seconds / 2)

    made_ahead = make_ahead(batches.batch, count())
    waited, begun, shown = 0.0, 0.0, 0
    while not begun or time.perf_counter() < begun + seconds:
        start = time.perf_counter()
        made = next(made_ahead)
        if begun:
            waited += time.perf_counter() - start
            shown += batch
        learn(made)
        begun = begun or time.perf_counter()  # the first step fills the queue
    both = shown / (time.perf_counter() - begun)
    waiting = waited / (time.perf_counter() - begun)
    made_ahead.close()  # type: ignore[attr-defined]
    share = alone * multiply_adds / peak
    return (
        f"| {name} | {size} | {batch} | {multiply_adds / 1e6:.0f} M | {alone:.0f} | {100 * share:.0f} % "
        f"| {loading:.0f} | {both:.0f} | {100 * waiting:.1f} % |"
    )


def precisions(name: str, config: GoogLeNetConfig, size: int, batch: int, seconds: float) -> str:
    """A row of the second table: crops per second in float32 and in bfloat16, one step of each in turn."""
    torch.manual_seed(0)
    net = on_device(GoogLeNet(config), CPU).train()
    optimizer = torch.optim.SGD(parameter_groups(net, 1e-4), lr=1e-3, momentum=0.9, nesterov=True)
    crops = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 21, (batch,))
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[torch.bfloat16]) < 4:
        for dtype, spent in times.items():
            start = time.perf_counter()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                loss = class_loss(net(crops), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            spent.append(time.perf_counter() - start)
    whole, short = (batch / statistics.median(spent[1:]) for spent in times.values())
    return f"| {name} | {size} | {whole:.0f} | {short:.0f} | {short / whole:.2f} |"


def bfloat16_instructions() -> str:
    """The processor's instructions for bfloat16, by Linux; "unknown" elsewhere."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return "unknown"
    return ", ".join(sorted(flags & {"avx512_bf16", "amx_bf16", "bf16"})) or "none"


def denormal_seconds(flush: bool) -> float:
    """Seconds of a convolution of denormal numbers in this process, which must not have computed anything before."""
    torch.set_flush_denormal(flush)
    torch.manual_seed(0)
    x = torch.randn(64, 96, 16, 16).mul_(1e-39).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(96, 96, 3, 3)
    return 1 / rate_of(lambda: torch.nn.functional.conv2d(x, weight), 1, 1.0)


def denormals() -> str:
    """What flushing is worth; each way in a process of its own, since threads keep what they were begun with."""
    times = []
    for flush in ("--denormals", "--flushed-denormals"):
        done = subprocess.run([sys.executable, __file__, flush], capture_output=True, text=True, check=True)
        times.append(1000 * float(done.stdout))
    return f"3x3 convolution of denormal activations: {times[0]:.1f} ms; flushed {times[1]:.1f} ms"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set, in place of scikit-image's photographs")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each measurement")
    for option in ("--denormals", "--flushed-denormals"):
        parser.add_argument(option, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.denormals or arguments.flushed_denormals:
        print(denormal_seconds(arguments.flushed_denormals))
        return
    print(denormals(), flush=True)
    torch.set_flush_denormal(True)
    peak, size = matrix_peak(arguments.seconds)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"torch {torch.__version__}; peak {peak / 1e9:.0f} G multiply-adds/s (matrices of {size})\n"
    )
    pool = made_pool() if arguments.data is None else ImagePool.load(load_dataset(arguments.data))
    print("| net | crop | batch | multiply-adds | net alone | of the peak | loader alone | both | net waits |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, config, side, batch in CASES:
        print(case(name, config, side, batch, pool, peak, arguments.seconds), flush=True)
    print(f"\ninstructions for bfloat16: {bfloat16_instructions()}\n")
    print("| net | crop | float32, crops/s | bfloat16, crops/s | ratio |")
    print("|---|---|---|---|---|")
    for name, config, side, batch in CASES:
        print(precisions(name, config, side, batch, 2 * arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
