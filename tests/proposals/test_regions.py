"""Region statistics against loops over the pixels, and colour spaces against scikit-image."""

import numpy as np
import pytest
from skimage import color

from proposals.colors import to_planes
from proposals.regions import TEXTURE_RANGE, derivative_kernels, describe, texture_bins

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (24, 31, 3), dtype=np.uint8)
# Eight pixels in a row without a derivative are skipped together; here some rows of eight are, some are not.
MOSTLY_FLAT = IMAGE // 32
MOSTLY_FLAT[8:11, 20:] = 250
LABELS = np.kron(np.array([[0, 1, 2], [0, 3, 3]]), np.ones((12, 11), int))[:, :31].astype(np.int32)


def test_sizes_boxes_and_neighbours():
    regions = describe(to_planes(IMAGE, "RGB"), texture_bins(to_planes(IMAGE, "RGB")), LABELS)
    for n in range(4):
        y, x = np.nonzero(n == LABELS)
        assert regions.sizes[n] == len(y)
        assert regions.boxes[n].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_corners_alone_do_not_make_neighbours():
    labels = np.array([[0, 1], [2, 3]], np.int32)
    planes = np.zeros((1, 2, 2), np.uint8)
    pairs = describe(planes, texture_bins(planes), labels).pairs.tolist()
    assert sorted(pairs) == [[0, 1], [0, 2], [1, 3], [2, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_pairs_of_random_labels_are_each_there_once(seed):
    labels = np.random.default_rng(seed).integers(0, 9, (12, 17)).astype(np.int32)
    labels.ravel()[:9] = np.arange(9)
    planes = np.zeros((1, 12, 17), np.uint8)
    pairs = [tuple(p) for p in describe(planes, texture_bins(planes), labels).pairs.tolist()]
    expected = set()
    for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        expected |= {(min(p), max(p)) for p in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True) if p[0] != p[1]}
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected


def test_color_histograms():
    planes = to_planes(IMAGE, "Lab")
    histograms = describe(planes, texture_bins(planes), LABELS).color
    for n in range(4):
        inside = n == LABELS
        expected = [np.histogram(p[inside], 25, (0, 256))[0] for p in planes]
        np.testing.assert_allclose(histograms[n], np.concatenate(expected) / (3 * inside.sum()), rtol=1e-6)


@pytest.mark.parametrize("image", [IMAGE, MOSTLY_FLAT], ids=["noise", "mostly flat"])
def test_texture_histograms_are_of_positive_gaussian_derivatives_in_eight_directions(image):
    from scipy.ndimage import correlate1d

    planes = to_planes(image, "RGB")
    histograms = describe(planes, texture_bins(planes), LABELS).texture
    gaussian, slope = (kernel.astype(float) for kernel in derivative_kernels())
    for c, plane in enumerate(planes.astype(float)):
        dx = correlate1d(correlate1d(plane, gaussian, 0, mode="mirror"), slope, 1, mode="mirror")
        dy = correlate1d(correlate1d(plane, slope, 0, mode="mirror"), gaussian, 1, mode="mirror")
        for direction in range(8):
            angle = direction * np.pi / 4
            response = np.maximum(dx * np.cos(angle) + dy * np.sin(angle), 0)
            bins = np.minimum((response / TEXTURE_RANGE * 10).astype(int), 9)
            for n in range(4):
                inside = n == LABELS
                expected = np.bincount(bins[inside], minlength=10) / inside.sum() / 24
                found = histograms[n, (c * 8 + direction) * 10 :][:10]
                # A response on the border of two bins may fall on either side in single precision.
                assert np.abs(found - expected).sum() * 24 * inside.sum() <= 2.01


def test_every_histogram_sums_to_one():
    for space in ("RGB", "I", "C"):
        planes = to_planes(IMAGE, space)
        regions = describe(planes, texture_bins(planes), LABELS)
        np.testing.assert_allclose(regions.color.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(regions.texture.sum(axis=1), 1, rtol=1e-5)


def expected_planes(space):
    """The colour space in floats over 0-255: by scikit-image, or by its formula where that has no such function."""
    rgb = IMAGE / 255.0
    shares = IMAGE / IMAGE.sum(axis=2, keepdims=True).astype(float)
    intensity = color.rgb2yuv(IMAGE)[..., 0] * 255
    lab = color.rgb2lab(IMAGE)
    model = 255 * np.array([[0.000233846, 0.00261968, 0.00127135], [0.000726333, 0.000718106, -0.00121377],
                            [0.000846833, -0.00173932, 0.000221515]])  # fmt: skip
    energy = IMAGE @ model.T
    ratios = energy[..., 1:] / (energy[..., :1] + 1)
    least, most = ratios.min(axis=(0, 1)), ratios.max(axis=(0, 1))
    return {
        "RGB": rgb * 255,
        "I": intensity[..., None],
        "Lab": np.stack([lab[..., 0] * 2.55, lab[..., 1] + 128, lab[..., 2] + 128], axis=2),
        "HSV": color.rgb2hsv(IMAGE) * 255,
        "H": color.rgb2hsv(IMAGE)[..., :1] * 255,
        "rgb": shares * 255,
        "rgI": np.concatenate([shares[..., :2] * 255, intensity[..., None]], axis=2),
        "C": np.concatenate([(ratios - least) / (most - least) * 255, np.zeros((24, 31, 1))], axis=2),
    }[space]


@pytest.mark.parametrize("space", ["RGB", "I", "Lab", "rgI", "HSV", "rgb", "C", "H"])
def test_colour_space(space):
    difference = np.moveaxis(to_planes(IMAGE, space), 0, 2) - expected_planes(space)
    if space in ("HSV", "H"):  # hue goes round; OpenCV's full turn is 256
        difference[..., 0] = (difference[..., 0] + 128) % 256 - 128
    assert np.abs(difference).max() <= 1.6


def test_black_is_grey_in_the_shares():
    black = np.zeros((1, 1, 3), np.uint8)
    assert to_planes(black, "rgb").ravel().tolist() == [85, 85, 85]


@pytest.mark.parametrize("image", [IMAGE[:1, :1], np.zeros((1, 1, 3), np.uint8), np.full((4, 4, 3), 9, np.uint8)])
def test_an_image_of_one_colour_is_flat_in_c(image):
    assert not to_planes(image, "C").any()


def test_unknown_colour_space_is_refused():
    with pytest.raises(ValueError, match="XYZ"):
        to_planes(IMAGE, "XYZ")
