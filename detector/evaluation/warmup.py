"""Compile the loops of the evaluation now: ``python -m detector.evaluation.warmup``. Later runs load them from disk."""

from __future__ import annotations

from detector.evaluation import analysis_kernels, kernels


def warmup() -> None:
    """Compile and cache every loop; some ten seconds the first time."""
    kernels.warmup()
    analysis_kernels.warmup()


if __name__ == "__main__":
    warmup()
