"""Box priors: k-means, the grids of the convolutional net, both text formats, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposals.boxes import is_valid
from proposals.errors import UserError
from proposals.priors import Priors, fit, grid_priors, read_priors, relative_boxes, write_google_priors, write_priors


def random_boxes(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 0.6, (n, 2)), rng.uniform(0.05, 0.4, (n, 2))
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def test_clusters_are_found() -> None:
    centres = np.array([[0, 0, 1, 1], [0.1, 0.1, 0.5, 0.6], [0.7, 0.6, 0.9, 0.9]], np.float32)
    rng = np.random.default_rng(1)
    boxes = np.repeat(centres, 50, axis=0) + rng.normal(0, 0.02, (150, 4)).astype(np.float32)
    priors = fit(boxes, 3, seed=4)
    np.testing.assert_allclose(priors.boxes, centres, atol=0.01)  # by descending area, as these are
    np.testing.assert_allclose(priors.deviation, 0.02, atol=0.003)


def test_each_prior_is_the_mean_of_the_boxes_nearest_to_it() -> None:
    boxes = random_boxes(300)
    priors = fit(boxes, 7)
    nearest = np.argmin(((boxes[:, None] - priors.boxes) ** 2).sum(2), axis=1)
    for k in range(7):
        np.testing.assert_allclose(priors.boxes[k], boxes[nearest == k].mean(axis=0), atol=2e-3)
    spread = np.sqrt(((boxes - priors.boxes[nearest]) ** 2).mean())
    np.testing.assert_allclose(priors.deviation, spread, rtol=1e-3)
    assert is_valid(priors.boxes).all()
    assert (np.diff(np.prod(priors.boxes[:, 2:] - priors.boxes[:, :2], axis=1)) <= 0).all()


def test_the_seed_decides() -> None:
    boxes = random_boxes(200)
    first, again, other = (fit(boxes, 20, seed=s).boxes for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_as_many_priors_as_boxes() -> None:
    boxes = random_boxes(5)
    priors = fit(np.concatenate([boxes, boxes]), 5)
    np.testing.assert_allclose(np.unique(priors.boxes, axis=0), np.unique(boxes, axis=0), atol=1e-6)
    assert (priors.deviation == np.float32(0.01)).all()  # no spread to take the unit from


@pytest.mark.parametrize(
    ("boxes", "k", "message"),
    [
        (np.zeros((0, 4)), 3, "no boxes to fit priors to"),
        (random_boxes(4), 0, "at least 1, not 0"),
        (np.repeat(random_boxes(2), 10, axis=0), 3, "3 priors cannot be fitted to 2 distinct boxes"),
        (np.array([[0, 0, 1, 1], [0, np.nan, 1, 1]]), 1, "box 2 of 2 is not finite"),
        (np.array([[0.5, 0, 0.4, 1]]), 1, "box 1 of 1 is not finite or has no area"),
    ],
)
def test_what_cannot_be_fitted(boxes: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(boxes, k)


def test_relative_boxes() -> None:
    boxes = np.array([[0, 0, 40, 30], [10, 15, 20, 30]], np.float32)
    relative = relative_boxes(boxes, [(30, 40), (60, 20)])
    np.testing.assert_allclose(relative, [[0, 0, 1, 1], [0.5, 0.25, 1, 0.5]])
    assert relative_boxes(np.zeros((0, 4)), np.zeros((0, 2))).shape == (0, 4)


def test_the_grids_have_1420_priors_inside_the_image() -> None:
    priors = grid_priors()
    assert len(priors) == 11 * (64 + 36 + 16 + 9 + 4) + 1 == 1420
    assert priors.boxes.min() >= 0
    assert priors.boxes.max() <= 1
    np.testing.assert_allclose(priors.boxes[-1], [0.025, 0.025, 0.975, 0.975], atol=1e-6)


def test_the_grids_order_is_grid_row_column_shape() -> None:
    boxes = grid_priors().boxes
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    for i in range(11):  # first cell, second cell of the first row, first cell of the second row
        np.testing.assert_allclose(centre[i], [1 / 16, 1 / 16], atol=1e-6)
        np.testing.assert_allclose(centre[11 + i], [3 / 16, 1 / 16], atol=1e-6)
        np.testing.assert_allclose(centre[88 + i], [1 / 16, 3 / 16], atol=1e-6)
    np.testing.assert_allclose(centre[11 * 64], [1 / 12, 1 / 12], atol=1e-6)
    inner = boxes[11 * (8 * 4 + 4)]  # not cut by the border: width / height is the least aspect, area the scale's
    sides = inner[2:] - inner[:2]
    np.testing.assert_allclose(sides, [0.1 * 0.5, 0.1 / 0.5], rtol=1e-4)


@pytest.mark.parametrize("write", [write_priors, write_google_priors])
@settings(max_examples=25, deadline=None)
@given(k=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_written_and_read_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, write: object, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    priors = Priors(random_boxes(k, seed), rng.uniform(1e-4, 2, (k, 4)).astype(np.float32))
    path = tmp_path_factory.mktemp("priors") / "p.txt"
    write(path, priors)  # type: ignore[operator]
    again = read_priors(path, count=k)
    np.testing.assert_array_equal(again.boxes, priors.boxes)
    np.testing.assert_array_equal(again.deviation, priors.deviation)


def test_googles_format_is_deviation_then_mean_of_each_coordinate(tmp_path: Path) -> None:
    path = tmp_path / "ipriors2.txt"
    path.write_text("0.01 0.1\n0.02 0.2\n0.03 0.5\n0.04 0.7\n" + "0.01 0.0\n0.01 0.0\n0.01 1.0\n0.01 1.0\n")
    priors = read_priors(path)
    np.testing.assert_allclose(priors.boxes, [[0.1, 0.2, 0.5, 0.7], [0, 0, 1, 1]])
    np.testing.assert_allclose(priors.deviation[0], [0.01, 0.02, 0.03, 0.04])
    write_google_priors(tmp_path / "again.txt", priors)
    assert len((tmp_path / "again.txt").read_text().splitlines()) == 8


GOOD = "0.1 0.1 0.5 0.5 0.1 0.1 0.1 0.1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no priors"),
        ("# only a comment\n", "holds no priors"),
        ("priors 2\n" + GOOD, "tells of 2 priors but 1 follow"),
        ("priors 1\n" + GOOD * 2, "tells of 1 priors but 2 follow"),
        ("priors\n" + GOOD, "tells of no number of priors"),
        ("priors 0\n", "prior 1 of 0 is missing"),
        ("priors 1\n0.1 0.1 0.5\n", "line 2 has 3 numbers, not 8"),
        ("priors 1\nx 0.1 0.5 0.5 1 1 1 1\n", "line 2 is not made of numbers"),
        ("priors 2\n" + GOOD + "0.1 nan 0.5 0.5 1 1 1 1\n", "prior 2 of 2 has a value that is not finite"),
        ("priors 2\n" + GOOD + "0.5 0.1 0.1 0.5 1 1 1 1\n", "prior 2 of 2 is inverted"),
        ("priors 1\n10 20 300 200 1 1 1 1\n", "far outside 0..1"),
        ("priors 1\n0.1 0.1 0.5 0.5 0 1 1 1\n", "deviation that is not positive"),
        ("0.01 0.1\n" * 6, "6 lines; each prior has 4"),
        ("0.01 0.1 0.2\n" * 4, "line 1 has 3 numbers, not 2"),
        ("0.01 0.1\n0.01 0.1\n0.01 inf\n0.01 0.4\n", "prior 1 of 1 has a value that is not finite"),
        ("0.01 0.5\n0.01 0.1\n0.01 0.2\n0.01 0.4\n", "prior 1 of 1 is inverted"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "priors.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_priors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_of_another_count(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such priors file"):
        read_priors(tmp_path / "nothing.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_priors(tmp_path / "binary.txt")
    write_priors(tmp_path / "p.txt", fit(random_boxes(9), 4))
    with pytest.raises(UserError, match="4 priors where 1420 are needed"):
        read_priors(tmp_path / "p.txt", count=1420)


def test_priors_are_checked_and_read_only() -> None:
    with pytest.raises(ValueError, match="prior 1 is inverted"):
        Priors(np.array([[1, 0, 0, 1]], np.float32), np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="2 boxes and 1 deviations"):
        Priors(random_boxes(2), np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="read-only"):
        fit(random_boxes(3), 2).boxes[0, 0] = 5
