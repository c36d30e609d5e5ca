"""What reading a data set comes to, and what must hold of it whatever stands in its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.data import Dataset, dataset_splits, load_dataset
from proposals.errors import UserError


def outcomes(root: Path) -> Iterator[str]:
    """What reading each split came to; fails where it is neither a data set nor one line."""
    try:
        splits: tuple[str | None, ...] = (*dataset_splits(root), None)
    except UserError as error:
        assert_one_line(str(error))
        yield "error"
        return
    for split in splits:
        for classes in (None, ["cat", "0"]):
            try:
                dataset = load_dataset(root, split, classes)
            except UserError as error:
                assert_one_line(str(error))
                yield "error"
            else:
                assert_sound(dataset)
                yield "faults" if dataset.faults else "no faults"


def assert_one_line(message: str) -> None:
    assert message.isprintable()
    assert message


def assert_sound(dataset: Dataset) -> None:
    sides = dataset.boxes[:, 2:] - dataset.boxes[:, :2]
    assert np.isfinite(dataset.boxes).all()
    assert (sides > 0).all()
    assert np.isfinite(dataset.area).all()
    assert all(name and " ".join(name.split()) == name for name in dataset.class_names)
    assert len(set(dataset.class_keys)) == len(dataset.class_keys)
    assert len(set(dataset.image_ids)) == len(dataset)
    for record in dataset:
        assert record.path.resolve().is_relative_to(dataset.root.resolve())
        assert min(record.image_size) > 0
    for fault in dataset.faults:
        assert_one_line(str(fault))
