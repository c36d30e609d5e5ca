"""COCO JSON: files, folders, picture folders, and every kind of broken entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.data import dataset_splits, load_dataset
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


def test_boxes_area_crowds_and_images_without_objects(tmp_path: Path) -> None:
    data = content(
        entry(5, 3, [1.5, 2, 10, 20], area=99.5, iscrowd=1), entry(5, 7, [0, 0, 4, 4], ignore=1, segmentation=[])
    )
    dataset = load_dataset(put(tmp_path, data))
    assert (dataset.format, dataset.split) == ("coco", "")
    assert (dataset.class_names, dataset.class_keys) == (("cat", "dog"), (7, 3))
    assert [r.image_id for r in dataset] == ["0", "5"]
    assert len(dataset[0].ground_truth) == 0
    truth = dataset[1].ground_truth
    assert truth.boxes.tolist() == [[1.5, 2, 11.5, 22], [0, 0, 4, 4]]
    assert truth.labels.tolist() == [1, 0]
    assert truth.area.tolist() == [99.5, 16]
    assert truth.crowd.tolist() == [True, False]
    assert truth.ignore.tolist() == [False, True]
    assert dataset[1].path.is_file()
    assert dataset[1].image_size == (30, 40)
    assert not dataset.faults


@pytest.mark.parametrize(
    ("file", "pictures", "argument"),
    [
        ("annotations/instances_val2017.json", "val2017", ""),
        ("annotations/instances_val2017.json", "images/val2017", ""),
        ("annotations/all.json", "images", ""),
        ("labels.json", ".", ""),
        ("labels.json", "images", "labels.json"),
        ("annotations/instances_val2017.json", "val2017", "annotations/instances_val2017.json"),
        ("_annotations.coco.json", ".", ""),
    ],
)
def test_where_files_and_pictures_may_lie(tmp_path: Path, file: str, pictures: str, argument: str) -> None:
    put(tmp_path, content(), file, pictures)
    dataset = load_dataset(tmp_path / argument)
    assert len(dataset) == 2
    assert all(r.path.is_file() for r in dataset)


def test_splits(tmp_path: Path) -> None:
    put(tmp_path, content(entry(5, 3, [1, 1, 2, 2])))
    put(tmp_path, content(images=[{"id": 9, "file_name": "0.jpg"}]), "annotations/instances_val2017.json", "val2017")
    (tmp_path / "annotations" / "captions_val2017.json").write_text('{"images": [], "annotations": []}')
    assert dataset_splits(tmp_path) == ("train2017", "val2017")
    assert load_dataset(tmp_path).split == "train2017"
    val = load_dataset(tmp_path, "val")
    assert (val.split, list(val.image_ids)) == ("val2017", ["9"])
    assert val[0].image_size == (30, 40)  # from the picture's header
    both = load_dataset(tmp_path, "train+val")
    assert list(both.image_ids) == ["0", "5", "9"]
    assert all(r.path.is_file() for r in both)
    with pytest.raises(UserError, match="no split 'test'; it has train2017, val2017"):
        load_dataset(tmp_path, "test")


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    put(tmp_path, content(), "train/_annotations.coco.json", "train")
    put(tmp_path, content(images=[{"id": 9, "file_name": "0.jpg"}]), "valid/_annotations.coco.json", "valid")
    assert dataset_splits(tmp_path) == ("train", "valid")
    assert load_dataset(tmp_path)[0].path == tmp_path / "train" / "0.jpg"
    assert load_dataset(tmp_path, "valid")[0].path == tmp_path / "valid" / "0.jpg"


def put_splits(root: Path, *tables: list[Any]) -> Path:
    """A set of splits a, b... with these categories, each with one picture that shows its first category."""
    for split, table in zip("abc", tables, strict=False):
        images = [{"id": split, "file_name": "0.jpg", "height": 30, "width": 40}]
        data = content(entry(split, table[0]["id"], [1, 1, 5, 5]), images=images)
        put(root, {**data, "categories": table}, f"{split}/_annotations.coco.json", split)
    return root


CAT, DOG = {"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}


@pytest.mark.parametrize(
    ("tables", "names", "keys", "labels"),
    [
        pytest.param(([CAT, DOG], [DOG, CAT]), ("cat", "dog"), ((1, 2), (1, 2)), (0, 1), id="another order"),
        pytest.param(([CAT, DOG], [DOG]), ("cat", "dog"), ((1, 2), (1, 2)), (0, 1), id="fewer"),
        pytest.param(([CAT], [DOG]), ("cat", "dog"), ((1, 2), (1, 2)), (0, 1), id="none in common"),
        pytest.param(
            ([CAT, DOG], [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]),
            ("cat", "dog"),
            ((1, 2), (2, 1)),
            (0, 1),
            id="other ids: matched by name",
        ),
        pytest.param(
            ([CAT], [{"id": 1, "name": "dog"}]),
            ("cat", "dog"),
            ((1, "dog"), ("cat", 1)),
            (0, 1),
            id="one id, two names",
        ),
        pytest.param(
            ([{"id": 1, "name": "2"}, {"id": 2, "name": "1"}], [{"id": 2, "name": "1"}]),
            ("2", "1"),
            ((1, 2), (1, 2)),
            (0, 1),
            id="names that look like ids",
        ),
    ],
)
def test_a_label_means_the_same_in_every_split(
    tmp_path: Path, tables: Any, names: Any, keys: Any, labels: tuple[int, int]
) -> None:
    root = put_splits(tmp_path, *tables)
    for split, own, label in zip("ab", keys, labels, strict=True):
        dataset = load_dataset(root, split)
        assert (dataset.class_names, dataset.class_keys, dataset.labels.tolist()) == (names, own, [label])
    both = load_dataset(root, "a+b")
    assert (both.class_names, both.class_keys, both.labels.tolist()) == (names, keys[0], list(labels))
    assert not both.faults


def test_a_broken_split_blocks_no_other(tmp_path: Path) -> None:
    root = put_splits(tmp_path, [CAT], [DOG])
    (root / "b" / "_annotations.coco.json").write_text("{")
    assert load_dataset(root, "a").class_names == ("cat",)
    with pytest.raises(UserError, match="is not JSON"):
        load_dataset(root, "b")


@pytest.mark.parametrize("categories", ['"categories": [{"id": 2, "name": "dog"}]', '"a": {"categories": [3]}, {}'])
def test_categories_of_a_large_file_that_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, categories: str
) -> None:
    monkeypatch.setattr("detector.data.coco_content._SMALL", 400)
    root = put_splits(tmp_path, [CAT], [DOG])
    text = f'{{"images": [], "padding": "{"x" * 400}", ' + '"info": "\\"categories\\": [", %s}'
    plain = '"categories": [{"id": 2, "name": "dog"}]'
    (root / "b" / "_annotations.coco.json").write_text(text % categories.replace("{}", plain))
    assert load_dataset(root, "a").class_names == ("cat", "dog")


@pytest.mark.parametrize("absolute", [True, False])
def test_picture_folder_relative_or_absolute(tmp_path: Path, absolute: bool) -> None:
    put(tmp_path / "set", content(), pictures="far")
    folder = tmp_path / "set" / "far"
    if absolute:
        folder = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no folder beside it holds its images .* --images"):
        load_dataset(tmp_path / "set")
    dataset = load_dataset(tmp_path / "set", images=folder if absolute else "far")
    assert all(r.path.is_file() for r in dataset)


def test_absolute_names_are_taken_within_the_picture_folder_only(tmp_path: Path) -> None:
    images = [
        {"id": 1, "file_name": str(tmp_path / "train2017" / "0.jpg")},
        {"id": 2, "file_name": "/etc/passwd"},
        {"id": 3, "file_name": "../annotations/../../x.jpg"},
        {"id": 4, "file_name": "C:\\photos\\0.jpg"},
        {"id": 5, "file_name": "..\\x.jpg"},
        {"id": 6, "file_name": ""},
        {"id": 7, "file_name": "sub/../5.jpg"},
        {"id": 8, "file_name": "5.JPG"},
        {"id": 9},
        {"id": 10, "file_name": ["0.jpg"]},
    ]
    dataset = load_dataset(put(tmp_path, content(images=images)))
    assert list(dataset.image_ids) == ["1", "7"]
    assert list(dataset.paths) == ["0.jpg", "5.jpg"]
    # What has the name of another image's picture, but for its folders or capitals, could be meant for it or not.
    assert count_faults(dataset.faults) == {"ambiguous-image": 2, "bad-annotation": 3, "escaping-path": 3}


def test_symbolic_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "outside.png")
    root = put(tmp_path / "set", content(images=[{"id": 1, "file_name": "link.png"}, {"id": 0, "file_name": "0.jpg"}]))
    (root / "train2017" / "link.png").symlink_to(tmp_path / "outside.png")
    assert load_dataset(root)[0].image_size == (30, 40)


def test_faults_are_counted_never_raised(tmp_path: Path) -> None:
    images = [
        {"id": 0, "file_name": "0.jpg", "height": 30, "width": 40},
        {"id": 0, "file_name": "0.jpg", "height": 30, "width": 40},
        {"id": 1, "file_name": "gone.jpg"},
        {"file_name": "5.jpg"},
        "5.jpg",
        {"id": 6, "file_name": "text.jpg"},
    ]
    data = content(
        entry(0, 7, [1, 1, 5, 5], id=1),
        entry(77, 7, [1, 1, 5, 5]),
        entry([0], 7, [1, 1, 5, 5]),
        entry(0, 99, [1, 1, 5, 5]),
        entry(0, 7, [1, 1, 5]),
        entry(0, 7, None),
        {"image_id": 0, "bbox": [1, 1, 5, 5]},
        "nonsense",
        entry(0, 7, [1, "x", 5, 5]),
        entry(0, 7, [1, 1, -5, 5]),
        entry(0, 7, [1, 1, 0, 5]),
        entry(0, 7, [50, 50, 5, 5]),
        entry(0, 7, [30, 20, 50, 5], area="much"),
        entry(0, 7, [10**400, 1, 5, 5]),
        images=images,
    )
    root = put(tmp_path, data)
    (root / "train2017" / "text.jpg").write_text("no picture")
    dataset = load_dataset(root)
    assert list(dataset.image_ids) == ["0"]
    assert dataset.boxes.tolist() == [[1, 1, 6, 6], [30, 20, 40, 25]]
    assert count_faults(dataset.faults) == {
        "missing-image": 1,
        "bad-annotation": 2,
        "duplicate-image": 1,
        "orphan-box": 2,
        "bad-object": 4,
        "not-a-number": 2,
        "inverted-box": 1,
        "zero-area-box": 1,
        "outside-box": 1,
        "clipped-box": 1,
        "unknown-class": 1,
        "unreadable-image": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "is not JSON .line 1"),
        ('{"images": 3, "annotations": [], "categories": []}', "no list `images`"),
        ('["images"]', "no list `images`"),
        ('{"images": [], "annotations": {}}', "`annotations` is not a list"),
        ('{"images": [], "categories": [{"name": "x"}]}', "a category has no id"),
        ('{"images": [], "categories": [{"id": 1}, {"id": 1}]}', "id 1 stands there twice"),
        ("[" * 100_000, "not COCO's JSON|not JSON"),
        ("\xff\xfe", "not JSON"),
    ],
)
def test_broken_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_same_category_names_are_told_apart(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "bat"}, {"id": 2, "name": "bat"}, {"id": 3}]
    dataset = load_dataset(put(tmp_path, {**content(), "categories": categories}))
    assert dataset.class_names == ("bat (1)", "bat (2)", "3")


def test_wanted_classes(tmp_path: Path) -> None:
    dataset = load_dataset(put(tmp_path, content(entry(5, 3, [1, 1, 2, 2]))), classes=["dog"])
    assert (dataset.class_names, dataset.class_keys, dataset.labels.tolist()) == (("dog",), (3,), [0])


def test_agrees_with_pycocotools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    rng = np.random.default_rng(0)
    boxes = [[*rng.uniform(0, 10, 2).tolist(), *rng.uniform(1, 9, 2).tolist()] for _ in range(20)]
    data = content(*(entry((0, 5)[i % 2], (7, 3)[i % 3 == 0], b, id=i + 1, area=1.0) for i, b in enumerate(boxes)))
    root = put(tmp_path, data)
    official = COCO(str(root / "annotations" / "instances_train2017.json"))
    capsys.readouterr()
    for record in load_dataset(root):
        found = official.loadAnns(official.getAnnIds(imgIds=[int(record.image_id)]))
        xywh = np.array([a["bbox"] for a in found])
        np.testing.assert_allclose(
            record.ground_truth.boxes[:, 2:] - record.ground_truth.boxes[:, :2], xywh[:, 2:], rtol=1e-5
        )
        np.testing.assert_allclose(record.ground_truth.boxes[:, :2], xywh[:, :2], rtol=1e-6)
        assert [(7, 3)[label] for label in record.ground_truth.labels] == [a["category_id"] for a in found]
