"""Number formats that the networks compute in."""

from __future__ import annotations

from typing import Literal

import torch

from proposals.errors import UserError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def detection_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a trained network computes in on ``device``: "auto" is float16 on a GPU and float32 on a processor.

    Trained weights are stored in float16, which of the two short formats rounds less.

    Raises:
        UserError: no such format.
    """
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in DTYPES:
        raise UserError(f"precision {precision!r}: choose auto, {', '.join(DTYPES)}")
    return DTYPES[precision]
