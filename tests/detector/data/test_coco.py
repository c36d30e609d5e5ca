"""COCO JSON: files, folders, picture folders, every kind of broken entry, and what tools really write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference
from small_sets import put

from detector.data import Dataset, dataset_splits, load_dataset
from detector.data.coco_content import box_of_segmentation
from detector.data.faults import count_faults
from proposals.errors import UserError

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def entry(image: Any, category: Any, box: Any, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, **more}


def content(*annotations: Any, images: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    images = images or [{"id": i, "file_name": f"{i}.jpg", "height": 30, "width": 40} for i in (0, 5)]
    return {"images": images, "annotations": list(annotations), "categories": CATEGORIES, **more}


def save(
    root: Path, data: Any, file: str = "annotations/instances_train2017.json", pictures: str = "train2017"
) -> Path:
    return put(root, {file: json.dumps(data), **{f"{pictures}/{i}.jpg": (40, 30) for i in (0, 5)}})


def kinds(dataset: Dataset) -> dict[str, int]:
    return count_faults(dataset.faults)


def test_boxes_area_crowds_and_images_without_objects(tmp_path: Path) -> None:
    data = content(
        entry(5, 3, [1.5, 2, 10, 20], area=99.5, iscrowd=1), entry(5, 7, [0, 0, 4, 4], ignore=1, segmentation=[])
    )
    dataset = load_dataset(save(tmp_path, data))
    assert (dataset.format, dataset.split) == ("coco", "")
    assert (dataset.class_names, dataset.class_keys) == (("cat", "dog"), (7, 3))
    assert [r.image_id for r in dataset] == ["0", "5"]
    assert len(dataset[0].ground_truth) == 0
    assert dataset.boxes.tolist() == [[1.5, 2, 11.5, 22], [0, 0, 4, 4]]
    assert (dataset.labels.tolist(), dataset.area.tolist()) == ([1, 0], [99.5, 16])
    assert (dataset.crowd.tolist(), dataset.ignore.tolist()) == ([True, False], [False, True])
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
    save(tmp_path, content(), file, pictures)
    dataset = load_dataset(tmp_path / argument)
    assert len(dataset) == 2
    assert all(r.path.is_file() for r in dataset)


def test_splits(tmp_path: Path) -> None:
    save(tmp_path, content(entry(5, 3, [1, 1, 2, 2])))
    save(tmp_path, content(images=[{"id": 9, "file_name": "0.jpg"}]), "annotations/instances_val2017.json", "val2017")
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


def test_a_folder_for_each_split_whose_file_counts_its_images_anew(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        save(tmp_path, content(entry(5, 3, [1, 1, 2, 2])), f"{split}/_annotations.coco.json", split)
    assert dataset_splits(tmp_path) == ("train", "valid")
    for split in ("train", "valid"):
        assert load_dataset(tmp_path, split)[0].path == tmp_path / split / "0.jpg"
    both = load_dataset(tmp_path, "train+valid")
    assert list(both.image_ids) == ["0", "5", "valid/0", "valid/5"]
    assert list(both.paths) == ["train/0.jpg", "train/5.jpg", "valid/0.jpg", "valid/5.jpg"]
    assert not both.faults


def put_splits(root: Path, *tables: list[Any]) -> Path:
    """A set of splits a, b... with these categories, each with one picture that shows its first category."""
    for split, table in zip("abc", tables, strict=False):
        images = [{"id": split, "file_name": "0.jpg", "height": 30, "width": 40}]
        data = content(entry(split, table[0]["id"], [1, 1, 5, 5]), images=images)
        save(root, {**data, "categories": table}, f"{split}/_annotations.coco.json", split)
    return root


CAT, DOG = {"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}
ONE, TWO = {"id": 1, "name": "2"}, {"id": 2, "name": "1"}


@pytest.mark.parametrize(
    ("tables", "names", "keys"),
    [
        pytest.param(([CAT, DOG], [DOG, CAT]), ("cat", "dog"), ((1, 2), (1, 2)), id="another order"),
        pytest.param(([CAT, DOG], [DOG]), ("cat", "dog"), ((1, 2), (1, 2)), id="fewer"),
        pytest.param(([CAT], [DOG]), ("cat", "dog"), ((1, 2), (1, 2)), id="none in common"),
        pytest.param(
            ([CAT, DOG], [DOG | {"id": 1}, CAT | {"id": 2}]), ("cat", "dog"), ((1, 2), (2, 1)), id="other ids"
        ),
        pytest.param(([CAT], [DOG | {"id": 1}]), ("cat", "dog"), ((1, "dog"), ("cat", 1)), id="one id, two names"),
        pytest.param(([ONE, TWO], [TWO]), ("2", "1"), ((1, 2), (1, 2)), id="names that look like ids"),
    ],
)
def test_a_label_means_the_same_in_every_split(tmp_path: Path, tables: Any, names: Any, keys: Any) -> None:
    root = put_splits(tmp_path, *tables)
    for split, own, label in zip("ab", keys, (0, 1), strict=True):
        dataset = load_dataset(root, split)
        assert (dataset.class_names, dataset.class_keys, dataset.labels.tolist()) == (names, own, [label])
    both = load_dataset(root, "a+b")
    assert (both.class_names, both.class_keys, both.labels.tolist()) == (names, keys[0], [0, 1])
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
    save(tmp_path / "set", content(), pictures="far")
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
    dataset = load_dataset(save(tmp_path, content(images=images)))
    assert list(dataset.image_ids) == ["1", "7"]
    assert list(dataset.paths) == ["0.jpg", "5.jpg"]
    # What has the name of another image's picture, but for its folders or capitals, could be meant for it or not.
    assert kinds(dataset) == {"ambiguous-image": 2, "bad-annotation": 3, "escaping-path": 3}


def test_symbolic_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "outside.png")
    root = save(tmp_path / "set", content(images=[{"id": 1, "file_name": "link.png"}, {"id": 0, "file_name": "0.jpg"}]))
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
    root = save(tmp_path, data)
    (root / "train2017" / "text.jpg").write_text("no picture")
    dataset = load_dataset(root)
    assert list(dataset.image_ids) == ["0"]
    assert dataset.boxes.tolist() == [[1, 1, 6, 6], [30, 20, 40, 25]]
    assert kinds(dataset) == {
        "missing-image": 1, "bad-annotation": 2, "duplicate-image": 1, "orphan-box": 2, "bad-object": 4,
        "not-a-number": 2, "inverted-box": 1, "zero-area-box": 1, "outside-box": 1, "clipped-box": 1,
        "unknown-class": 1, "unreadable-image": 1,
    }  # fmt: skip


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
        (f'{{"images": [{{"id": {"9" * 5000}}}]}}', "a number in it has thousands of digits"),
        ('{"images": [], "categories": [{"id": [1]}]}', "a category has no id"),
        ('{"images": [], "categories": [3]}', "a category has no id"),
        ('{"images": [], "categories": [{"id": 1}, {"id": 1.0}]}', "id 1 stands there twice"),
        ('{"images": [], "annotations": null}', "`annotations` is not a list"),
        ('{"images": [{"id": 1, "file_name": "a\\nb.jpg"}]}', "its images"),
    ],
)
def test_broken_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = put(tmp_path, {"a.json": text}) / "a.json"
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_wanted_classes(tmp_path: Path) -> None:
    dataset = load_dataset(save(tmp_path, content(entry(5, 3, [1, 1, 2, 2]))), classes=["dog"])
    assert (dataset.class_names, dataset.class_keys, dataset.labels.tolist()) == (("dog",), (3,), [0])


def test_agrees_with_pycocotools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    rng = np.random.default_rng(0)
    boxes = [[*rng.uniform(0, 10, 2).tolist(), *rng.uniform(1, 9, 2).tolist()] for _ in range(20)]
    data = content(*(entry((0, 5)[i % 2], (7, 3)[i % 3 == 0], b, id=i + 1, area=1.0) for i, b in enumerate(boxes)))
    root = save(tmp_path, data)
    official = COCO(str(root / "annotations" / "instances_train2017.json"))
    capsys.readouterr()
    for record in load_dataset(root):
        found, truth = official.loadAnns(official.getAnnIds(imgIds=[int(record.image_id)])), record.ground_truth
        xywh = np.array([a["bbox"] for a in found])
        np.testing.assert_allclose(truth.boxes[:, 2:] - truth.boxes[:, :2], xywh[:, 2:], rtol=1e-5)
        np.testing.assert_allclose(truth.boxes[:, :2], xywh[:, :2], rtol=1e-6)
        assert [(7, 3)[label] for label in truth.labels] == [a["category_id"] for a in found]


# --- as tools really write it -----------------------------------------------------------------------------------------


def test_integral_floats_are_ids(tmp_path: Path) -> None:
    images = [{"id": 1.0, "file_name": "0.jpg"}, {"id": 2, "file_name": "5.jpg"}, {"id": 1.5, "file_name": "5.jpg"}]
    categories = [{"id": 3.0, "name": "cat"}, {"id": "3", "name": "dog"}]
    data = content(
        entry(1, 3, [1, 1, 5, 5]), entry(2.0, "3", [1, 1, 5, 5]), entry(True, 3, [1, 1, 5, 5]), images=images
    )
    dataset = load_dataset(save(tmp_path, {**data, "categories": categories}))
    assert (list(dataset.image_ids), dataset.class_keys, dataset.labels.tolist()) == (["1", "2"], (3, "3"), [0, 1])
    assert kinds(dataset) == {"bad-annotation": 1, "orphan-box": 1}


def test_the_box_of_a_segmentation(tmp_path: Path) -> None:
    polygon = [[1, 1, 20, 1, 20, 20, 1, 20]]
    data = content(
        {"image_id": 0, "category_id": 7, "segmentation": polygon, "area": 300},
        {"image_id": 5, "category_id": 7, "bbox": None, "segmentation": {"size": [30, 40], "counts": [31, 2, 1167]}},
        {"image_id": 5, "category_id": 7, "segmentation": "x"},
    )
    dataset = load_dataset(save(tmp_path, data))
    assert dataset.boxes.tolist() == [[1, 1, 20, 20], [1, 1, 2, 3]]
    assert dataset.area.tolist() == [300, 2]
    assert [str(f).rpartition(" [")[2] for f in dataset.faults] == ["bad-object; box left out]"]


@pytest.mark.parametrize("area", [None, "much", -1, [3], {}, True, float("nan"), 10**400])
def test_an_area_that_is_none_is_the_boxs(tmp_path: Path, area: Any) -> None:
    dataset = load_dataset(save(tmp_path, content(entry(0, 7, [1, 1, 5, 6], area=area, iscrowd="0", ignore="no"))))
    assert dataset.area.tolist() == [30]
    assert not dataset.crowd.any()
    assert not dataset.ignore.any()


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        *((box, "not-a-number") for box in ([0, 0, 1e20, 5], [1e300, 0, 1, 1], [0, 0, 10**400, 1])),
        *((box, "not-a-number") for box in ([True, 0, 1, 1], [0, 0, "1", 1])),
        *((box, "zero-area-box") for box in ([16777216, 1, 1, 5], [5, 5, 1e-9, 5])),  # in single precision
    ],
)
def test_boxes_that_no_picture_holds(tmp_path: Path, box: list[Any], kind: str) -> None:
    images = [{"id": 0, "file_name": "0.jpg", "height": 2**30, "width": 2**30}]
    dataset = load_dataset(save(tmp_path, content(entry(0, 7, box), images=images)))
    assert len(dataset.boxes) == 0
    assert kinds(dataset) == {kind: 1}


@pytest.mark.parametrize(
    "above", ["/home/me/images/", "C:\\Users\\me\\", "https://host/x/", "../", "photos/", "/data/local-files/?d=x/"]
)
@pytest.mark.parametrize("argument", [None, "images"])
def test_pictures_of_another_machine(tmp_path: Path, above: str, argument: str | None) -> None:
    images = [{"id": i, "file_name": f"{above}{i}.jpg", "height": 30, "width": 40} for i in (0, 5)]
    root = save(tmp_path, content(entry(5, 7, [1, 1, 5, 5]), images=images), "x.json", "images")
    dataset = load_dataset(root, images=argument)
    assert list(dataset.paths) == ["0.jpg", "5.jpg"]
    assert not dataset.faults


def test_names_with_folders_of_which_one_is_given(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"far/{i}.jpg"} for i in (0, 5)]
    root = save(tmp_path, content(images=images), "x.json", "far")
    for argument in (None, ".", "far"):
        dataset = load_dataset(root, images=argument)
        assert [record.path.is_file() for record in dataset] == [True, True]
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"other holds none of its images \(far/0\.jpg\.\.\.\)"):
        load_dataset(root, images="other")


def test_a_part_of_the_pictures(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(-800, 6)]
    dataset = load_dataset(save(tmp_path, content(images=images), "x.json", "images"))
    assert list(dataset.image_ids) == ["0", "5"]
    assert kinds(dataset) == {"missing-image": 804}


@pytest.mark.parametrize("name", ["", " ", None, ["cat"], {}, ...])
def test_categories_without_a_name_or_with_one_name(tmp_path: Path, name: Any) -> None:
    categories = [{"id": 7, "name": name}, {"id": 3, "name": "dog\n"}, {"id": 5, "name": "7"}, {"id": 4, "name": "dog"}]
    if name is ...:
        del categories[0]["name"]
    dataset = load_dataset(save(tmp_path, {**content(), "categories": categories}))
    assert dataset.class_names == ("7 (7)", "dog (3)", "7 (5)", "dog (4)")


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    images = [{"id": "\ud800", "file_name": "0.jpg"}, {"id": 5, "file_name": "\udce9.jpg"}]
    data = content(entry("\ud800", 1, [1, 1, 5, 5]), images=images)
    dataset = load_dataset(save(tmp_path, {**data, "categories": [{"id": 1, "name": "k\ud800"}]}))
    assert (list(dataset.image_ids), dataset.class_names) == (["\ud800"], ("k?",))
    assert all(str(fault).isprintable() for fault in dataset.faults)
    assert kinds(dataset) == {"missing-image": 1}


# --- segmentations ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.2, 0.9]))
def test_masks_as_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    encoded = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
    columns = mask.ravel("F").astype(np.int8)
    changes = np.flatnonzero(np.diff(columns)) + 1
    runs = np.diff([0, *changes, len(columns)]).tolist()
    numbers = {"size": [height, width], "counts": [0, *runs] if columns[0] else runs}
    expected = tuple(reference.toBbox(encoded).tolist()) if mask.any() else None
    assert box_of_segmentation(text) == expected
    assert box_of_segmentation(numbers) == expected


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([[1, 1, 20, 1, 20, 20, 1, 20]], (1, 1, 19, 19)),
        ([[1, 2, 3, 4.5, 5, 6], [0, 3, 2, 3, 1, 9]], (0, 2, 5, 7)),
        ([1, 2, 3, 4, 5, 6], (1, 2, 4, 4)),  # one polygon without the list around it
    ],
)
def test_polygons(segmentation: Any, box: tuple[float, ...]) -> None:
    assert box_of_segmentation(segmentation) == box


BAD_COUNTS = (5, [1, -1, 9], [0, 10], ["a"], [10**30, 1], [9], "\u2603", "o" * 40, "0P", "O")
BAD_POLYGONS = (
    [[]],
    [[1, 2, 3]],
    [[1, 2, 3, None, 5, 6]],
    [[1, 2, 3, float("nan")]],
    [[1, 2, [3], 4]],
    [[1, 2, 10**400, 4]],
)


@pytest.mark.parametrize(
    "segmentation",
    [
        *(None, [], "x", 3, {}, *([polygon] for polygon in BAD_POLYGONS)),
        *({"size": size, "counts": [0, 9]} for size in ([3], ["3", 3])),
        *({"size": [3, 3], "counts": counts} for counts in (None, *BAD_COUNTS)),
    ],
)
def test_what_is_no_segmentation(segmentation: Any) -> None:
    assert box_of_segmentation(segmentation) is None
