"""What is written as VOC or COCO reads back unchanged."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.data import Dataset, load_dataset
from detector.data.builder import Builder, Classes, Object
from detector.data.write import coco_content, write_coco, write_voc
from proposals.errors import UserError


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


NAMES = ("cat & <dog>", "Käse", "b")
KEYS = (5, 2, 90)
PICTURE = encoded(Image.new("RGB", (60, 50)))


@st.composite
def objects(draw: st.DrawFn) -> Object:
    # Parts of a pixel that all formats hold exactly. Within the picture of 60 x 50, or a little beyond; never within
    # one pixel, which is a click to the VOC reader.
    x1, y1, width, height = (
        draw(st.integers(low * 1024, high * 1024)) / 1024 for low, high in ((-1, 50), (-1, 40), (2, 9), (2, 9))
    )
    area = draw(st.one_of(st.just(float("nan")), st.floats(0, 1e6)))
    key = draw(st.sampled_from(KEYS))
    return Object(key, x1, y1, x1 + width, y1 + height, draw(st.booleans()), draw(st.booleans()), area)


def build(root: Path, images: list[list[Object]]) -> Dataset:
    builder = Builder("set", "coco", root, "")
    for i, items in enumerate(images):
        (root / f"{i}.png").write_bytes(PICTURE)
        builder.add(str(i), f"{i}.png", (50, 60), "x", items)
    return builder.build(Classes(KEYS, NAMES))


def assert_same(found: Dataset, expected: Dataset, *columns: str) -> None:
    assert not found.faults
    assert found.class_names == expected.class_names
    assert list(found.image_ids) == list(expected.image_ids)
    for column in ("sizes", "offsets", "boxes", "labels", *columns):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), err_msg=column)
    for record in found:
        assert record.path.is_file()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(objects(), max_size=4), min_size=1, max_size=3))
def test_round_trips(images: list[list[Object]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        dataset = build(root, images)
        assert not dataset.faults
        write_voc(dataset, root / "voc")
        assert_same(load_dataset(root / "voc"), dataset, "ignore")
        write_coco(dataset, root / "labels" / "all.json")
        again = load_dataset(root / "labels" / "all.json", images=root)
        assert_same(again, dataset, "ignore", "crowd", "area")
        assert again.class_keys == dataset.class_keys


def one(root: Path) -> Dataset:
    return build(root, [[Object(2, 1, 2, 11, 22, ignore=True)]])


def test_voc_is_the_devkits(tmp_path: Path) -> None:
    write_voc(one(tmp_path), tmp_path / "voc")
    text = (tmp_path / "voc" / "Annotations" / "0.xml").read_text(encoding="utf-8")
    for part in ("<xmin>2</xmin>", "<ymin>3</ymin>", "<xmax>11</xmax>", "<ymax>22</ymax>", "<difficult>1</difficult>"):
        assert part in text
    assert (tmp_path / "voc" / "ImageSets" / "Main" / "all.txt").read_text() == "0\n"
    assert (tmp_path / "voc" / "JPEGImages" / "0.png").read_bytes() == (tmp_path / "0.png").read_bytes()


def test_coco_ids_count_from_one_where_the_source_has_none(tmp_path: Path) -> None:
    builder = Builder("set", "voc", tmp_path, "")
    builder.add("b01", "x.png", (5, 5), "x", [Object("cat", 0, 0, 2, 2)])
    content = coco_content(builder.build(Classes.of_names(["dog", "cat"])))
    assert [image["id"] for image in content["images"]] == [1]
    assert content["annotations"][0]["category_id"] == 2
    assert content["annotations"][0]["id"] == 1


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    dataset = one(tmp_path)
    with pytest.raises(UserError, match="is there already"):
        write_voc(dataset, tmp_path)
    path = tmp_path / "a.json"
    path.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        write_coco(dataset, path)
    assert path.read_text() == "mine"


def test_missing_picture_is_one_line(tmp_path: Path) -> None:
    dataset = one(tmp_path)
    (tmp_path / "0.png").unlink()
    with pytest.raises(UserError, match=r"0\.png cannot be copied"):
        write_voc(dataset, tmp_path / "voc")
    write_voc(dataset, tmp_path / "voc2", copy_images=False)
    assert (tmp_path / "voc2" / "Annotations" / "0.xml").is_file()


def test_coco_file_is_plain_json(tmp_path: Path) -> None:
    write_coco(one(tmp_path), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["annotations"] == [
        {
            "id": 1, "image_id": 0, "category_id": 2, "bbox": [1.0, 2.0, 10.0, 20.0], "area": 200.0, "iscrowd": 0,
            "ignore": 1,
        }
    ]  # fmt: skip
