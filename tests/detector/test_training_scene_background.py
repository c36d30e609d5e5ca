"""Background from photographs of scenes: what is cut out, from where, and how it enters a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from detector.crop import CropConfig
from detector.sampling import SamplingConfig
from detector.training.augment import AugmentConfig
from detector.training.batches import RegionBatches
from detector.training.pool import ImagePool
from detector.training.scene_background import Scenes
from detector.types import GroundTruth, ImageRecord
from proposals.boxes import iou
from proposals.errors import UserError

CROP = CropConfig(size=32, context_pad=2)
FILL = (124, 116, 104)


def make_pool(folder: Path, images: list[np.ndarray], boxes: list[list[float]]) -> ImagePool:
    records = []
    for i, (image, box) in enumerate(zip(images, boxes, strict=True)):
        path = folder / f"{i}.png"
        Image.fromarray(image).save(path)
        truth = GroundTruth.of(np.array([box], np.float32), np.array([i % 2]))
        records.append(ImageRecord(str(i), path, (image.shape[0], image.shape[1]), truth))
    return ImagePool.load(records)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> ImagePool:
    images = [data.chelsea()[:150, :200], data.coffee()[100:280, 150:350]]
    return make_pool(tmp_path_factory.mktemp("scenes"), images, [[20, 20, 180, 140], [10, 40, 190, 170]])


@pytest.fixture(scope="module")
def scenes(photographs: ImagePool) -> Scenes:
    return Scenes.search(photographs, 0.3, 12)


def test_regions_keep_away_from_objects_and_are_not_tiny(scenes: Scenes, photographs: ImagePool) -> None:
    assert set(scenes.owner.tolist()) == {0, 1}
    assert ((scenes.boxes[:, 2:] - scenes.boxes[:, :2]) >= 12).all()
    for index in (0, 1):
        assert iou(scenes.boxes[scenes.owner == index], photographs.truth(index)).max() < 0.3


def test_crops_show_no_more_than_an_object_of_that_size_would(scenes: Scenes) -> None:
    def sharpness(side: float) -> float:
        sides = np.full((60, 2), side, np.float32)
        crops = scenes.crops(np.random.default_rng(0), sides, CROP, FILL)
        assert crops.shape == (60, 32, 32, 3)
        return float(np.abs(np.diff(crops.astype(np.float32), axis=2)).mean())

    assert sharpness(4) < sharpness(10) < sharpness(32)
    assert sharpness(32) == sharpness(500)  # nothing is enlarged


def test_chance_comes_from_the_generator_alone(scenes: Scenes) -> None:
    sides = np.full((8, 2), 20, np.float32)
    first, again, other = (scenes.crops(np.random.default_rng(seed), sides, CROP, FILL) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_batch_has_its_share_of_them_and_they_are_background(scenes: Scenes, photographs: ImagePool) -> None:
    sampling, plain = SamplingConfig(foreground=0.5, scenes=0.75), AugmentConfig(mirror=0, random_interpolation=False)
    settings = (photographs, 2, CROP, FILL)
    with_scenes = RegionBatches(*settings, sampling, plain, 16, 3, scenes).batch(0)
    assert with_scenes.crops.shape == (16, 3, 32, 32)
    assert (with_scenes.labels[8:] == 2).all()
    assert (with_scenes.labels[:8] < 2).all()
    # The foreground and the pictures' own background are those of a run without scenes.
    without = RegionBatches(*settings, sampling, plain, 16, 3).batch(0)
    none = RegionBatches(*settings, sampling.model_copy(update={"scenes": 0.0}), plain, 16, 3, scenes).batch(0)
    assert without.labels.tolist() == with_scenes.labels.tolist() == none.labels.tolist()
    assert (none.crops == without.crops).all()
    assert (with_scenes.crops[10:] != without.crops[10:]).any()


def test_photographs_without_a_free_region_are_refused(photographs: ImagePool) -> None:
    with pytest.raises(UserError, match="no region without objects"):
        Scenes.search(photographs, 0.3, 1000)


def test_joined_pools_keep_each_pictures_objects(photographs: ImagePool) -> None:
    both = ImagePool.join([photographs, replace(photographs, skipped=["x"])])
    assert len(both.images) == 4
    assert both.skipped == [*photographs.skipped, "x"]
    for index in range(4):
        np.testing.assert_array_equal(both.truth(index), photographs.truth(index % 2))
        np.testing.assert_array_equal(both.sizes[index], photographs.sizes[index % 2])
    np.testing.assert_array_equal(both.owner, np.repeat(np.arange(4), 1))
