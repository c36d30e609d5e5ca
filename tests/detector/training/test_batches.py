"""Batches of crops: which regions, labelled how, in what proportion, and that they depend on their step alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from shared_training import crop_settings, made_up_pool, made_up_proposals, shared_settings

from detector.crop import CropConfig
from detector.training.batches import RegionBatches, WindowBatches, Windows
from detector.training.region_batch import AugmentConfig, apply_distortion, draw_distortion
from detector.training.sampling import BalanceConfig, SamplingConfig
from detector.training.shared_batches import SharedBatches
from proposals.boxes import decode, iou
from proposals.errors import UserError

POOL = replace(made_up_pool(), ids=[str(i) for i in range(7)])
SAMPLING = SamplingConfig(foreground=0.25, iou_foreground=0.5, iou_background=0.5)


def proposals(n: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = []
    for height, width in POOL.sizes:
        corner = rng.uniform(0, 1, (n, 2)) * [width - 12, height - 12]
        side = 10 + rng.uniform(0, 1, (n, 2)) * ([width - 11, height - 11] - corner)
        found.append(np.concatenate([corner, corner + side], axis=1).astype(np.float32))
    return found


def window_batches(windows: Windows, **changes: Any) -> WindowBatches:
    about: dict[str, Any] = {"sampling": SAMPLING, "batch_size": 128, "crop": CropConfig(size=16, context_pad=1)}
    return WindowBatches(windows, POOL, crop_settings(**{**about, **changes}))


@pytest.fixture(scope="module")
def windows() -> Windows:
    return Windows.label(POOL, proposals(), 2, SAMPLING)


# --- every kind ----------


@pytest.mark.parametrize("kind", ["drawn", "windows", "shared"])
def test_a_batch_depends_on_its_step_alone_and_parts_are_the_whole(kind: str, windows: Windows) -> None:
    batches = {
        "drawn": lambda: RegionBatches(POOL, crop_settings(batch_size=16)),
        "windows": lambda: window_batches(windows, batch_size=32),
        "shared": lambda: SharedBatches(POOL, made_up_proposals(POOL), 2, shared_settings()),
    }[kind]()
    fourth = batches.batch(4)
    for step in (9, 0, 4):
        again = batches.batch(step)
    assert fourth.describe() == again.describe()
    for one, other in zip(fourth, again, strict=True):
        assert not isinstance(one, torch.Tensor) or torch.equal(one, other)
    middle = batches.size // 2 - 1
    parts = [batches.batch(4, slice(*ends)) for ends in ((0, middle), (middle, batches.size))]
    for name in ("images", "labels", "deltas", "overlaps"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(fourth, name)), name
    assert [line for part in parts for line in part.describe()] == fourth.describe()
    if kind == "shared":
        assert torch.equal(torch.cat([part.rois[:, 1:] for part in parts]), fourth.rois[:, 1:])


def test_distortion_keeps_the_range_and_can_be_off() -> None:
    crops = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    off = AugmentConfig(brightness=0, contrast=0, saturation=0, hue_shift=0)
    torch.testing.assert_close(
        apply_distortion(crops, draw_distortion(len(crops), off, torch.Generator())), crops.float(), atol=1e-3, rtol=0
    )
    much = AugmentConfig(brightness=0.9, hue_shift=50)
    strong = apply_distortion(crops, draw_distortion(len(crops), much, torch.Generator().manual_seed(0)))
    assert strong.min() >= 0
    assert strong.max() <= 255
    assert not torch.allclose(strong, crops.float(), atol=1)


# --- regions drawn afresh ----------


def test_a_batch_has_its_share_of_background() -> None:
    batches = RegionBatches(POOL, crop_settings(batch_size=16))
    labels = batches.batch(0).labels
    assert (labels == 2).sum() == 4
    assert set(labels[:12].tolist()) == {0, 1}
    assert batches.steps_per_epoch == 8 / 12


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_deltas_of_crops_lead_to_the_object(mirror: float) -> None:
    settings = crop_settings(batch_size=32, augment=AugmentConfig(mirror=mirror))
    batch = RegionBatches(POOL, settings).batch(3)
    shows = np.flatnonzero(batch.labels.numpy() < 2)
    regions = np.stack([batch.shown[row].box for row in shows]).astype(np.float64)
    deltas = batch.deltas.numpy()[shows].astype(np.float64)
    deltas[:, 0] *= -1 if mirror else 1
    owners = [int(batch.shown[row].image) for row in shows]
    labels = [POOL.labels[POOL.of_image(owner)] for owner in owners]
    named = batch.labels[shows].tolist()
    truth = np.concatenate(
        [POOL.truth(owner)[own == label] for owner, own, label in zip(owners, labels, named, strict=True)]
    )
    np.testing.assert_allclose(decode(regions, deltas), truth, atol=1e-3)
    np.testing.assert_allclose(
        batch.overlaps.numpy()[shows], np.diag(iou(regions, truth.astype(np.float64))), atol=1e-5
    )
    empty = np.flatnonzero(batch.labels.numpy() == 2)
    assert not batch.deltas[empty].any()
    assert (batch.overlaps[empty] < 0.5).all()


def test_crops_show_their_label() -> None:
    plain = AugmentConfig(mirror=0, brightness=0, contrast=0, saturation=0, hue_shift=0, random_interpolation=False)
    sampling = SamplingConfig(iou_foreground=0.7, iou_background=0.1)
    crop = CropConfig(size=32, context_pad=0)
    source = RegionBatches(POOL, crop_settings(crop=crop, sampling=sampling, augment=plain, batch_size=16))
    for step in range(5):
        batch = source.batch(step)
        red, _, blue = batch.images[:, :, 8:24, 8:24].mean((2, 3)).T
        assert (red[batch.labels == 0] > blue[batch.labels == 0] + 60).all()
        assert (blue[batch.labels == 1] > red[batch.labels == 1] + 60).all()
        assert ((red - blue)[batch.labels == 2].abs() < 60).all()


# --- R-CNN's windows ----------


@pytest.mark.parametrize(("least", "most"), [(0.5, 0.5), (0.7, 0.3)], ids=["R-CNN's", "some are neither"])
def test_labels_are_those_of_the_best_overlap(least: float, most: float) -> None:
    sampling = SamplingConfig(foreground=0.25, iou_foreground=least, iou_background=most)
    windows = Windows.label(POOL, proposals(), 2, sampling)
    offered = sum(map(len, proposals())) + len(POOL.boxes)
    assert len(windows.boxes) == offered if least == most else len(windows.boxes) < offered
    for box, owner, label in zip(windows.boxes, windows.owner, windows.labels, strict=True):
        overlap = iou(box[None], POOL.truth(owner))[0]
        assert overlap.max() >= least or overlap.max() < most
        expected = POOL.labels[POOL.first[owner] + overlap.argmax()] if overlap.max() >= least else 2
        assert label == expected
    truths = {tuple(box) for box in POOL.boxes.tolist()}
    assert truths <= {tuple(box) for box in windows.boxes[windows.foreground].tolist()}


def test_no_background_is_taken_from_ignored_objects(windows: Windows) -> None:
    right = [np.array([[20, 0, width, height]], np.float32) for height, width in POOL.sizes]
    some = Windows.label(replace(POOL, ignored=right), proposals(), 2, SAMPLING)
    gone = {tuple(box) for box in windows.boxes[windows.background].tolist()} - {
        tuple(box) for box in some.boxes.tolist()
    }
    assert gone
    for x1, _, x2, _ in gone:
        assert x2 - 20 >= (x2 - x1) / 2
    assert all(x2 - 20 < (x2 - x1) / 2 for x1, _, x2, _ in some.boxes[some.background].tolist())
    np.testing.assert_array_equal(windows.boxes[windows.foreground], some.boxes[some.foreground])


def test_tiny_proposals_are_left_out() -> None:
    tiny = [np.array([[0, 0, 7, 30], [0, 0, 30, 30]], np.float32)] * len(POOL.images)
    kept = Windows.label(POOL, tiny, 2, SamplingConfig(foreground=0.25, minimum_side=8))
    assert len(kept.boxes) == len(POOL.images) + len(POOL.boxes)


def test_a_batch_is_32_and_96_from_the_whole_set(windows: Windows) -> None:
    batches = window_batches(windows)
    batch = batches.batch(0)
    assert (batch.labels[:32] < 2).all()
    assert (batch.labels[32:] == 2).all()
    assert len(batch.labels) == 128
    assert len({shown.image for shown in batch.shown}) == len(POOL.images)
    for shown, label in zip(batch.shown, batch.labels.tolist(), strict=True):
        at = np.flatnonzero((windows.boxes == shown.box).all(axis=1))
        assert label in windows.labels[at]
    assert batches.steps_per_epoch == pytest.approx(len(windows.foreground) / 32)


def test_balanced_classes(windows: Windows) -> None:
    rare = windows.foreground[windows.labels[windows.foreground] == 0][:3]
    common = windows.foreground[windows.labels[windows.foreground] == 1]
    few = Windows(windows.boxes, windows.owner, windows.labels, np.concatenate([rare, common]), windows.background)
    balanced = SAMPLING.model_copy(update={"balance": BalanceConfig(kind="uniform")})
    labels, plain = (
        np.concatenate([window_batches(few, sampling=sampling).batch(step).labels[:32].numpy() for step in range(12)])
        for sampling in (balanced, SAMPLING)
    )
    assert np.bincount(labels) == pytest.approx([192, 192], rel=0.2)
    assert (plain == 0).mean() < 0.25


def test_nothing_to_learn() -> None:
    none = [np.zeros((0, 4), np.float32)] * len(POOL.images)
    with pytest.raises(UserError, match="no proposal of the training images is background"):
        Windows.label(POOL, none, 2, SAMPLING)
