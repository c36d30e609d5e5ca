"""Segmentation against a plain reference of Felzenszwalb and Huttenlocher, and against OpenCV's smoothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data as data_of_skimage

from proposals import pixel_edges, superpixels
from proposals.pixel_edges import DROPPED_BITS, _smooth, edge_keys, gaussian_kernel, sort_edges, words_needed
from proposals.pixel_layout import raster, tiles
from proposals.superpixels import join, join_common, segment

STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


def smooth(planes):
    out = np.empty(planes.shape, np.float32)
    _smooth(planes, gaussian_kernel(0.8), out)
    return out


def reference_weights(planes, sigma):
    """Weights ``{(direction, y, x): float32}`` straight from the definition."""
    kernel = gaussian_kernel(sigma)
    radius = len(kernel) // 2
    pad = ((0, 0), (radius, radius), (radius, radius))
    mode = "reflect" if min(planes.shape[1:]) > radius else "symmetric"
    if mode == "symmetric":
        padded = planes.astype(np.float32)[:, mirror(planes.shape[1], radius)][:, :, mirror(planes.shape[2], radius)]
    else:
        padded = np.pad(planes.astype(np.float32), pad, mode="reflect")
    height, width = planes.shape[1:]
    rows = np.zeros((len(planes), height, padded.shape[2]), np.float32)
    for i, tap in enumerate(kernel):
        rows += tap * padded[:, i : i + height]
    smoothed = np.zeros(planes.shape, np.float32)
    for i, tap in enumerate(kernel):
        smoothed += tap * rows[:, :, i : i + width]
    factor = np.float32(np.sqrt(3.0)) if len(planes) == 1 else np.float32(1)
    weights = {}
    for direction, (dy, dx) in enumerate(STEPS):
        for y in range(height):
            for x in range(width):
                if y + dy < height and 0 <= x + dx < width:
                    squares = np.float32(0)
                    for c in range(len(planes)):
                        difference = smoothed[c, y, x] - smoothed[c, y + dy, x + dx]
                        squares += difference * difference
                    weights[direction, y, x] = np.sqrt(squares) * factor
    return weights


def mirror(length, radius):
    """Indices -radius .. length + radius - 1 mirrored at the border pixels."""
    if length == 1:
        return np.zeros(1 + 2 * radius, int)
    period = 2 * (length - 1)
    index = np.abs(np.arange(-radius, length + radius)) % period
    return np.where(index < length, index, period - index)


def reference_segment(planes, k, min_size, sigma, connectivity):
    """Labels by the book: a list of sets, edges sorted, every edge looked at twice."""
    height, width = planes.shape[1:]
    component = {(y, x): {(y, x)} for y in range(height) for x in range(width)}
    threshold = {pixel: np.float32(k) for pixel in component}

    def cut(weight):
        bits = int(np.float32(weight).view(np.int32)) >> DROPPED_BITS << DROPPED_BITS
        return np.int32(bits).view(np.float32) if weight >= 1 / 64 else np.float32(0)

    edges = [
        (cut(w), d, y, x) for (d, y, x), w in reference_weights(planes, sigma).items() if d < 2 or connectivity == 8
    ]
    edges.sort()

    def join(a, b):
        union = component[a] | component[b]
        for pixel in union:
            component[pixel] = union

    for weight, direction, y, x in edges:
        a, b = (y, x), (y + STEPS[direction][0], x + STEPS[direction][1])
        if component[a] is not component[b]:
            limit = min(threshold[min(component[a])], threshold[min(component[b])])
            if weight <= limit:
                join(a, b)
                threshold[min(component[a])] = weight + np.float32(k) / np.float32(len(component[a]))
    for _, direction, y, x in edges:
        a, b = (y, x), (y + STEPS[direction][0], x + STEPS[direction][1])
        if component[a] is not component[b] and min(len(component[a]), len(component[b])) < min_size:
            join(a, b)
    labels = np.full((height, width), -1, np.int32)
    for y in range(height):
        for x in range(width):
            if labels[y, x] < 0:
                number = labels.max() + 1
                for pixel in component[y, x]:
                    labels[pixel] = number
    return labels


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_segmentation_equals_the_plain_reference(data):
    shape = (data.draw(st.sampled_from([1, 2, 3])), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    levels = data.draw(st.sampled_from([2, 6, 256]))  # few levels: many equal weights
    seed = data.draw(st.integers(0, 2**32 - 1))
    planes = (np.random.default_rng(seed).integers(0, levels, shape) * (255 // (levels - 1))).astype(np.uint8)
    scale = st.tuples(st.sampled_from([0.5, 20.0, 100.0, 700.0]), st.integers(1, 20))
    scales = data.draw(st.lists(scale, min_size=1, max_size=3))
    sigma = data.draw(st.sampled_from([0.0, 0.5, 0.8]))
    connectivity = data.draw(st.sampled_from([4, 8]))
    for labels, (k, min_size) in zip(segment(planes, scales, sigma, connectivity), scales, strict=True):
        np.testing.assert_array_equal(labels, reference_segment(planes, k, min_size, sigma, connectivity))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_segmentation_of_a_photograph_equals_the_plain_reference_at_every_scale(connectivity):
    planes = np.ascontiguousarray(data_of_skimage.chelsea()[90:130, 150:201].transpose(2, 0, 1))
    scales = [(10.0, 10), (40.0, 5), (150.0, 40), (10.0, 10)]
    counts = []
    for labels, (k, min_size) in zip(segment(planes, scales, 0.8, connectivity), scales, strict=True):
        np.testing.assert_array_equal(labels, reference_segment(planes, k, min_size, 0.8, connectivity))
        counts.append(labels.max() + 1)
    assert counts[0] > counts[2] > 3


def test_smoothing_equals_opencv():
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(1).integers(0, 256, (37, 53), dtype=np.uint8)
    expected = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.8)
    np.testing.assert_allclose(smooth(image[None])[0], expected, atol=1e-3)


def test_unknown_connectivity_is_refused():
    with pytest.raises(ValueError, match="4 or 8"):
        edge_keys(np.zeros((1, 2, 2), np.float32), 6)


def test_asking_for_data_in_advance_as_in_large_images_changes_nothing(monkeypatch):
    planes = np.random.default_rng(3).integers(0, 256, (3, 90, 110), dtype=np.uint8)
    near = segment(planes, [(60.0, 30)])[0]
    monkeypatch.setattr(superpixels, "NEAR_PIXELS", 0)
    assert near.max() > 50
    np.testing.assert_array_equal(near, segment(planes, [(60.0, 30)])[0])


@pytest.mark.parametrize("shape", [(3, 33, 41), (1, 20, 20), (2, 1, 7), (2, 65, 67)])
def test_the_content_of_memory_lent_does_not_matter(shape):
    """Odd numbers of pixels too: the states are 8 bytes long and must lie at multiples of 8."""
    planes = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    expected = segment(planes, [(60.0, 10)])[0]
    for filling in (0, 0xFFFFFFFF):
        memory = np.full(words_needed(*shape[1:]) + 3, filling, np.uint32)
        components = join_common(sort_edges(planes, memory=memory), [(60.0, 10)])
        memory[:] = 7  # given back and in use elsewhere
        np.testing.assert_array_equal(join(components, 60.0, 10), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 1), (4, 4), (7, 9), (66, 65), (64, 131)])
@pytest.mark.parametrize("layout_of", [raster, tiles])
def test_places_are_distinct_and_steps_lead_to_the_neighbour(size, layout_of):
    layout = layout_of(*size)
    places = layout.rows[:, None] + layout.columns
    assert len(np.unique(places)) == places.size
    assert places.max() < layout.places < (size[0] + 3) * (size[1] + 3) + 1
    for direction, (dy, dx) in enumerate(STEPS):
        first, last = max(0, -dx), size[1] - max(0, dx)
        here, there = places[: size[0] - dy, first:last], places[dy:, first + dx : last + dx]
        np.testing.assert_array_equal(here + layout.steps[(4 * here + np.uint32(direction)) & np.uint32(63)], there)


@pytest.mark.parametrize("shape", [(3, 66, 93), (1, 5, 6), (2, 1, 9), (3, 70, 64)])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_superpixels_do_not_depend_on_where_pixels_lie(monkeypatch, shape, connectivity):
    planes = np.random.default_rng(6).integers(0, 40, shape, dtype=np.uint8) * np.uint8(6)
    scales = [(40.0, 10), (200.0, 40)]
    found = []
    for layout_of in (raster, tiles):
        monkeypatch.setattr(pixel_edges, "layout_of", layout_of)
        found.append(segment(planes, scales, 0.8, connectivity))
    for in_raster, in_tiles in zip(*found, strict=True):
        np.testing.assert_array_equal(in_raster, in_tiles)


def test_more_edges_put_off_than_the_room_holds():
    """Every pixel differs from its neighbours by more than k allows: all edges are put off, all pairs distinct."""
    planes = (np.indices((70, 80)).sum(axis=0) % 2 * 200 + np.arange(80) % 3 * 20).astype(np.uint8)[None]
    components = join_common(sort_edges(planes, sigma=0.0), [(1.0, 1)])
    assert len(components.edge_weights) > 2 * planes.size
    labels = join(components, 1.0, 1)
    np.testing.assert_array_equal(labels, reference_segment(planes, 1.0, 1, 0.0, 8))
    assert len(np.unique(labels)) > planes.size // 2


def test_equal_edges_are_in_raster_order_within_a_direction():
    planes = np.random.default_rng(5).integers(0, 3, (1, 12, 15), dtype=np.uint8) * np.uint8(80)
    edges = sort_edges(planes)
    keys = edge_keys(smooth(planes)).reshape(4, -1)
    inside = [(key, direction, p) for direction in range(4) for p, key in enumerate(keys[direction]) if key < 65535]
    assert [(int(e % 4), int(e // 4)) for e in edges.order] == [(d, p) for _, d, p in sorted(inside)]
    for key, direction, p in inside[::7]:
        place = list(edges.order).index(4 * p + direction)
        assert edges.starts[key] <= place < edges.starts[key + 1]
