"""Training pictures for MultiBox: every box is on its object, in whole pictures, crops and mosaics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from detector.training.pool import ImagePool
from detector.training.scenes import SceneConfig, cut_rectangle, make_scene


def make_pool(seed: int = 0, n: int = 6) -> ImagePool:
    """Grey pictures of several sizes with one red rectangle each, and one picture without an object."""
    rng = np.random.default_rng(seed)
    images, boxes, sizes = [], [], []
    for i in range(n):
        height, width = (int(v) for v in rng.integers(40, 90, 2))
        image = np.full((height, width, 3), 128, np.uint8)
        if i:
            w, h = int(rng.integers(16, width // 2)), int(rng.integers(16, height // 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            image[y : y + h, x : x + w] = (250, 0, 0)
            boxes.append([x, y, x + w, y + h])
        images.append(image)
        sizes.append((height, width))
    counts = np.array([0] + [1] * (n - 1))
    return ImagePool(
        images=images,
        sizes=np.array(sizes, np.float32),
        boxes=np.array(boxes, np.float32),
        labels=np.zeros(n - 1, np.int64),
        owner=np.arange(1, n),
        first=np.concatenate([[0], np.cumsum(counts)]),
    )


POOL = make_pool()
KINDS: dict[str, dict[str, Any]] = {
    "whole": {"whole": 1, "crop": 0, "mosaic": 0},
    "crop": {"whole": 0, "crop": 1, "mosaic": 0},
    "mosaic": {"whole": 0, "crop": 0, "mosaic": 1},
}


def red(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0].astype(int) - picture[..., 1] > 100


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_boxes_lie_on_their_objects(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = SceneConfig(**KINDS[kind], visible=0.01, minimum_side=0)
    scene = make_scene(rng, POOL, int(rng.integers(6)), 96, config)
    assert scene.picture.shape == (96, 96, 3)
    assert scene.boxes.dtype == np.float32
    inside = np.zeros((96, 96), bool)
    for x1, y1, x2, y2 in np.round(scene.boxes * 96).astype(int).tolist():
        assert 0 <= x1 < x2 + 1 <= 97
        assert 0 <= y1 < y2 + 1 <= 97
        inner = red(scene.picture)[y1 + 2 : max(y2 - 2, 0), x1 + 2 : max(x2 - 2, 0)]
        assert inner.all()
        inside[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = True
    assert not (red(scene.picture) & ~inside).any()  # no object without its box


def test_a_mosaic_shows_the_picture_it_is_made_for() -> None:
    pool = make_pool(n=2)  # picture 0 has no object, picture 1 has one
    config = SceneConfig(**KINDS["mosaic"], cropped_piece=0, minimum_side=0)
    for seed in range(20):
        assert len(make_scene(np.random.default_rng(seed), pool, 1, 64, config).boxes) >= 1


def test_mosaics_have_several_objects_of_several_sizes() -> None:
    config = SceneConfig(**KINDS["mosaic"])
    scenes = [make_scene(np.random.default_rng(i), POOL, i % 6, 128, config) for i in range(40)]
    assert np.mean([len(s.boxes) for s in scenes]) > 2.5
    areas = np.concatenate([np.prod(s.boxes[:, 2:] - s.boxes[:, :2], axis=1) for s in scenes])
    assert np.quantile(areas, 0.9) > 5 * np.quantile(areas, 0.1)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(8, 200), pieces=st.integers(2, 20))
def test_the_pieces_of_a_mosaic_tile_it(seed: int, size: int, pieces: int) -> None:
    parts = cut_rectangle(np.random.default_rng(seed), size, pieces)
    covered = np.zeros((size, size), int)
    for x1, y1, x2, y2 in parts:
        assert x2 > x1
        assert y2 > y1
        covered[y1:y2, x1:x2] += 1
    assert (covered == 1).all()
    assert len(parts) == pieces or (len(parts) < pieces and size < 200)


def test_objects_mostly_outside_a_crop_and_tiny_ones_do_not_count() -> None:
    pool = make_pool()
    half = SceneConfig(**KINDS["crop"], area=(0.2, 0.3), visible=0.9)
    all_ = SceneConfig(**KINDS["crop"], area=(0.2, 0.3), visible=0.01)
    counts = [
        sum(len(make_scene(np.random.default_rng(i), pool, i % 6, 64, c).boxes) for i in range(60))
        for c in (half, all_)
    ]
    assert 0 < counts[0] < counts[1]
    large = SceneConfig(**KINDS["whole"], minimum_side=0.99)
    assert len(make_scene(np.random.default_rng(0), pool, 1, 64, large).boxes) == 0


def test_the_generator_decides() -> None:
    scenes = [make_scene(np.random.default_rng(seed), POOL, 2, 64, SceneConfig()) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(scenes[0].picture, scenes[1].picture)
    np.testing.assert_array_equal(scenes[0].boxes, scenes[1].boxes)
    assert not np.array_equal(scenes[0].picture, scenes[2].picture)


def test_interpolation_is_bilinear_unless_random() -> None:
    config = SceneConfig(**KINDS["whole"])
    fixed, free = (
        {
            make_scene(np.random.default_rng(i), POOL, 1, 200, config, random_interpolation=random).picture.tobytes()
            for i in range(20)
        }
        for random in (False, True)
    )
    assert len(fixed) == 1
    assert len(free) >= 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"whole": 0, "crop": 0, "mosaic": 0},
        {"area": (0.0, 1.0)},
        {"area": (0.9, 0.5)},
        {"aspect": (2.0, 1.0)},
        {"pieces": (1, 4)},
        {"colour": 1},
    ],
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SceneConfig(**wrong)
