"""Pictures with boxes: right places, right colours, never outside, never failing."""

from __future__ import annotations

import numpy as np
import pytest
from boxes import found_of, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.report.drawing import draw_detections, draw_proposals, draw_sheet, draw_truth, take_turns
from detector.report.palette import (
    HUES,
    INK,
    SOURCE_COLOURS,
    WHITE,
    class_colour,
    contrast,
    hex_colour,
    ink_on,
)
from detector.report.text import drawable, fit, font_for, width_of
from detector.types import Detections
from proposals.types import Proposals, Source

NAMES = ["cat", "dog", "Ünïcödé кот", "コーヒー", "a very long name " * 20, "", "new\nline\t", "<script>"]


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def same_colour(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.all(pixels == np.array(colour, np.uint8), axis=-1)


def test_box_is_drawn_where_it_is_and_the_input_is_not_changed() -> None:
    image = grey(400, 400)
    drawn = draw_detections(image, found_of([100, 120, 300, 320], labels=1), NAMES)
    assert (image == 128).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    colour = same_colour(drawn, class_colour(1))
    for y, x in [(319, 200), (200, 100), (200, 299)]:  # the upper edge may lie under the name
        assert colour[y - 2 : y + 3, x - 2 : x + 3].any(), f"no edge at {x}, {y}"
    assert (drawn[150:300, 130:270] == 128).all(), "nothing inside"
    assert (drawn[340:, :] == 128).all(), "nothing below"
    assert (drawn[:, 320:] == 128).all(), "nothing beside"


@pytest.mark.parametrize("background", [0, 128, 255])
def test_edges_show_on_any_background(background: int) -> None:
    image = np.full((200, 200, 3), background, np.uint8)
    for label in range(len(HUES)):
        drawn = draw_detections(image, found_of([50, 50, 150, 150], labels=label), NAMES * 2)
        row = drawn[100].astype(int)
        near = {tuple(p) for p in row[44:56].tolist()} - {(background,) * 3}
        assert max(contrast(p, (background,) * 3) for p in near) > 1.5


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (8, 8), (43, 64), (333, 500), (2000, 3000)])
def test_any_size_is_drawn_and_keeps_its_size(size: tuple[int, int]) -> None:
    height, width = size
    boxes = [[0, 0, width, height], [width * 0.2, height * 0.2, width * 0.6, height * 0.9], [-9, -9, 2, 2]]
    drawn = draw_detections(grey(height, width), found_of(boxes, labels=[0, 4, 7], size=size), NAMES)
    assert drawn.shape == (height, width, 3)
    assert not (drawn == 128).all()


def test_lines_and_names_grow_with_the_picture() -> None:
    shares = []
    for side in (800, 2400):
        box = [side * 0.25, side * 0.25, side * 0.75, side * 0.75]
        drawn = draw_detections(grey(side, side), found_of(box, size=(side, side)), ["cat"])
        shares.append(np.mean(np.any(drawn != 128, axis=-1)))
    assert shares[0] == pytest.approx(shares[1], rel=0.1)


def test_small_picture_can_be_enlarged_so_that_the_name_can_be_read() -> None:
    small = found_of([10, 10, 40, 30], size=(40, 60))
    assert draw_detections(grey(40, 60), small, NAMES, min_side=600).shape == (400, 600, 3)
    assert draw_detections(grey(40, 60), small, NAMES, min_side=50).shape == (40, 60, 3)
    # 128 grey stays grey when enlarged, so all that differs is the box and its name, around the enlarged place.
    drawn = draw_detections(grey(40, 60), small, NAMES, min_side=600)
    rows, columns = np.nonzero(np.any(drawn != 128, axis=-1))
    assert abs(columns.min() - 100) < 8
    assert abs(rows.max() - 300) < 8


def test_best_detection_lies_on_top() -> None:
    twice = [[50, 50, 150, 150]] * 2
    drawn = draw_detections(grey(200, 200), found_of(twice, [0.2, 0.9], [0, 1]), NAMES)
    right_edge = drawn[70:130, 146:154]
    assert same_colour(right_edge, class_colour(1)).any()
    assert not same_colour(right_edge, class_colour(0)).any()


def test_threshold_leaves_detections_out() -> None:
    found = found_of([10, 10, 90, 90], 0.3)
    assert (draw_detections(grey(100, 100), found, NAMES, score_threshold=0.5) == 128).all()
    assert (draw_detections(grey(100, 100), Detections.empty((100, 100)), NAMES) == 128).all()


def test_name_plates_do_not_hide_one_another() -> None:
    """Three boxes at one place: of each name, the plate is as large as that of a box alone."""
    three = found_of([[60, 200, 300, 360]] * 3, labels=[0, 1, 2])
    names = ["first", "second", "third"]

    def plate(found: Detections, label: int) -> int:
        """Pixels of the class's colour that the names add to the boxes."""
        colour = class_colour(label)
        with_names = draw_detections(grey(400, 400), found, names)
        return int(same_colour(with_names, colour).sum()) - int(
            same_colour(draw_detections(grey(400, 400), found, [""] * 3), colour).sum()
        )

    for label in range(3):
        assert plate(three, label) > 0.9 * plate(three.select(slice(label, label + 1)), label) > 500


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 120), st.integers(1, 160)),
    st.lists(st.tuples(*[st.floats(-300, 300, width=32)] * 4), max_size=4),
    st.text(max_size=30),
)
def test_any_box_and_any_name_is_drawn(size: tuple[int, int], boxes: list[tuple[float, ...]], name: str) -> None:
    found = found_of(boxes, size=size)
    assert draw_detections(grey(*size), found, [name]).shape == (*size, 3)
    assert draw_truth(grey(*size), truth_of(found.boxes), [name]).shape == (*size, 3)


def test_ignored_truth_is_dashed_and_nan_is_left_out() -> None:
    def left_edge(ignore: list[bool]) -> np.ndarray:
        truth = truth_of([[20, 20, 180, 180], [np.nan] * 4], ignore=ignore)
        drawn = draw_truth(grey(200, 200), truth, [""])
        return same_colour(drawn[:, 19:22], class_colour(0)).any(axis=1)[30:170]

    assert np.count_nonzero(np.diff(left_edge([True, False]).astype(int))) > 10
    assert left_edge([False, False]).all()


def test_proposals_have_the_colour_of_their_source_and_are_counted_in_the_lower_corner() -> None:
    boxes = np.array([[20, 20, 100, 100], [120, 120, 180, 180]], np.float32)
    codes = np.array([Source.SELECTIVE_SEARCH, Source.MULTIBOX], np.uint8)
    drawn = draw_proposals(grey(400, 400), Proposals(boxes, np.ones(2, np.float32), codes, (400, 400)))
    for box, code in zip(boxes.astype(int), codes, strict=True):
        pixel = drawn[(box[1] + box[3]) // 2, box[0] - 1 : box[0] + 2].astype(int)
        wanted = np.array(SOURCE_COLOURS[Source(code)])
        nearest = pixel[np.argmax(np.abs(pixel - 128).sum(axis=1))]
        assert np.abs(nearest - wanted).max() < 0.35 * np.abs(wanted - 128).max()
        assert same_colour(drawn[300:], SOURCE_COLOURS[Source(code)]).sum() > 500, "a plate"
    assert (drawn[185:300] == 128).all()
    assert (draw_proposals(grey(9, 9), Proposals.empty((9, 9))) == 128).all()


def test_limit_lets_the_sources_take_turns() -> None:
    source = np.array([1, 1, 1, 1, 2, 2], np.uint8)
    assert take_turns(source, 4).tolist() == [0, 4, 1, 5]
    assert take_turns(source, 5).tolist() == [0, 4, 1, 5, 2]
    assert sorted(take_turns(source, None).tolist()) == list(range(6))
    assert take_turns(np.zeros(0, np.uint8), 3).tolist() == []


def test_sheet_holds_every_picture() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    pictures = [
        np.full((h, w, 3), c, np.uint8) for (h, w), c in zip([(20, 40), (90, 30), (1, 1)], colours, strict=True)
    ]
    sheet = draw_sheet(pictures, ["wide", "tall " * 40, ""], columns=2, cell=100)
    assert sheet.shape[1] < 2 * 130
    for colour in colours:
        assert np.count_nonzero(same_colour(sheet, colour)) >= 100 * 30
    assert draw_sheet(pictures, columns=9, cell=100).shape[1] < 3 * 130, "never wider than the pictures need"


def test_sheet_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw_sheet([])
    with pytest.raises(ValueError, match="2 pictures but 1 captions"):
        draw_sheet([grey(2, 2)] * 2, ["one"])


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)]
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        draw_detections(image, Detections.empty((4, 4)), NAMES)


def test_letters_that_no_font_has_become_squares_or_a_number() -> None:
    assert drawable("plain") == "plain"
    assert drawable("кот") == "кот"
    assert drawable("コ", instead="class 3") == "class 3"
    assert drawable("コ cat", instead="class 3") == "□ cat"
    assert drawable("a\nb\x00c") == "a b c"


@given(st.text(max_size=60), st.integers(0, 200))
def test_text_fits_its_room(text: str, room: int) -> None:
    shown = fit(drawable(text), 14, room)
    assert width_of(shown, 14) <= room or shown == ""
    assert font_for(shown, 14) is font_for(shown, 14), "fonts are made once"


def test_names_read_on_every_plate() -> None:
    for label in range(3 * len(HUES)):
        assert contrast(ink_on(class_colour(label)), class_colour(label)) >= 4.5, "WCAG AA"
    assert contrast(WHITE, INK) > 15
    assert hex_colour((0, 114, 178)) == "#0072b2"


def test_hues_differ_for_the_colour_blind() -> None:
    """Seen without red cones, and without green ones (Viénot, Brettel and Mollon 1999), no two hues fall together."""
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    protan = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    deutan = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    hues = np.array(HUES) / 255
    for defect in (protan, deutan):
        seen = hues**2.2 @ to_lms.T @ defect.T @ np.linalg.inv(to_lms).T
        gaps = np.abs(seen[:, None] - seen[None]).max(axis=-1) + np.eye(len(hues))
        assert gaps.min() > 0.05


def test_drawing_in_place() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    found = found_of([[10, 20, 120, 150], [40, 30, 290, 190]], labels=[0, 1], size=(200, 300))
    expected = draw_detections(image, found, ("cat", "dog"))
    assert not np.array_equal(expected, image)
    assert draw_detections(image, found, ("cat", "dog"), in_place=True) is image
    np.testing.assert_array_equal(image, expected)
