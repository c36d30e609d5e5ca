"""The images that training draws from: in memory as far as it goes, without what cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shared_training import made_up_pool, write_records

from detector.training.pool import ImagePool, Pictures, _free_in_groups, free_memory
from detector.types import GroundTruth, ImageRecord


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, []),
        ({"memory.max": "max", "memory.current": "5"}, []),
        ({"memory.max": "1000", "memory.current": "300"}, [700]),
        ({"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "1100"}, [0]),
    ],
)
def test_a_container_s_limit_counts(files: dict[str, str], free: list[int], tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert list(_free_in_groups(tmp_path)) == free
    assert free_memory() > 0


def test_what_cannot_be_used_is_skipped(tmp_path: Path) -> None:
    good, bad = write_records(tmp_path, 2)
    bad.path.write_bytes(b"no picture")
    truth = GroundTruth(
        np.array([[0, 0, 10, 10], [5, 5, 5, 9], [90, 90, 99, 99], [1, 1, 9, 9], [2, 2, 8, 8]], np.float32),
        np.arange(5, dtype=np.int64),
        np.array([False, False, False, True, False]),
        np.array([False, False, False, False, True]),
        np.ones(5),
    )
    pool = ImagePool.load([bad, ImageRecord("x", good.path, (40, 48), truth)])
    assert len(pool.images) == 1
    np.testing.assert_array_equal(pool.labels, [0])
    assert len(pool.skipped) == 2
    assert str(bad.path) in pool.skipped[0]
    assert "2 boxes without area" in pool.skipped[1]


def test_pictures_beyond_the_memory_are_read_when_needed(tmp_path: Path) -> None:
    records = write_records(tmp_path)
    some, all_ = ImagePool.load(records, memory=2 * 40 * 48 * 3, workers=1), ImagePool.load(records)
    assert all_.in_memory
    assert not some.in_memory
    assert isinstance(some.images, Pictures)
    assert sum(isinstance(entry, ImageRecord) for entry in some.images.entries) >= 2
    for index in range(len(records)):
        np.testing.assert_array_equal(some.images[index], all_.images[index])
    np.testing.assert_array_equal(some.sizes, all_.sizes)
    assert list(some.ids) == ["p0", "p1", "p2", "p3", "p4", "p5"]


def test_whole_pictures_as_objects() -> None:
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    whole = replace(made_up_pool(), labels=labels).whole()  # the last picture has objects of both classes
    assert len(whole.images) == 7
    assert whole.boxes.tolist() == [[0, 0, 48, 40]] * 6
    assert whole.labels.tolist() == labels[:6].tolist()
    assert len(whole.truth(6)) == 0
