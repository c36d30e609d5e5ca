"""Data sets: one function reads all formats, flat arrays, faults by name."""

from detector.data.dataset import Dataset, read_record
from detector.data.faults import Fault
from detector.data.load import coco_files, dataset_splits, load_dataset

__all__ = ["Dataset", "Fault", "coco_files", "dataset_splits", "load_dataset", "read_record"]
