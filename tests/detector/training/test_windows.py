"""R-CNN's fine-tuning batches: which windows, labelled how, and in what proportion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from shared_training import made_up_pool

from detector.crop import CropConfig
from detector.nets.googlenet import GoogLeNetConfig
from detector.training.region_settings import RegionTrainingConfig
from detector.training.sampling import BalanceConfig, SamplingConfig
from detector.training.windows import WindowBatches, Windows
from proposals.boxes import iou
from proposals.errors import UserError

POOL = made_up_pool()
SAMPLING = SamplingConfig(foreground=0.25, iou_foreground=0.5, iou_background=0.5)


def proposals(seed: int = 0, n: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = []
    for height, width in POOL.sizes:
        corner = rng.uniform(0, 1, (n, 2)) * [width - 12, height - 12]
        side = 10 + rng.uniform(0, 1, (n, 2)) * ([width - 11, height - 11] - corner)
        found.append(np.concatenate([corner, corner + side], axis=1).astype(np.float32))
    return found


@pytest.fixture(scope="module")
def windows() -> Windows:
    return Windows.label(POOL, proposals(), 2, SAMPLING)


def make(windows: Windows, **changes: Any) -> WindowBatches:
    settings: dict[str, Any] = {
        "net": GoogLeNetConfig(num_outputs=3),
        "crop": CropConfig(size=16, context_pad=1),
        "sampling": SAMPLING,
        "steps": 1,
        "seed": 4,
    }
    return WindowBatches(windows, POOL, RegionTrainingConfig(**{**settings, **changes}))


def test_labels_are_those_of_the_best_overlap(windows: Windows) -> None:
    assert len(windows.boxes) == sum(map(len, proposals())) + len(POOL.boxes)
    for box, owner, label in zip(windows.boxes, windows.owner, windows.labels, strict=True):
        overlap = iou(box[None], POOL.truth(owner))[0]
        expected = POOL.labels[POOL.first[owner] + overlap.argmax()] if overlap.max() >= 0.5 else 2
        assert label == expected
    truths = {tuple(box) for box in POOL.boxes.tolist()}
    assert truths <= {tuple(box) for box in windows.boxes[windows.foreground].tolist()}


def test_what_is_neither_is_left_out() -> None:
    strict = SamplingConfig(foreground=0.25, iou_foreground=0.7, iou_background=0.3)
    some = Windows.label(POOL, proposals(), 2, strict)
    for box, owner, label in zip(some.boxes, some.owner, some.labels, strict=True):
        best = iou(box[None], POOL.truth(owner)).max()
        assert best >= 0.7 if label < 2 else best < 0.3


def test_no_background_is_taken_from_ignored_objects() -> None:
    right = [np.array([[20, 0, width, height]], np.float32) for height, width in POOL.sizes]
    all_, some = (Windows.label(pool, proposals(), 2, SAMPLING) for pool in (POOL, replace(POOL, ignored=right)))
    gone = {tuple(box) for box in all_.boxes[all_.background].tolist()} - {tuple(box) for box in some.boxes.tolist()}
    assert gone
    for x1, _, x2, _ in gone:
        assert x2 - 20 >= (x2 - x1) / 2
    assert all(x2 - 20 < (x2 - x1) / 2 for x1, _, x2, _ in some.boxes[some.background].tolist())
    np.testing.assert_array_equal(all_.boxes[all_.foreground], some.boxes[some.foreground])


def test_tiny_proposals_are_left_out() -> None:
    tiny = [np.array([[0, 0, 7, 30], [0, 0, 30, 30]], np.float32)] * len(POOL.images)
    kept = Windows.label(POOL, tiny, 2, SamplingConfig(foreground=0.25, minimum_side=8))
    assert len(kept.boxes) == len(POOL.images) + len(POOL.boxes)


def test_a_batch_is_32_and_96_from_the_whole_set(windows: Windows) -> None:
    batch = make(windows).batch(0)
    assert (batch.labels[:32] < 2).all()
    assert (batch.labels[32:] == 2).all()
    assert len(batch.labels) == 128
    assert len({shown.image for shown in batch.shown}) == len(POOL.images)
    for shown, label in zip(batch.shown, batch.labels.tolist(), strict=True):
        at = np.flatnonzero((windows.boxes == shown.box).all(axis=1))
        assert label in windows.labels[at]


def test_every_foreground_window_comes_once_an_epoch(windows: Windows) -> None:
    batches = make(windows)
    seen = [batches.order[i] for i in range(len(windows.foreground))]
    assert sorted(seen) == list(range(len(windows.foreground)))
    assert batches.steps_per_epoch == pytest.approx(len(windows.foreground) / 32)


def test_balanced_classes(windows: Windows) -> None:
    rare = windows.foreground[windows.labels[windows.foreground] == 0][:3]
    common = windows.foreground[windows.labels[windows.foreground] == 1]
    few = Windows(windows.boxes, windows.owner, windows.labels, np.concatenate([rare, common]), windows.background)
    balanced = SAMPLING.model_copy(update={"balance": BalanceConfig(kind="uniform")})
    labels = np.concatenate([make(few, sampling=balanced).batch(step).labels[:32].numpy() for step in range(12)])
    assert np.bincount(labels) == pytest.approx([192, 192], rel=0.2)
    plain = np.concatenate([make(few).batch(step).labels[:32].numpy() for step in range(12)])
    assert (plain == 0).mean() < 0.25


def test_parts_of_a_batch_are_the_batch(windows: Windows) -> None:
    batches = make(windows)
    whole, parts = batches.batch(3), [batches.batch(3, part=slice(*ends)) for ends in ((0, 50), (50, 128))]
    assert np.concatenate([part.images.numpy() for part in parts]) == pytest.approx(whole.images.numpy())
    assert np.concatenate([part.labels.numpy() for part in parts]).tolist() == whole.labels.tolist()


def test_nothing_to_learn() -> None:
    none = [np.zeros((0, 4), np.float32)] * len(POOL.images)
    with pytest.raises(UserError, match="no proposal of the training images is background"):
        Windows.label(POOL, none, 2, SAMPLING)
