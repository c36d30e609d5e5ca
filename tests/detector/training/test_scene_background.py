"""Background from photographs of scenes: what is cut out, from where, and how it enters a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from detector.crop import CropConfig, crop_regions
from detector.training.augment import AugmentConfig
from detector.training.batches import RegionBatches
from detector.training.pool import ImagePool
from detector.training.sampling import SamplingConfig
from detector.training.scene_background import Scenes
from detector.types import GroundTruth, ImageRecord
from proposals.boxes import iou
from proposals.errors import UserError

CROP = CropConfig(size=32, context_pad=2)
BARE = CropConfig(size=32, context_pad=0)
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


@pytest.mark.parametrize("look", [(20, 10, 44, 50), (0, 0, 64, 64), (60, 0, 64, 8), (3, 30, 9, 62)])
def test_a_region_takes_the_place_and_size_of_a_training_pictures_region(scenes: Scenes, look: tuple[int, ...]) -> None:
    wanted = np.array(look, np.float32)
    for drawn in scenes.draw(np.random.default_rng(0), 20):
        picture, box = scenes.picture(drawn, wanted, (64, 64), 90)
        assert picture.shape == (64, 64, 3)
        assert (box >= 0).all()
        assert (box <= 64).all()
        # As large as asked for, but where the photograph is too small to show that much around the region.
        photograph = scenes.pool.images[drawn.image]
        for axis, room in enumerate((photograph.shape[1], photograph.shape[0])):
            side, asked = float(box[axis + 2] - box[axis]), float(wanted[axis + 2] - wanted[axis])
            of_photograph = float(drawn.box[axis + 2] - drawn.box[axis]) / room * 64
            assert side == pytest.approx(max(asked, of_photograph), rel=0.12, abs=0.5)


def test_the_region_shows_what_the_photograph_shows_there(scenes: Scenes) -> None:
    drawn = max(scenes.draw(np.random.default_rng(1), 40), key=lambda d: float(np.prod(d.box[2:] - d.box[:2])))
    picture, box = scenes.picture(drawn, np.array([8, 8, 56, 56], np.float32), (64, 64), 95)
    plain = crop_regions(scenes.pool.images[drawn.image], drawn.box[None], BARE, FILL)[0].astype(np.float32)
    found = crop_regions(picture, box[None], BARE, FILL)[0].astype(np.float32)
    assert np.corrcoef(plain.ravel(), found.ravel())[0, 1] > 0.9  # the order of the colours included
    assert np.abs(plain.mean((0, 1)) - found.mean((0, 1))).max() < 6


def test_chance_comes_from_the_generator_alone(scenes: Scenes) -> None:
    first, again, other = ([*scenes.draw(np.random.default_rng(seed), 8)] for seed in (1, 1, 2))
    assert all(a.image == b.image and (a.box == b.box).all() for a, b in zip(first, again, strict=True))
    assert any((a.box != b.box).any() for a, b in zip(first, other, strict=True))


def test_a_batch_has_its_share_of_them_and_they_are_background(scenes: Scenes, photographs: ImagePool) -> None:
    sampling, plain = SamplingConfig(foreground=0.5, scenes=0.75), AugmentConfig(mirror=0, random_interpolation=False)
    settings = (photographs, 2, CROP, FILL)
    with_scenes = RegionBatches(*settings, sampling, plain, 16, 3, scenes).batch(0)
    assert with_scenes.images.shape == (16, 3, 32, 32)
    assert (with_scenes.labels[8:] == 2).all()
    assert (with_scenes.labels[:8] < 2).all()
    # The foreground and the pictures' own background are those of a run without scenes.
    without = RegionBatches(*settings, sampling, plain, 16, 3).batch(0)
    none = RegionBatches(*settings, sampling.model_copy(update={"scenes": 0.0}), plain, 16, 3, scenes).batch(0)
    assert without.labels.tolist() == with_scenes.labels.tolist() == none.labels.tolist()
    assert (none.images == without.images).all()
    assert (with_scenes.images[10:] != without.images[10:]).any()


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
