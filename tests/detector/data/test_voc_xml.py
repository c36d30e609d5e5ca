"""What is written as VOC reads back unchanged."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.data import Dataset, load_dataset
from detector.data.builder import Builder, Classes, Object
from detector.data.voc_xml import parse_xml, voc_xml

NAMES = ("cat & <dog>", "Käse", "b")


@st.composite
def objects(draw: st.DrawFn) -> Object:
    # Parts of a pixel that VOC holds exactly. Within the image of 60 x 50, or a little beyond; never within one pixel,
    # which is a click to the reader.
    x1, y1, width, height = (
        draw(st.integers(low * 1024, high * 1024)) / 1024 for low, high in ((-1, 50), (-1, 40), (2, 9), (2, 9))
    )
    return Object(draw(st.sampled_from(NAMES)), x1, y1, x1 + width, y1 + height, draw(st.booleans()))


def build(root: Path, images: list[list[Object]]) -> Dataset:
    builder = Builder("set", "voc", root, "")
    for i, items in enumerate(images):
        Image.new("RGB", (60, 50)).save(root / f"{i}.png")
        builder.add(str(i), f"{i}.png", (50, 60), "x", items)
    return builder.build(Classes.of_names(NAMES))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(objects(), max_size=4), min_size=1, max_size=3))
def test_round_trip(images: list[list[Object]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        dataset = build(root, images)
        for record in dataset:
            record.path.with_suffix(".xml").write_bytes(voc_xml(record, NAMES))
        (root / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
        found = load_dataset(root)
        assert not dataset.faults
        assert not found.faults
        assert found.class_names == NAMES
        assert found.image_ids == dataset.image_ids
        for column in ("sizes", "offsets", "boxes", "labels", "ignore"):
            np.testing.assert_array_equal(getattr(found, column), getattr(dataset, column), err_msg=column)


def test_voc_is_the_devkits(tmp_path: Path) -> None:
    (record,) = build(tmp_path, [[Object("b", 1, 2, 11, 22, ignore=True)]])
    text = voc_xml(record, NAMES).decode()
    for part in ("<xmin>2</xmin>", "<ymin>3</ymin>", "<xmax>11</xmax>", "<ymax>22</ymax>", "<difficult>1</difficult>"):
        assert part in text
    assert "<filename>0.png</filename>" in text


@pytest.mark.parametrize("name", ["\x1b[31mred", "\ud800red", "\0red"])
def test_what_xml_cannot_hold_of_a_name(tmp_path: Path, name: str) -> None:
    (record,) = build(tmp_path, [[Object("b", 1, 2, 11, 22)]])
    (item,) = parse_xml(voc_xml(record, ("", "", name))).objects
    assert str(item.key).startswith("\ufffd")
    assert str(item.key).endswith("red")
