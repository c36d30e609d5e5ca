"""Rows of YOLO text files: what the data file says decides which numbers are the box."""

from __future__ import annotations

import pytest

from detector.data.yolo_content import RowFormat, corners_of

BOX = [0.5, 0.5, 0.2, 0.4]
CORNERS = (0.4, 0.3, 0.6, 0.7)
QUADRILATERAL = [0.4, 0.3, 0.6, 0.4, 0.6, 0.7, 0.5, 0.6]


@pytest.mark.parametrize(
    ("values", "rows", "corners"),
    [
        pytest.param(BOX, RowFormat(), CORNERS, id="box"),
        pytest.param([*BOX, *[0.45, 0.5, 2] * 4], RowFormat("", (4, 3)), CORNERS, id="pose with visibility"),
        pytest.param([*BOX, *[0.1, 0.9] * 5], RowFormat("pose", (5, 2)), CORNERS, id="pose"),
        pytest.param(BOX, RowFormat("", (4, 3)), CORNERS, id="pose, a box alone"),
        pytest.param(QUADRILATERAL, RowFormat(), CORNERS, id="corners of an oriented box"),
        pytest.param(QUADRILATERAL, RowFormat("obb"), CORNERS, id="oriented box"),
        pytest.param([0.4, 0.7, 0.6, 0.3, 0.5, 0.5], RowFormat("segment"), CORNERS, id="polygon"),
        pytest.param(BOX, RowFormat("segment"), CORNERS, id="a box among polygons"),
        pytest.param([*BOX, 0.9], RowFormat("detect"), CORNERS, id="box and confidence"),
    ],
)
def test_which_numbers_are_the_box(values: list[float], rows: RowFormat, corners: tuple[float, ...]) -> None:
    assert corners_of(values, rows) == pytest.approx(corners)


@pytest.mark.parametrize(
    ("values", "rows", "message"),
    [
        pytest.param(BOX[:3], RowFormat(), "has 3 numbers", id="too few"),
        pytest.param([], RowFormat(), "has 0 numbers", id="none"),
        pytest.param([*BOX, 0.9], RowFormat(), "a confidence or an angle", id="six columns"),
        pytest.param([*BOX, 0.9], RowFormat("obb"), "a confidence or an angle", id="six columns of oriented boxes"),
        pytest.param([*BOX, 0.1, 0.2, 0.3], RowFormat(), "neither a box", id="odd"),
        pytest.param(
            [*BOX, *[0.45, 0.5, 2] * 4], RowFormat(), "not between 0 and 1", id="pose of which nothing is said"
        ),
        pytest.param([*BOX, *[0.45, 0.5] * 4], RowFormat("", (4, 3)), r"kpt_shape \[4, 3\] makes 16", id="other pose"),
        pytest.param([*BOX, *[0.45, 0.5] * 4], RowFormat("pose"), "no kpt_shape", id="pose without shape"),
        pytest.param(QUADRILATERAL[:6], RowFormat("obb"), "not the 8", id="three corners"),
        pytest.param([100, 200, 300, 200, 300, 400], RowFormat(), "not between 0 and 1", id="pixels"),
        pytest.param([-0.5, 0, 1, 0, 1, 1], RowFormat(), "not between 0 and 1", id="negative"),
    ],
)
def test_rows_that_fit_no_format(values: list[float], rows: RowFormat, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corners_of(values, rows)
