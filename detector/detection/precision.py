"""Number formats that the networks compute in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import torch

from proposals.errors import UserError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def detection_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a trained network computes in on ``device``: "auto" is a short format where products in it are faster.

    That is float16 on a GPU, which rounds less than bfloat16 and is the format of stored weights; bfloat16 on a
    processor with instructions for it; float32 on any other.

    Raises:
        UserError: no such format.
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if fast_bfloat16() else torch.float32
    if precision not in DTYPES:
        raise UserError(f"precision {precision!r}: choose auto, {', '.join(DTYPES)}")
    return DTYPES[precision]


@cache
def fast_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16, as Linux tells."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
