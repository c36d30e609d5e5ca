"""The metrics of detection: their names, what a report calls them, and which one a data set is measured by."""

from __future__ import annotations

METRICS = {
    "voc07": ("mAP", "PASCAL VOC 2007: eleven points, IoU 0.5"),
    "voc10": ("mAP", "PASCAL VOC 2010 and later: area under the curve, IoU 0.5"),
    "coco": ("AP", "COCO: mean over IoU 0.50 to 0.95"),
    "ilsvrc_det": ("mAP", "ILSVRC DET: IoU 0.5, lower for small objects"),
}
"""By name: what the headline number is called, and what it is."""
# What a data set is measured by where nothing else is asked for, by its format.
DEFAULT_METRIC = {"voc": "voc07", "coco": "coco", "ilsvrc_det": "ilsvrc_det", "yolo": "coco"}
