"""The whole search: interface, ranking, determinism, odd images and odd arguments."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from skimage import data

from proposals import SelectiveSearch, SelectiveSearchConfig, UserError, search_steps, selective_search
from proposals.boxes import iou
from proposals.near_duplicates import near_a_better_one, repeats
from proposals.search_steps import run_tasks
from proposals.selective_search import PRESETS, as_rgb, rank

CAT = data.chelsea()[:200, 100:350]
NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def same(a, b):
    return np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_same_bytes_whatever_the_number_of_threads(preset):
    one = selective_search(CAT, preset, threads=1)
    assert len(one) > 30
    for threads in (2, 3, 8, None):
        assert same(one, selective_search(CAT, preset, threads=threads))


def test_seed_changes_the_order_but_not_the_boxes():
    settings_ = SelectiveSearchConfig(defer_iou=1)
    a, b = (selective_search(CAT, settings_, seed=seed) for seed in (0, 1))
    assert not np.array_equal(a.boxes, b.boxes)
    assert {tuple(box) for box in a.boxes.tolist()} == {tuple(box) for box in b.boxes.tolist()}


@pytest.mark.parametrize("defer_iou", [0.5, 0.75, 1.0])
def test_boxes_are_distinct_no_less_than_5_pixels_wide_and_the_whole_image_is_among_them(defer_iou):
    found = selective_search(CAT, {"defer_iou": defer_iou})
    assert len(np.unique(found.boxes, axis=0)) == len(found)
    assert [0, 0, CAT.shape[1], CAT.shape[0]] in found.boxes.tolist()
    assert (found.boxes[:, 2:] - found.boxes[:, :2]).min() >= 5


def test_deferring_keeps_every_box_and_puts_near_duplicates_last():
    plain = selective_search(CAT, {"defer_iou": 1})
    deferred = selective_search(CAT, {"defer_iou": 0.75})
    assert sorted(map(tuple, plain.boxes.tolist())) == sorted(map(tuple, deferred.boxes.tolist()))
    near = near_a_better_one(plain.boxes.astype(np.int32), 0.75)
    assert near.any()
    np.testing.assert_array_equal(deferred.boxes, np.concatenate([plain.boxes[~near], plain.boxes[near]]))


def test_rank_is_chance_times_the_place_from_the_top():
    initial = np.array([[0, 0, 10, 10], [10, 0, 30, 10], [0, 10, 30, 30]], np.int32)
    merged = np.array([[0, 0, 30, 10], [0, 0, 30, 30]], np.int32)
    config = SelectiveSearchConfig(min_box_side=0, defer_iou=1)
    found = rank([[initial, merged]], config, 7, (30, 30))
    chance = np.random.default_rng(7).random(5)
    value = chance * [2, 1, 3, 3, 3]  # the first merge is second from the top; the initial regions come behind
    boxes = np.concatenate([merged, initial])[np.argsort(value)]
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_allclose(found.scores, -np.sort(value), rtol=1e-6)


def test_of_duplicates_the_better_ranked_stays():
    box = np.array([[0, 0, 30, 30]], np.int32)
    config = SelectiveSearchConfig(min_box_side=0)
    found = rank([[box, box], [box, box]], config, 3, (30, 30))
    assert len(found) == 1
    assert found.scores[0] == pytest.approx(-np.random.default_rng(3).random(4).min())


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_repeats_are_all_but_the_first_of_equal_keys(count):
    keys = np.random.default_rng(count).integers(0, 300, count) * (2**40 + 1)
    expected = np.ones(count, bool)
    expected[np.unique(keys, return_index=True)[1]] = False
    np.testing.assert_array_equal(repeats(keys), expected)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 120), threshold=st.sampled_from([0.3, 0.5, 0.75, 0.9, 0.999]))
def test_near_duplicates_equal_the_greedy_definition(seed, count, threshold):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 30, (count, 2))], axis=1).astype(np.int32)
    overlap = iou(boxes.astype(np.float64), boxes.astype(np.float64))
    near = np.zeros(count, bool)
    for i in range(count):
        near[i] = any(not near[j] and overlap[i, j] >= threshold for j in range(i))
    np.testing.assert_array_equal(near_a_better_one(boxes, threshold), near)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (9, 1, 3), (2, 2000, 3), (2000, 2, 3), (3, 3), (64, 64, 3)])
@pytest.mark.parametrize("preset", ["fast", "quality"])
def test_any_size_and_flat_images(shape, preset):
    flat = selective_search(np.full(shape, 77, np.uint8), preset)
    assert flat.boxes.tolist() == [[0, 0, shape[1], shape[0]]]
    noise = selective_search(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8), preset)
    assert [0, 0, shape[1], shape[0]] in noise.boxes.tolist()


def test_a_small_image_has_small_boxes():
    boxes = selective_search(CAT[60:124, 60:124], "fast").boxes
    assert len(boxes) > 20
    assert (boxes[:, 2:] - boxes[:, :2]).min() < 20
    assert SelectiveSearchConfig(min_box_side=20).smallest_side((64, 64)) == pytest.approx(6.4)
    assert SelectiveSearchConfig(min_box_side=20).smallest_side((375, 500)) == 20


def test_superpixel_scale_doubles_k_and_min_size_and_about_halves_the_boxes():
    assert PRESETS["googlenet"].scales() == [(100.0, 100), (200.0, 200)]
    assert 0.3 < len(selective_search(CAT, "googlenet")) / len(selective_search(CAT, "fast")) < 0.7


@pytest.mark.parametrize(
    "image",
    [
        np.repeat(NOISE[:, :, :1], 3, axis=2),
        NOISE[:, :, 0],
        NOISE[:, :, :1],
        NOISE[:, :, 0].astype(np.uint16) * 257,
        NOISE[:, :, 0] / 255.0,
        (NOISE[:, :, 0] / 255.0).astype(np.float32),
        np.asfortranarray(NOISE[:, :, 0]),
    ],
    ids=["RGB", "(H, W)", "(H, W, 1)", "uint16", "float64", "float32", "Fortran order"],
)
def test_every_kind_of_array_is_the_same_picture(image):
    assert same(selective_search(image), selective_search(np.repeat(NOISE[:, :, :1], 3, axis=2)))


def test_bool_read_only_and_strided_images():
    mask = NOISE[:, :, 0] > 128
    assert same(selective_search(mask), selective_search(mask.astype(np.uint8) * 255))
    frozen = NOISE.copy()
    frozen.flags.writeable = False
    for space in ("RGB", "I", "Lab", "rgI", "HSV", "rgb", "C", "H"):
        assert same(*(selective_search(i, {"color_spaces": [space]}) for i in (frozen, NOISE)))
    assert same(selective_search(NOISE[::2, ::-1]), selective_search(NOISE[::2, ::-1].copy()))
    np.testing.assert_array_equal(frozen, NOISE)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (NOISE.tolist(), "numpy array"),
        (np.zeros((4, 4, 4), np.uint8), "alpha"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), "shape"),
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.full((4, 4), 1.01), "convert it to uint8"),
        (np.full((4, 4), np.nan), "nan"),
        (np.full((4, 4), -0.1), "-0.1"),
        (np.zeros((4, 4), complex), "complex"),
        (np.broadcast_to(np.uint8(0), (2**15, 2**14 + 1)), "pixels"),
    ],
)
def test_what_makes_no_sense_is_one_clear_error(image, words):
    with pytest.raises(UserError, match=words) as caught:
        as_rgb(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("fastest", "single, fast, quality, googlenet"),
        ({"colour": ["RGB"]}, "colour"),
        ({"color_spaces": ["XYZ"]}, "color_spaces"),
        ({"similarities": ["CTX"]}, "CTX"),
        ({"similarities": []}, "at least one"),
        ({"k": [50, 50]}, "only once"),
        ({"k": [-1]}, "greater than 0"),
        ({"connectivity": 6}, "connectivity"),
        ({"superpixel_scale": float("nan")}, "superpixel_scale"),
    ],
)
def test_wrong_settings_name_the_setting(config, words):
    with pytest.raises(UserError, match=words):
        selective_search(NOISE, config)
    if isinstance(config, dict):
        with pytest.raises(ValidationError):
            SelectiveSearchConfig(**config)
    with pytest.raises(ValidationError):
        PRESETS["fast"].sigma = 2.0
    with pytest.raises(UserError, match="threads"):
        selective_search(NOISE, threads=0)


def test_as_a_source_it_gives_the_same():
    assert same(SelectiveSearch("googlenet", seed=3).propose(NOISE), selective_search(NOISE, "googlenet", seed=3))
    assert SelectiveSearch("googlenet").settings() != SelectiveSearch("fast").settings()


def test_a_fault_in_a_thread_reaches_the_caller():
    def fails():
        raise MemoryError("no room")

    for threads in (1, 3):
        with pytest.raises(MemoryError, match="no room"):
            run_tasks([lambda: [fails], list, list], threads)


def test_tasks_and_the_tasks_they_return_all_run():
    done = []
    run_tasks([lambda n=n: [lambda m=m, n=n: done.append((n, m)) or [] for m in range(5)] for n in range(7)], 4)
    assert sorted(done) == [(n, m) for n in range(7) for m in range(5)]


def test_the_package_gives_the_function_whatever_was_imported_first_and_costs_nothing():
    code = (
        "import sys, proposals; assert 'numba' not in sys.modules and 'numpy' not in sys.modules;"
        "import proposals.selective_search as module; from proposals import selective_search as found;"
        "assert callable(found) and callable(proposals.selective_search); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_memory_kept_for_later_searches_is_lent_once_and_bounded():
    while search_steps._kept:
        search_steps._kept.pop()
    first, second = search_steps.borrow(1000), search_steps.borrow(1000)
    assert not np.shares_memory(first, second)
    search_steps.give_back(first)
    assert search_steps.borrow(900) is first
    search_steps.give_back(first)
    small = np.empty(950, np.uint32)
    search_steps.give_back(small)
    search_steps.give_back(np.empty(5000, np.uint32))
    assert search_steps.borrow(900) is small  # the least that suffices
    shared = search_steps.Shared(960, users=2)
    assert shared.memory is first
    shared.done()
    assert search_steps.borrow(960) is not first
    shared.done()
    assert search_steps.borrow(960) is first
    for _ in range(3):
        search_steps.give_back(np.empty(search_steps.KEPT_BYTES // 8, np.uint32))
    search_steps.give_back(np.empty(search_steps.KEPT_BYTES, np.uint32))  # too large to keep
    assert sum(memory.nbytes for memory in search_steps._kept) <= search_steps.KEPT_BYTES
    while search_steps._kept:
        search_steps._kept.pop()
