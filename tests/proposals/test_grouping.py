"""Grouping against a plain reference: similarities and merges straight from the paper's formulas."""

import numpy as np
import pytest

from proposals.colors import to_planes
from proposals.grouping import group
from proposals.regions import Regions, describe, texture_bins
from proposals.superpixels import segment


def similarity(a, b, measures, area):
    """Of two regions, each (size, box, colour, texture)."""
    both = a[0] + b[0]
    x1, y1 = np.minimum(a[1][:2], b[1][:2])
    x2, y2 = np.maximum(a[1][2:], b[1][2:])
    values = {
        "C": np.minimum(a[2], b[2]).sum(),
        "T": np.minimum(a[3], b[3]).sum(),
        "S": 1 - both / area,
        "F": 1 - (int(x2 - x1) * int(y2 - y1) - both) / area,
    }
    return sum(values[letter] for letter in measures)


def reference_group(regions, measures, area):
    """Boxes of the merges, and the least lead that a chosen pair had over the next best one."""
    found = {
        n: (int(regions.sizes[n]), regions.boxes[n], regions.color[n].astype(float), regions.texture[n].astype(float))
        for n in range(len(regions.sizes))
    }
    links = {frozenset(pair) for pair in regions.pairs.tolist()}
    boxes, lead, number = [], np.inf, len(found)
    while links:
        ranked = sorted(
            ((similarity(*(found[n] for n in link), measures, area), link) for link in links), key=lambda s: s[0]
        )
        if len(ranked) > 1:
            lead = min(lead, ranked[-1][0] - ranked[-2][0])
        i, j = ranked[-1][1]
        a, b = found.pop(i), found.pop(j)
        size = a[0] + b[0]
        box = np.concatenate([np.minimum(a[1][:2], b[1][:2]), np.maximum(a[1][2:], b[1][2:])])
        found[number] = (size, box, *((a[0] * a[n] + b[0] * b[n]) / size for n in (2, 3)))
        boxes.append(box)
        links = {frozenset(number if n in (i, j) else n for n in link) for link in links if link != frozenset((i, j))}
        number += 1
    return np.array(boxes), lead


@pytest.mark.parametrize("measures", ["C", "T", "S", "F", "CT", "SF", "TSF", "CTSF"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_grouping_equals_the_plain_reference(measures, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 9, 3))
    image = np.clip(np.kron(coarse, np.ones((9, 8, 1))) + rng.normal(0, 12, (63, 72, 3)), 0, 255).astype(np.uint8)
    planes = to_planes(image, "Lab")
    (labels,) = segment(planes, [(40.0 + 13 * seed, 20)])
    regions = describe(planes, texture_bins(planes), labels)
    assert len(regions.sizes) > 10
    expected, lead = reference_group(regions, measures, labels.size)
    if lead < 1e-6:
        # Two pairs are equally similar, so the order is free; the set of sizes of a tree is not enough to compare.
        assert len(group(regions, measures, labels.size)) == len(expected)
    else:
        np.testing.assert_array_equal(group(regions, measures, labels.size), expected)


def test_most_of_those_cases_had_no_ties():
    """Otherwise the test above would be empty: texture and colour make ties rare."""
    planes = to_planes(np.random.default_rng(5).integers(0, 256, (40, 40, 3), dtype=np.uint8), "RGB")
    (labels,) = segment(planes, [(50.0, 40)])
    regions = describe(planes, texture_bins(planes), labels)
    expected, lead = reference_group(regions, "CTSF", labels.size)
    assert lead > 1e-6
    np.testing.assert_array_equal(group(regions, "CTSF", labels.size), expected)


def plain_regions(sizes, boxes, pairs, color):
    n = len(sizes)
    return Regions(
        np.array(sizes, np.int32),
        np.array(boxes, np.int32).reshape(n, 4),
        np.array(pairs, np.int32).reshape(-1, 2),
        np.array(color, np.float32).reshape(n, -1),
        np.zeros((n, 80), np.float32),
    )


def test_one_region_has_no_merges():
    assert group(plain_regions([4], [0, 0, 2, 2], [], [1.0]), "CTSF", 4).shape == (0, 4)


def test_of_equal_pairs_the_first_neighbours_merge_first():
    boxes = [[0, 0, 1, 1], [1, 0, 2, 1], [2, 0, 3, 1]]
    merged = group(plain_regions([1, 1, 1], boxes, [[0, 1], [1, 2]], [1.0, 1.0, 1.0]), "CS", 3)
    assert merged.tolist() == [[0, 0, 2, 1], [0, 0, 3, 1]]


@pytest.mark.slow
def test_a_region_with_very_many_neighbours_needs_no_fixed_room():
    """A comb: the back touches every tooth, so lists and heap must grow."""
    n = 3000
    pairs = [[0, i] for i in range(1, n)]
    boxes = [[0, 0, n, 1]] + [[i, 1, i + 1, 2] for i in range(1, n)]
    color = np.random.default_rng(0).random((n, 4)).astype(np.float32)
    merged = group(plain_regions([n] + [1] * (n - 1), boxes, pairs, color), "CS", 2 * n)
    assert len(merged) == n - 1
    assert merged[-1].tolist() == [0, 0, n, 2]
