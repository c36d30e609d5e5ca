"""Compile the kernels of selective search once: ``python -m proposals.warmup``, done after installing.

numba keeps the machine code beside the sources, or in the user's cache folder where that cannot be written, for the
processor it was made on. Without this, the first search compiles it and takes half a minute longer.
"""

from __future__ import annotations

import time


def warm_up() -> float:
    """Import every kernel module, which compiles what is not cached, and search one image; seconds that it took."""
    started = time.perf_counter()
    import numpy as np

    from proposals.boxes import nms
    from proposals.selective_search import selective_search

    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    box = np.array([[0, 0, 1, 1]])
    for kind in (np.float32, np.float64):
        nms(box.astype(kind), np.ones(1), 0.5)
    for space in ("RGB", "I", "Lab", "rgI", "HSV", "rgb", "C", "H"):
        selective_search(image, {"color_spaces": [space]})
    return time.perf_counter() - started


if __name__ == "__main__":
    print("Compiling the kernels of selective search, once (up to a minute) ...", flush=True)
    print(f"done in {warm_up():.1f} s; later runs start at once")
