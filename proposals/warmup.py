"""Compile the hot loops now, so that the first picture does not wait: ``python -m proposals.warmup``.

Numba keeps the compiled code beside the modules (or in ``NUMBA_CACHE_DIR``), and later runs read it from there.
"""

from __future__ import annotations

import time

import numpy as np


def warm_up() -> float:
    """Run every compiled loop once, on a small picture; seconds that it took, mostly compiling the first time."""
    from proposals.selective_search import PRESETS, SelectiveSearchConfig, selective_search

    begun = time.perf_counter()
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    every_space = SelectiveSearchConfig(color_spaces=("RGB", "I", "Lab", "rgI", "HSV", "rgb", "C", "H"))
    for config in (*PRESETS.values(), every_space):
        selective_search(image, config)
    return time.perf_counter() - begun


if __name__ == "__main__":
    print(f"the hot loops of selective search are compiled and run ({warm_up():.1f} s)", flush=True)
