"""How good is a detector, and where does it fail? Names are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "analyse_errors": "error_analysis",
    "calibration": "analysis",
    "compare": "paired",
    "confusion_matrix": "analysis",
    "evaluate_classification": "classification",
    "evaluate_coco": "coco",
    "evaluate_ilsvrc_det": "ilsvrc_det",
    "evaluate_voc": "voc",
    "read_coco_truth": "read_truth",
    "read_detections": "read_files",
    "recall_by_aspect": "analysis",
    "recall_by_size": "analysis",
    "topk_accuracy": "classification",
    "truth_of_dataset": "read_truth",
    "DetectionTable": "tables",
    "EvaluationResult": "result",
    "TruthTable": "tables",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # over the submodule of that name, for good
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
