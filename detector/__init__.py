"""Detects objects in photographs: proposals, a region classifier, per-class suppression.

>>> from detector import load_model
>>> detections = load_model()("cat.jpg")

Names are loaded on first use, so ``import detector`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.data import load_dataset as load_dataset
    from detector.images.read import read_image as read_image
    from detector.model.load import load_model as load_model
    from detector.types import Detections as Detections
    from detector.types import GroundTruth as GroundTruth
    from detector.types import ImageRecord as ImageRecord
    from proposals.errors import UserError as UserError

_HOME = {
    "Detections": "detector.types",
    "GroundTruth": "detector.types",
    "ImageRecord": "detector.types",
    "UserError": "proposals.errors",
    "load_dataset": "detector.data",
    "load_model": "detector.model.load",
    "read_image": "detector.images.read",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("googlenet-detector")
        except PackageNotFoundError:
            return "unknown (not installed)"
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, "__version__"])
