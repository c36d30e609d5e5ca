"""What stands in YOLO's files: names are text, places may be missing, and which numbers of a row are the box."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.data.yolo_content import RowFormat, corners_of, read_class_file, read_data_file
from proposals.errors import UserError


def write(root: Path, text: str, name: str = "data.yaml") -> Path:
    (root / name).write_text(text)
    return root / name


@pytest.mark.parametrize(
    ("names", "keys", "found"),
    [
        ("[cat, dog]", (0, 1), ("cat", "dog")),
        ("{'0': cat, '1': dog}", (0, 1), ("cat", "dog")),
        ("{1: dog, 0: cat}", (0, 1), ("cat", "dog")),
        ("{3: cat}", (3,), ("cat",)),
        ("[yes, no, on, null, ~, 1e3, 010, 1.0, 2020-01-01, 12:30:00, .inf]", None, None),
        ("['', cat, \"dog\\n\"]", (0, 1, 2), ("0", "cat", "dog")),
        ("[2023-13-45]", (0,), ("2023-13-45",)),
        (f"[{'9' * 5000}]", (0,), ("9" * 5000,)),
    ],
)
def test_names_are_text(tmp_path: Path, names: str, keys: object, found: object) -> None:
    classes = read_data_file(write(tmp_path, f"train: images\ndate: 2023-13-45\nnames: {names}\n")).classes
    if found is None:
        found = tuple(names[1:-1].split(", "))
        keys = tuple(range(len(found)))
    assert (classes.keys, classes.names) == (keys, found)


BROKEN = {
    "the name of class 0 is not text": ("names: [[cat], dog]", "names: {0: {a: b}}"),
    "has no `names`": ("names: {cat: 0}", "names: {0: a, 00: b}", "names: cat", f"names:\n  ? {'9' * 5000}\n  : cat"),
    "the key '0' stands twice": ("names: {0: a, 0: b}",),
    "not valid YAML": ("? [a]\n: b\nnames: [cat]", 'names: ["\\UFFFFFFFF"]'),
    "`kpt_shape` is not": tuple(f"names: [cat]\nkpt_shape: {shape}" for shape in ("[x, 3]", "17", "[0, 3]", "[4, 9]")),
    "`task` is not one of detect, segment, pose, obb": ("names: [cat]\ntask: dance", "names: [cat]\ntask: [detect]"),
    "`path` is not the name of a folder": ("names: [cat]\npath: [a]",),
    "`val` is not the name of a folder": ("names: [cat]\nval: {a: b}", "names: [cat]\nval: [[a]]"),
    "an alias stands for itself|not valid YAML": ("a: &a [*a]\nnames: [cat]",),
    "nested too deep": ("a: " + "[" * 600,),
}


@pytest.mark.parametrize(("text", "message"), [(text, message) for message, texts in BROKEN.items() for text in texts])
def test_one_line_for_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_data_file(write(tmp_path, f"train: images\n{text}\n"))
    assert str(caught.value).startswith(str(tmp_path / "data.yaml"))
    assert "\n" not in str(caught.value)


def test_aliases_of_aliases_are_refused_at_once(tmp_path: Path) -> None:
    levels = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else 'lol'] * 10)}]" for i in range(12)]
    with pytest.raises(UserError, match="aliases expand to too much"):
        read_data_file(write(tmp_path, "\n".join(["train: images", *levels, "names: [*x11]"])))


def test_few_aliases_are_no_harm(tmp_path: Path) -> None:
    data = read_data_file(write(tmp_path, "train: &where images\nval: *where\nnames: &names [cat]\nothers: *names\n"))
    assert data.places == {"train": ("images",), "val": ("images",)}


def test_what_is_left_empty_is_not_said(tmp_path: Path) -> None:
    data = read_data_file(write(tmp_path, "path:\ntrain: a\nval: null\ntest: # later\nkpt_shape: []\nnames: [cat]\n"))
    assert (data.base, list(data.places), data.rows.keypoints) == (tmp_path, ["train"], (0, 0))


def test_a_line_of_a_class_file_is_a_number_in_the_rows(tmp_path: Path) -> None:
    classes = read_class_file(write(tmp_path, "cat\n\ndog \r\n\n", "classes.txt"))
    assert (classes.keys, classes.names) == ((0, 1, 2), ("cat", "1", "dog"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names = obj.names\n", "names no train, valid or test list"),
        ("train = data/train.txt\nnames = data/none.names\n", "none.names, does not exist"),
        ("train = data/train.txt\n", "`names`, does not exist"),
    ],
)
def test_broken_darknet_files(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, "cat\n", "obj.names")
    with pytest.raises(UserError, match=message):
        read_data_file(write(tmp_path, text, "obj.data"))


# --- rows -------------------------------------------------------------------------------------------------------------

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
