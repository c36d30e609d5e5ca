"""COCO JSON as tools really write it: odd types, names of pictures on other machines, segmentations without boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detector.data import load_dataset
from detector.data.faults import count_faults
from proposals.errors import UserError

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def entry(image: Any, category: Any, box: Any, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, **more}


def content(*annotations: Any, images: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    images = images or [{"id": i, "file_name": f"{i}.jpg", "height": 30, "width": 40} for i in (0, 5)]
    return {"images": images, "annotations": list(annotations), "categories": CATEGORIES, **more}


def put(root: Path, data: Any, file: str = "annotations/instances_train2017.json", pictures: str = "train2017") -> Path:
    (root / pictures).mkdir(parents=True, exist_ok=True)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(data if isinstance(data, str) else json.dumps(data))
    for i in (0, 5):
        Image.new("RGB", (40, 30)).save(root / pictures / f"{i}.jpg")
    return root


def test_integral_floats_are_ids(tmp_path: Path) -> None:
    images = [{"id": 1.0, "file_name": "0.jpg"}, {"id": 2, "file_name": "5.jpg"}, {"id": 1.5, "file_name": "5.jpg"}]
    categories = [{"id": 3.0, "name": "cat"}, {"id": "3", "name": "dog"}]
    data = content(
        entry(1, 3, [1, 1, 5, 5]), entry(2.0, "3", [1, 1, 5, 5]), entry(True, 3, [1, 1, 5, 5]), images=images
    )
    dataset = load_dataset(put(tmp_path, {**data, "categories": categories}))
    assert (list(dataset.image_ids), dataset.class_keys, dataset.labels.tolist()) == (["1", "2"], (3, "3"), [0, 1])
    assert count_faults(dataset.faults) == {"bad-annotation": 1, "orphan-box": 1}


def test_the_box_of_a_segmentation(tmp_path: Path) -> None:
    polygon = [[1, 1, 20, 1, 20, 20, 1, 20]]
    data = content(
        {"image_id": 0, "category_id": 7, "segmentation": polygon, "area": 300},
        {"image_id": 5, "category_id": 7, "bbox": None, "segmentation": {"size": [30, 40], "counts": [31, 2, 1167]}},
        {"image_id": 5, "category_id": 7, "segmentation": "x"},
    )
    dataset = load_dataset(put(tmp_path, data))
    assert dataset.boxes.tolist() == [[1, 1, 20, 20], [1, 1, 2, 3]]
    assert dataset.area.tolist() == [300, 2]
    assert [str(f).rpartition(" [")[2] for f in dataset.faults] == ["bad-object; box left out]"]


@pytest.mark.parametrize("area", [None, "much", -1, [3], {}, True, float("nan"), 10**400])
def test_an_area_that_is_none_is_the_boxs(tmp_path: Path, area: Any) -> None:
    dataset = load_dataset(put(tmp_path, content(entry(0, 7, [1, 1, 5, 6], area=area, iscrowd="0", ignore="no"))))
    assert dataset.area.tolist() == [30]
    assert not dataset.crowd.any()
    assert not dataset.ignore.any()


@pytest.mark.parametrize(
    "box", [[0, 0, 1e20, 5], [1e300, 0, 1, 1], [0, 0, 10**400, 1], [True, 0, 1, 1], [0, 0, "1", 1]]
)
def test_boxes_that_no_picture_holds(tmp_path: Path, box: list[Any]) -> None:
    images = [{"id": 0, "file_name": "0.jpg"}]
    dataset = load_dataset(put(tmp_path, content(entry(0, 7, box), images=images)))
    assert len(dataset.boxes) == 0
    assert count_faults(dataset.faults) == {"not-a-number": 1}


@pytest.mark.parametrize("box", [[16777216, 1, 1, 5], [5, 5, 1e-9, 5]])
def test_a_box_without_area_in_single_precision(tmp_path: Path, box: list[float]) -> None:
    images = [{"id": 0, "file_name": "0.jpg", "height": 2**30, "width": 2**30}]
    dataset = load_dataset(put(tmp_path, content(entry(0, 7, box), images=images)))
    assert count_faults(dataset.faults) == {"zero-area-box": 1}


@pytest.mark.parametrize(
    "above", ["/home/me/images/", "C:\\Users\\me\\", "https://host/x/", "../", "photos/", "/data/local-files/?d=x/"]
)
@pytest.mark.parametrize("argument", [None, "images"])
def test_pictures_of_another_machine(tmp_path: Path, above: str, argument: str | None) -> None:
    images = [{"id": i, "file_name": f"{above}{i}.jpg", "height": 30, "width": 40} for i in (0, 5)]
    root = put(tmp_path, content(entry(5, 7, [1, 1, 5, 5]), images=images), "x.json", "images")
    dataset = load_dataset(root, images=argument)
    assert list(dataset.paths) == ["0.jpg", "5.jpg"]
    assert not dataset.faults


def test_names_with_folders_of_which_one_is_given(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"far/{i}.jpg"} for i in (0, 5)]
    root = put(tmp_path, content(images=images), "x.json", "far")
    for argument in (None, ".", "far"):
        dataset = load_dataset(root, images=argument)
        assert [record.path.is_file() for record in dataset] == [True, True]
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"other holds none of its images \(far/0\.jpg\.\.\.\)"):
        load_dataset(root, images="other")


def test_a_part_of_the_pictures(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(-800, 6)]
    dataset = load_dataset(put(tmp_path, content(images=images), "x.json", "images"))
    assert list(dataset.image_ids) == ["0", "5"]
    assert count_faults(dataset.faults) == {"missing-image": 804}


def test_files_that_count_their_images_anew(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        put(tmp_path, content(entry(5, 3, [1, 1, 2, 2])), f"{split}/_annotations.coco.json", split)
    both = load_dataset(tmp_path, "train+valid")
    assert list(both.image_ids) == ["0", "5", "valid/0", "valid/5"]
    assert [str(both.path(i).relative_to(tmp_path)) for i in (1, 3)] == ["train/5.jpg", "valid/5.jpg"]
    assert not both.faults


@pytest.mark.parametrize("name", ["", " ", None, ["cat"], {}])
def test_a_category_without_a_name_is_called_by_its_id(tmp_path: Path, name: Any) -> None:
    categories = [{"id": 7, "name": name}, {"id": 3, "name": "dog\n"}, {"id": 5, "name": "7"}]
    dataset = load_dataset(put(tmp_path, {**content(), "categories": categories}))
    assert dataset.class_names == ("7 (7)", "dog", "7 (5)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"images": [{{"id": {"9" * 5000}}}]}}', "a number in it has thousands of digits"),
        ('{"images": [], "categories": [{"id": [1]}]}', "a category has no id"),
        ('{"images": [], "categories": [3]}', "a category has no id"),
        ('{"images": [], "categories": [{"id": 1}, {"id": 1.0}]}', "id 1 stands there twice"),
        ('{"images": [], "annotations": null}', "`annotations` is not a list"),
        ('{"images": [{"id": 1, "file_name": "a\\nb.jpg"}]}', "its images"),
    ],
)
def test_odd_types_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(path)
    assert str(caught.value).isprintable()


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    images = [{"id": "\ud800", "file_name": "0.jpg"}, {"id": 5, "file_name": "\udce9.jpg"}]
    data = content(entry("\ud800", 1, [1, 1, 5, 5]), images=images)
    dataset = load_dataset(put(tmp_path, {**data, "categories": [{"id": 1, "name": "k\ud800"}]}))
    assert (list(dataset.image_ids), dataset.class_names) == (["\ud800"], ("k?",))
    assert all(str(fault).isprintable() for fault in dataset.faults)
    assert count_faults(dataset.faults) == {"missing-image": 1}
