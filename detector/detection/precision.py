"""Number formats that the networks compute in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import torch

from proposals.errors import UserError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
"""Of a training."""
DetectionPrecision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def detection_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a trained network computes in on ``device``: "auto" is a short format where products in it are faster.

    That is float16 on a GPU, which rounds less than bfloat16 and is the format of stored weights; bfloat16 on a
    processor with instructions for it; float32 on any other. With "int8" it is what is not in whole numbers.

    Raises:
        UserError: no such format, or not on this device.
    """
    if precision == "int8" and (device.type != "cpu" or not has_int8()):
        raise UserError("precision int8 needs --device cpu and a processor with VNNI instructions")
    if precision in ("auto", "int8"):
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if fast_bfloat16() else torch.float32
    if precision not in DTYPES:
        raise UserError(f"precision {precision!r}: choose auto, {', '.join(DTYPES)}, int8")
    return DTYPES[precision]


def takes_int8(precision: str, device: torch.device) -> bool:
    """Whether a network that can should compute in whole numbers: "auto" where a processor is made for it."""
    return precision == "int8" or (precision == "auto" and device.type == "cpu" and fast_int8())


def fast_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16, as Linux tells."""
    return bool({"avx512_bf16", "amx_bf16"} & _processor_flags())


def fast_int8() -> bool:
    """Whether int8 is the fastest there is."""
    return has_int8()


def has_int8() -> bool:
    """Whether this processor has instructions for products of bytes, as Linux tells, and PyTorch uses them.

    Without them oneDNN adds up two products at a time in 16 bits, which may overflow.
    """
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(onednn and {"avx512_vnni", "avx_vnni"} & _processor_flags())


@cache
def _processor_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    return frozenset(word for line in text.splitlines() if line.startswith("flags") for word in line.split())
