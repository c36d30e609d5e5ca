"""The choices that options of ``detector evaluate`` offer."""

from __future__ import annotations

from enum import Enum


class Metric(str, Enum):
    """Protocols of detection, and accuracy of the classifier on annotated objects or whole images."""

    voc07 = "voc07"
    voc10 = "voc10"
    coco = "coco"
    ilsvrc_det = "ilsvrc_det"
    regions = "regions"
    images = "images"


class Format(str, Enum):
    """Detection files."""

    jsonl = "jsonl"
    csv = "csv"
    coco = "coco"
    voc = "voc"
    ilsvrc_det = "ilsvrc_det"


class OnFault(str, Enum):
    """What a faulty detection does to the run."""

    error = "error"
    skip = "skip"
