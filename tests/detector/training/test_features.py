"""The regions that SVMs are trained on, and their features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_training import pool_of

from detector.crop import CropConfig, crop_regions
from detector.detection.member import Member
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Trunk
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import SharedMaps
from detector.nets.weights import Normalization, to_tensor
from detector.training.features import FEATURES_FILE, RegionTable, blocks, compute_features, make_table
from detector.training.pool import ImagePool
from proposals.boxes import iou

NET = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4")
CROP = CropConfig(size=32, context_pad=2)
CPU = torch.device("cpu")


def noise(objects: list[list[list[float]]], labels: list[list[int]]) -> ImagePool:
    rng = np.random.default_rng(0)
    return pool_of([rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in objects], objects, labels)


@pytest.fixture
def pool() -> ImagePool:
    """Two objects, none, one."""
    return noise([[[4, 4, 24, 30], [30, 10, 50, 40]], [], [[10, 8, 40, 44]]], [[0, 1], [], [1]])


@pytest.fixture
def table(pool: ImagePool) -> RegionTable:
    found = np.array([[4, 6, 24, 32], [30, 0, 60, 20], [0, 0, 64, 48], [28, 10, 52, 44]], np.float32)
    return make_table(pool, [found, found, found[:0]], 2)


def test_what_the_regions_are(pool: ImagePool, table: RegionTable) -> None:
    assert np.diff(table.first).tolist() == [6, 4, 1]
    first = table.of_image(0)
    np.testing.assert_array_equal(table.boxes[first][:2], pool.boxes[:2])
    assert table.annotated[first].tolist() == [True, True, False, False, False, False]
    for image in range(3):
        rows, truth = table.of_image(image), pool.truth(image)
        overlap = iou(table.boxes[rows], truth)
        labels = pool.labels[pool.of_image(image)]
        shows = overlap.max(axis=1, initial=0) >= 0.5
        best = [labels[row.argmax()] if shown else 2 for row, shown in zip(overlap, shows, strict=True)]
        assert table.labels[rows].tolist() == best
        for label in range(2):
            expected = overlap[:, labels == label].max(axis=1, initial=0)
            np.testing.assert_allclose(table.class_overlap[rows, label], expected, rtol=1e-6)
    assert table.labels.tolist() == [0, 1, 0, 2, 2, 1, 2, 2, 2, 2, 1]


def test_background_in_an_ignored_object_is_left_out(pool: ImagePool) -> None:
    """The rest stays: what is not in it, what lies on a true object, and the annotated boxes."""
    found = np.array([[4, 6, 24, 32], [30, 0, 60, 20], [0, 0, 10, 10]], np.float32)
    crowd = np.array([[0, 0, 40, 48]], np.float32)
    ignored = [crowd, crowd[:0], crowd]
    table = make_table(replace(pool, ignored=ignored), [found] * 3, 2)
    boxes = [table.boxes[table.of_image(image)].tolist() for image in range(3)]
    assert boxes[0] == [*pool.boxes[:2].tolist(), *found[:2].tolist()]
    assert boxes[1] == found.tolist()
    assert boxes[2] == [pool.boxes[2].tolist(), found[1].tolist()]


def test_as_many_proposals_as_images(pool: ImagePool) -> None:
    with pytest.raises(ValueError, match="3 images, proposals of 1"):
        make_table(pool, [np.zeros((0, 4), np.float32)], 2)


def shared_member() -> Member:
    trunk = Trunk(NET)
    head = RegionHead(HeadShape(kind="softmax", grid=1), 2, trunk.num_features)
    return Member(trunk, CROP, Normalization(), head, SharedMaps(image_side=64, levels=1))


def test_features_are_what_the_classes_are_scored_on(pool: ImagePool, table: RegionTable, tmp_path: Path) -> None:
    torch.manual_seed(0)
    members = [Member(GoogLeNet(NET), CROP, Normalization()), shared_member()]
    cropped, shared = compute_features(members, pool, table, tmp_path, CPU)
    rows = np.array([1, 7, 10])
    crops = np.concatenate(
        [
            crop_regions(pool.images[image], table.boxes[row : row + 1], CROP, Normalization().fill)
            for image, row in zip((0, 1, 2), rows.tolist(), strict=True)
        ]
    )
    with torch.inference_mode():
        seen = members[0].net.trunk(Normalization()(to_tensor(crops))).mean((2, 3))
        maps = members[1].maps([pool.images[0]], CPU)[0]
        pooled = maps.net.after_4e(maps.cells(table.boxes[table.of_image(0)])).mean((2, 3))
    np.testing.assert_allclose(cropped[rows], seen, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(shared[:6], pooled, rtol=2e-3, atol=2e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"0-{FEATURES_FILE}", f"1-{FEATURES_FILE}"]


def test_blocks_and_rows_are_the_same_table(pool: ImagePool, table: RegionTable, tmp_path: Path) -> None:
    (features,) = compute_features([shared_member()], pool, table, tmp_path, CPU)
    parts = list(blocks(features, rows=4))
    assert [start for start, _ in parts] == [0, 4, 8]
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), features)


def test_a_set_without_regions_has_an_empty_table(tmp_path: Path) -> None:
    pool = noise([[]], [[]])
    none = make_table(pool, [np.zeros((0, 4), np.float32)], 2)
    (features,) = compute_features([shared_member()], pool, none, tmp_path, CPU)
    assert list(blocks(features)) == []
