"""Compile the loops over maps now: ``python -m detector.nets.warmup``. Later runs load them from disk."""

from __future__ import annotations

import torch

from detector.nets.kernels import normalize_responses, to_bytes, weighted_rows


def warmup() -> None:
    """Run every loop on values of every type; some seconds the first time."""
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(1, 8, 1, 1, dtype=dtype)
        normalize_responses(x, 1.0)
        to_bytes(x, torch.ones(8))
        weighted_rows(torch.ones(1, 8), torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4), dtype)


if __name__ == "__main__":
    warmup()
