"""Features of regions, and the cache that keeps them through kills, full disks and damage."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import detector.training.feature_cache as feature_cache
from detector.crop import CropConfig, crop_regions
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, to_tensor
from detector.training.feature_cache import FeatureCache, ImageFeatures, read_features
from detector.training.features import FeatureExtractor, compute_features
from detector.training.pool import ImagePool
from detector.training.region_table import RegionTable, RegionTableConfig, make_table
from detector.training.sampling import paired_iou
from proposals.boxes import decode
from proposals.errors import UserError

NET = GoogLeNetConfig(norm="batch", width=0.1, stem="stride4")
CROP = CropConfig(size=32, context_pad=2)


def pool_of(objects: list[list[list[float]]], labels: list[list[int]], size: tuple[int, int] = (48, 64)) -> ImagePool:
    rng = np.random.default_rng(0)
    counts = [len(boxes) for boxes in objects]
    return ImagePool(
        images=[rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in objects],
        sizes=np.tile(np.array(size, np.float32), (len(objects), 1)),
        boxes=np.array([box for boxes in objects for box in boxes], np.float32).reshape(-1, 4),
        labels=np.array([label for given in labels for label in given], np.int64),
        owner=np.repeat(np.arange(len(objects)), counts),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


@pytest.fixture
def pool() -> ImagePool:
    """Two objects, none, one."""
    return pool_of([[[4, 4, 24, 30], [30, 10, 50, 40]], [], [[10, 8, 40, 44]]], [[0, 1], [], [1]])


@pytest.fixture
def table(pool: ImagePool) -> RegionTable:
    found = np.array([[4, 6, 24, 32], [30, 0, 60, 20], [0, 0, 64, 48], [28, 10, 52, 44]], np.float32)
    return make_table(pool, [found, found, found[:0]], 2, RegionTableConfig(shifts=1), 0)


def extractor(seed: int = 0, grid: int = 2, digest: str = "w") -> FeatureExtractor:
    torch.manual_seed(seed)
    return FeatureExtractor(Trunk(NET).eval(), digest, CROP, Normalization(), grid, torch.device("cpu"))


# --- the regions ----------


def test_what_the_regions_are(pool: ImagePool, table: RegionTable) -> None:
    assert np.diff(table.first).tolist()[1] == 4  # without objects: the proposals alone
    first = table.of_image(0)
    np.testing.assert_array_equal(table.boxes[first][:2], pool.boxes[:2])
    assert table.annotated[first][:2].all()
    assert table.truth[first][:2].tolist() == [0, 1]
    np.testing.assert_allclose(table.overlap[first][:2], 1)
    assert table.truth[table.of_image(2)].max() == 2  # objects are numbered over all images
    assert np.all(table.truth[table.of_image(1)] == -1)
    # Every region on an object stands there twice, once as its mirror image; no other does.
    shows = table.overlap >= 0.5
    assert table.mirror.sum() * 2 == shows.sum()
    assert not (table.mirror & ~shows).any()


def test_labels_and_overlaps_by_class(pool: ImagePool, table: RegionTable) -> None:
    labels = table.labels(pool, 0.5)
    assert set(labels[table.overlap < 0.5].tolist()) == {2}
    shows = np.flatnonzero(labels < 2)
    np.testing.assert_array_equal(labels[shows], pool.labels[table.truth[shows]])
    np.testing.assert_allclose(table.class_overlap.max(axis=1), table.overlap)
    assert table.class_overlap[0].tolist() == pytest.approx([1, 0])


def test_targets_lead_to_the_object_also_in_the_mirror(pool: ImagePool, table: RegionTable) -> None:
    rows = np.flatnonzero(table.overlap >= 0.5)
    boxes, truth = table.boxes[rows].astype(np.float64), pool.boxes[table.truth[rows]].astype(np.float64)
    mirror, width = table.mirror[rows], 64
    for array in (boxes, truth):
        array[mirror] = array[mirror][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    assert mirror.any()
    np.testing.assert_allclose(decode(boxes, table.targets(pool, rows)), truth, atol=1e-4)


def test_shifted_copies_stay_near_their_object(pool: ImagePool) -> None:
    table = make_table(pool, [np.zeros((0, 4), np.float32)] * 3, 2, RegionTableConfig(shifts=20, mirror=False), 1)
    shifted = np.flatnonzero(~table.annotated)
    assert len(shifted) == 20 * len(pool.boxes)
    overlap = paired_iou(table.boxes[shifted], pool.boxes[table.truth[shifted]])
    assert np.mean(overlap >= 0.5) > 0.9
    assert (table.boxes >= 0).all()


def test_as_many_proposals_as_images(pool: ImagePool) -> None:
    with pytest.raises(ValueError, match="3 images, proposals of 1"):
        make_table(pool, [np.zeros((0, 4), np.float32)], 2, RegionTableConfig(), 0)


# --- the features ----------


def test_features_are_the_trunks(pool: ImagePool, table: RegionTable, tmp_path: Path) -> None:
    take = extractor()
    rows = table.overlap >= 0.6
    features, made = compute_features(take, pool, table, rows, tmp_path)
    assert made == 3
    row = int(np.flatnonzero(table.mirror & rows)[0])  # a mirrored region of the first image
    crop = crop_regions(pool.images[0], table.boxes[row : row + 1], CROP, Normalization().fill)[:, :, ::-1].copy()
    with torch.inference_mode():
        seen = take.net.trunk(Normalization()(to_tensor(crop)))
    np.testing.assert_allclose(features.pooled(np.array([row]))[0], seen.mean((2, 3))[0], rtol=2e-3, atol=2e-3)
    wanted, grid = features.grid()
    np.testing.assert_array_equal(wanted, np.flatnonzero(rows))
    cells = torch.nn.functional.adaptive_avg_pool2d(seen, 2).flatten()
    np.testing.assert_allclose(grid[wanted.tolist().index(row)], cells, rtol=2e-3, atol=2e-3)


def test_blocks_and_rows_are_the_same_table(pool: ImagePool, table: RegionTable, tmp_path: Path) -> None:
    features, _ = compute_features(extractor(), pool, table, np.zeros(len(table), np.bool_), tmp_path)
    blocks = list(features.blocks(least=1))
    assert [start for start, _ in blocks] == [int(n) for n in features.first[:-1]]
    together = np.concatenate([block for _, block in blocks])
    np.testing.assert_array_equal(features.pooled(np.arange(len(table))), together)
    mixed = np.random.default_rng(0).permutation(len(table))
    np.testing.assert_array_equal(features.pooled(mixed), together[mixed])
    assert len(list(features.blocks(least=10**6))) == 1
    assert features.grid()[1].shape == (0, features.num_grid)


def test_nothing_is_computed_twice(pool: ImagePool, table: RegionTable, tmp_path: Path) -> None:
    rows = table.overlap >= 0.6
    first, _ = compute_features(extractor(), pool, table, rows, tmp_path)
    again, made = compute_features(extractor(), pool, table, rows, tmp_path)
    assert made == 0
    np.testing.assert_array_equal(again.pooled(np.arange(len(table))), first.pooled(np.arange(len(table))))


@pytest.mark.parametrize("change", ["weights", "grid", "boxes", "mirror", "rows", "pixels"])
def test_whatever_features_depend_on_is_in_their_key(
    pool: ImagePool, table: RegionTable, tmp_path: Path, change: str
) -> None:
    rows = table.overlap >= 0.6
    compute_features(extractor(), pool, table, rows, tmp_path)
    take = extractor(grid=3 if change == "grid" else 2, digest="other" if change == "weights" else "w")
    boxes, mirror = table.boxes.copy(), table.mirror.copy()
    if change == "boxes":
        boxes[0, 0] += 1
    elif change == "mirror":
        mirror[0] = True
    elif change == "rows":
        rows = np.zeros_like(rows)
    elif change == "pixels":
        pool.images[0][0, 0] ^= 1
    changed = RegionTable(boxes, mirror, table.first, table.truth, table.overlap, table.annotated, table.class_overlap)
    _, made = compute_features(take, pool, changed, rows, tmp_path)
    # A pixel changes one image; so do a box and its mirroring; the trunk and the grid concern all of them.
    assert made == {"weights": 3, "grid": 3, "rows": 2}.get(change, 1)


def test_a_table_of_more_files_than_may_be_open(pool: ImagePool, table: RegionTable, tmp_path: Path) -> None:
    features, _ = compute_features(extractor(), pool, table, table.overlap >= 0.6, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = type(features)(list(features.paths) * 40, np.arange(121), features.num_features, features.num_grid)
    opened = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 20  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, hard))
    try:
        assert sum(len(block) for _, block in many.blocks(least=10**6)) == 40 * len(table)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- the cache ----------


def some_features(seed: int = 0) -> ImageFeatures:
    rng = np.random.default_rng(seed)
    rows = np.array([1, 3], np.int64)
    return ImageFeatures(rng.normal(size=(5, 4)).astype(np.float16), rows, rng.normal(size=(2, 8)).astype(np.float16))


def never() -> ImageFeatures:
    raise AssertionError("made although it was there")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    cache, path = FeatureCache(tmp_path, {"a": 1}), tmp_path / "x.features"
    assert cache.ensure(path, some_features)
    assert not cache.ensure(path, never)
    found, given = read_features(path, check=True), some_features()
    assert found is not None
    for name in ("pooled", "rows", "grid"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
    assert not found.pooled.flags.writeable


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damage_is_noticed_and_mended(tmp_path: Path, damage: str) -> None:
    cache, path = FeatureCache(tmp_path, {}), tmp_path / "x.features"
    cache.ensure(path, some_features)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-3] ^= 4
    broken = {"cut": data[:-5], "flipped": data, "empty": b"", "other": b"something else" * 20}[damage]
    path.write_bytes(bytes(broken))
    assert read_features(path, check=True) is None
    assert cache.ensure(path, some_features)
    assert read_features(path, check=True) is not None


def test_a_full_disk_is_a_line_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: ImagePool, table: RegionTable
) -> None:
    written: list[int] = []
    sync = os.fsync

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) == 3:  # settings.json, the first image's, then no room for the second's
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(feature_cache.os, "fsync", full)
    rows: Any = table.overlap >= 0.6
    with pytest.raises(UserError, match=r"No space left on device.*free some space.*what is finished is kept"):
        compute_features(extractor(), pool, table, rows, tmp_path)
    assert not list(tmp_path.rglob(".*unfinished"))
    monkeypatch.undo()
    _, made = compute_features(extractor(), pool, table, rows, tmp_path)
    assert made == 2


def test_features_that_vanish_are_a_line(tmp_path: Path, pool: ImagePool, table: RegionTable) -> None:
    features, _ = compute_features(extractor(), pool, table, table.overlap >= 0.6, tmp_path)
    features.paths[1].unlink()
    with pytest.raises(UserError, match="vanished"):
        list(features.blocks())
