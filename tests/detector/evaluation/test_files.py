"""Detection files in and out: nothing lost, nothing silently dropped, every fault told with its place."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official_files import write_coco_results, write_ilsvrc, write_voc
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.commands.detection_files import SavedDetections, write_csv
from detector.evaluation import columns, json_stream
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.read_files import read_detections, read_image_numbers
from detector.evaluation.read_truth import read_coco_truth
from detector.evaluation.tables import DetectionTable
from detector.evaluation.voc import evaluate_voc
from detector.types import Detections, GroundTruth
from proposals.errors import UserError

NAMES = ["cat", "traffic light"]


def table(n: int = 50, seed: int = 0) -> DetectionTable:
    """Random detections of five images, with numbers that need all their digits."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 100, (n, 4))
    boxes[:, 2:] += boxes[:, :2]
    return DetectionTable(
        tuple(str(i) for i in range(1, 6)),
        rng.integers(0, 5, n),
        rng.integers(0, 2, n),
        rng.random(n),
        boxes,
        boxes[:, 2:] - boxes[:, :2],
    )


def rows(found: DetectionTable) -> list[tuple]:
    """Rows in an order of their own, with images by name."""
    return sorted(
        (found.image_ids[image], label, score, *box)
        for image, label, score, box in zip(
            found.image.tolist(), found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
        )
    )


def test_coco_results_keep_every_digit(tmp_path: Path) -> None:
    found = table()
    write_coco_results(tmp_path / "r.json", found, [7, 9])
    content = json.loads((tmp_path / "r.json").read_text())
    assert content[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert isinstance(content[0]["image_id"], int)
    again = read_detections(tmp_path / "r.json", NAMES, class_keys=[7, 9])
    np.testing.assert_array_equal(again.sides, found.sides)
    np.testing.assert_array_equal(again.boxes[:, :2], found.boxes[:, :2])
    np.testing.assert_array_equal(again.scores, found.scores)
    assert [again.image_ids[i] for i in again.image] == [found.image_ids[i] for i in found.image]


def test_empty_results(tmp_path: Path) -> None:
    nothing = table(0)
    write_coco_results(tmp_path / "r.json", nothing, [1, 2])
    assert len(read_detections(tmp_path / "r.json", NAMES)) == 0
    (tmp_path / "d.jsonl").write_text("")
    assert len(read_detections(tmp_path / "d.jsonl", NAMES)) == 0
    (tmp_path / "s.txt").write_text("")
    assert len(read_detections(tmp_path / "s.txt", NAMES, image_numbers={})) == 0


def test_voc_devkit_round_trip_and_convention(tmp_path: Path) -> None:
    found = table()
    write_voc(tmp_path / "kit", found, NAMES, "comp4_det_my_test")
    again = read_detections(tmp_path / "kit", NAMES)
    np.testing.assert_allclose([r[2:] for r in rows(again)], [r[2:] for r in rows(found)], rtol=1e-14)
    whole = DetectionTable(
        ("000012",), np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([0.5]), np.array([[47.0, 239, 195, 371]]),
        np.array([[148.0, 132]]),
    )  # fmt: skip
    write_voc(tmp_path / "one", whole, NAMES)
    assert (tmp_path / "one" / "comp3_det_test_cat.txt").read_text() == "000012 0.5 48 240 195 371\n"


def test_ilsvrc_round_trip_and_convention(tmp_path: Path) -> None:
    found = table()
    (tmp_path / "val.txt").write_text("\n".join(f"val/{i} {i + 100}" for i in range(1, 6)))
    numbers = read_image_numbers(tmp_path / "val.txt")
    write_ilsvrc(tmp_path / "s.txt", found, numbers)
    first = (tmp_path / "s.txt").read_text().split("\n")[0].split()
    assert first[0] == str(int(found.image_ids[found.image[0]]) + 100)
    assert first[1] == str(found.labels[0] + 1)
    assert float(first[3]) == found.boxes[0, 0]  # counts from 0 ...
    assert float(first[5]) == pytest.approx(found.boxes[0, 2] - 1)  # ... and includes the last pixel
    again = read_detections(tmp_path / "s.txt", NAMES, image_numbers=numbers)
    np.testing.assert_allclose([r[2:] for r in rows(again)], [r[2:] for r in rows(found)], rtol=1e-13)


def test_own_files_round_trip(tmp_path: Path) -> None:
    boxes = np.array([[0.1, 0.2, 30.3, 40.4], [1, 2, 3, 4]], np.float32)
    found = Detections(boxes, np.array([0.7, 0.1], np.float32), np.array([1, 0]), (50, 60))
    saved = [
        SavedDetections.of("a", "a.jpg", found, NAMES),
        SavedDetections.of("b", "b.jpg", Detections.empty((5, 5)), NAMES),
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / "detections.jsonl").open("w") as file:
        for image in saved:
            file.write(image.to_json() + "\n")
    write_csv(folder / "d.csv", saved)
    for path in (folder, folder / "detections.jsonl", folder / "d.csv"):
        again = read_detections(path, NAMES)
        np.testing.assert_array_equal(again.boxes.astype(np.float32), boxes)
        assert again.labels.tolist() == [1, 0]
    assert read_detections(folder, NAMES).image_ids == ("a", "b")


def test_same_numbers_from_the_file_as_from_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes = rng.integers(0, 40, (12, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2] + 5
    truth = {str(i): GroundTruth.of(boxes[i * 3 : i * 3 + 3], np.array([0, 1, 0])) for i in range(4)}
    found = {
        str(i): Detections.sorted(
            boxes[i * 3 : i * 3 + 3] + 1, rng.random(3).astype(np.float32), np.array([0, 1, 0]), (90, 90)
        )
        for i in range(4)
    }
    memory = evaluate_voc(found, truth, NAMES)
    write_voc(tmp_path / "kit", DetectionTable.of(found), NAMES)
    write_coco_results(tmp_path / "r.json", DetectionTable.of(found), [1, 2])
    assert evaluate_voc(read_detections(tmp_path / "kit", NAMES), truth, NAMES).mean_ap == memory.mean_ap
    read = read_detections(tmp_path / "r.json", NAMES, class_keys=[1, 2])
    expected = pytest.approx(evaluate_coco(found, truth, NAMES).numbers, abs=1e-12, nan_ok=True)
    assert evaluate_coco(read, truth, NAMES).numbers == expected


def write(path: Path, content: Any) -> Path:
    """A JSON file, or text."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def entry(**changes: Any) -> dict[str, Any]:
    """A row of COCO results."""
    return {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5} | changes


NAN = float("nan")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"score": "0.9"}, "score is not a finite number: '0.9'"),
        ({"score": NAN}, "score is not a finite number: nan"),
        ({"score": None}, "score is not a finite number: None"),
        ({"score": True}, "score is not a finite number: True"),
        ({"score": 10**400}, "score is not a finite number: 1000"),
        ({"bbox": [0, 0, 5]}, r"box is not four finite numbers: \[0, 0, 5\]"),
        ({"bbox": [0, 0, "5", 5]}, "box is not four finite numbers"),
        ({"bbox": [0, 0, float("inf"), 5]}, "box is not four finite numbers"),
        ({"bbox": None}, "box is not four finite numbers: None"),
        ({"bbox": {"x": 1}}, "box is not four finite numbers"),
    ],
)
def test_faulty_numbers_stop_or_are_counted(fault: dict[str, Any], words: str, tmp_path: Path) -> None:
    good = [entry(image_id=i) for i in range(3)]
    path = write(tmp_path / "r.json", [*good, entry(image_id=77, **fault), *good])
    with pytest.raises(UserError, match=rf"detection 4 \(image '77'\): {words}.*--invalid skip"):
        read_detections(path, NAMES, class_keys=[1, 2])
    again = read_detections(path, NAMES, class_keys=[1, 2], invalid="skip")
    assert len(again) == 6
    assert sum(again.rejected.values()) == 1
    truth = {"1": GroundTruth.of(np.array([[0, 0, 5, 5]], np.float32), np.zeros(1, np.int64))}
    counts = evaluate_voc(again, truth, NAMES).counts
    assert counts.detections == 7
    assert counts.detections_ignored == {next(iter(again.rejected)): 1, "image not in the data set": 4}


def test_unknown_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", [entry(), entry(category_id=99)])
    with pytest.raises(UserError, match=r"class '99' is not in the data set.*--unknown-classes skip"):
        read_detections(path, NAMES, class_keys=[1, 2])
    again = read_detections(path, NAMES, class_keys=[1, 2], unknown_class="skip")
    assert again.rejected == {"class not in the data set": 1}


def test_classes_are_matched_by_name_not_by_number(tmp_path: Path) -> None:
    line = {"image_id": "i", "path": "", "width": 9, "height": 9}
    boxes = [{"box": [0, 0, 5, 5], "score": 0.5, "label": 0, "class_name": name} for name in ("Traffic_Light", "cat")]
    path = write(tmp_path / "d.jsonl", json.dumps({**line, "detections": boxes}))
    assert read_detections(path, NAMES).labels.tolist() == [1, 0]
    with pytest.raises(UserError, match="class 'Traffic_Light' is not in"):  # two would fit
        read_detections(path, ["cat", "traffic light", "traffic_light"])


def test_an_image_on_two_lines(tmp_path: Path) -> None:
    line = json.dumps(
        {"image_id": "i", "detections": [{"box": [0, 0, 5, 5], "score": 0.5, "class_name": "cat", "label": 0}]}
    )
    path = write(tmp_path / "d.jsonl", f"{line}\n{line}\n")
    with pytest.raises(UserError, match="line 2: image 'i' stands in the file a second time"):
        read_detections(path, NAMES)
    again = read_detections(path, NAMES, invalid="skip")
    assert len(again) == 1
    assert again.rejected == {"its image stands in the file a second time": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is something else"),
        ('{"images": []}', "an object, perhaps an annotation file"),
        ("[1, 2]", "entry 1 is not an object"),
        ('[{"image_id": 1,}]', "entry 1 is not JSON"),
        ('[{"a": 1} {"b": 2}]', "after entry 1 comes"),
        ('[{"a": 1}] [', "after the list comes"),
        ("\xff\xfe[", "results file is a JSON list"),
    ],
)
def test_json_that_is_no_results_file(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        list(json_stream.stream_objects(write(tmp_path / "r.json", text)))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
def test_streaming_at_every_cut(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    entries = [entry(image_id='a "}],{', score=i / 7, extra={"counts": "}]", "size": [1, [2]]}) for i in range(4)]
    for text in (json.dumps(entries), json.dumps(entries, indent=2), f"\ufeff {json.dumps(entries)} \n", "[ ]"):
        path = write(tmp_path / "r.json", text)
        assert list(json_stream.stream_objects(path)) == json.loads(text.strip("\ufeff \n"))


def test_truncated_at_every_place(tmp_path: Path) -> None:
    text = json.dumps([entry(score=i / 7) for i in range(3)])
    for length in range(1, len(text)):
        path = write(tmp_path / "r.json", text[:length])
        with pytest.raises(UserError, match=r"ends after entry \d.* truncated, copy it again"):
            list(json_stream.stream_objects(path))


@pytest.mark.parametrize("length", [30, 60, 90])
def test_truncated_lines(length: int, tmp_path: Path) -> None:
    line = json.dumps({"image_id": "i", "detections": [{"box": [0, 0, 5, 5], "score": 0.5, "class_name": "cat"}]})
    with pytest.raises(UserError, match=r"line 1: not JSON.*truncated"):
        read_detections(write(tmp_path / "d.jsonl", line[:length]), NAMES)
    with pytest.raises(UserError, match="line 2: 5 fields in place of 7"):
        read_detections(write(tmp_path / "s.txt", "1 1 0.5 0 0 5 5\n1 1 0.5 0 0"), NAMES, image_numbers={1: "i"})


@pytest.mark.parametrize("content", ["[1]", '{"image_id": 3}', '{"image_id": 3, "detections": [{"score": 1}]}'])
def test_lines_of_another_kind(content: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: not an image's detections"):
        read_detections(write(tmp_path / "d.jsonl", content), NAMES)


def test_files_that_are_not_there_or_tell_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_detections(tmp_path / "no.json", NAMES)
    with pytest.raises(UserError, match="holds neither"):
        read_detections(tmp_path, NAMES)
    with pytest.raises(UserError, match="tells no format"):
        read_detections(write(tmp_path / "x.bin", ""), NAMES)
    with pytest.raises(UserError, match="format 'magic' is unknown"):
        read_detections(write(tmp_path / "x.bin", ""), NAMES, format="magic")
    with pytest.raises(UserError, match="name their list with --image-list"):
        read_detections(write(tmp_path / "x.txt", ""), NAMES)
    with pytest.raises(UserError, match="no column class_name"):
        read_detections(write(tmp_path / "x.csv", "image_id,score\n"), NAMES)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_detections(tmp_path / "bytes.jsonl", NAMES)


def test_text_numbers_in_a_kit_file(tmp_path: Path) -> None:
    path = write(tmp_path / "s.txt", "1 1 high 0 0 5 5\n1 9 0.5 0 0 5 5\n")
    with pytest.raises(UserError, match="score is not a finite number"):
        read_detections(path, NAMES, image_numbers={1: "i"}, unknown_class="skip")
    again = read_detections(path, NAMES, image_numbers={1: "i"}, unknown_class="skip", invalid="skip")
    assert again.rejected == {"class not in the data set": 1, "score is not a finite number": 1}


def test_a_large_results_file_needs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 4000
    monkeypatch.setattr(columns, "_BATCH", 256)
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 16)
    path = tmp_path / "r.json"
    write_coco_results(path, table(n), [1, 2])
    tracemalloc.start()
    found = read_detections(path, NAMES, class_keys=[1, 2])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == n
    # Whole, the parsed JSON alone takes some 700 bytes a detection. Here: the columns, 72 bytes a detection, twice more
    # while they are joined and frozen, and one batch and chunk.
    assert peak < 3 * 72 * n + 600_000 < 700 * n


def coco_truth() -> dict[str, Any]:
    """Two images with an object each, one of them a crowd; as COCO writes it."""
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [4, 5, 20, 20], "area": 400, "iscrowd": 0},
    ]
    return {
        "images": [{"id": i, "width": 64, "height": 48, "file_name": f"{i}.jpg"} for i in (1, 2)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": annotations,
    }


def test_coco_truth_faults(tmp_path: Path) -> None:
    good = coco_truth()
    truth = read_coco_truth(write(tmp_path / "t.json", good))
    assert (truth.class_names, truth.class_keys, truth.files) == (("cat", "dog"), (3, 7), {"1": "1.jpg", "2": "2.jpg"})
    cases = {
        "image id 1 stands there twice": {"images": good["images"] * 2},
        "category id 3 stands": {"categories": good["categories"] * 2},
        "`annotations` is not a list": {"annotations": {}},
        "it has no list `images`": {"images": None},
        "image 1 is 3, no image": {"images": [3]},
        "category 1 is 'cat', no category": {"categories": ["cat"]},
        "annotation 3 is None, no annotation": {"annotations": [*good["annotations"], None]},
    }
    for words, change in cases.items():
        with pytest.raises(UserError, match=words):
            read_coco_truth(write(tmp_path / "t.json", good | change))
    for text, words in ((json.dumps(good)[:-5], "is not JSON"), ("{}", "it has no list `images`")):
        with pytest.raises(UserError, match=words):
            read_coco_truth(write(tmp_path / "t.json", text))


@pytest.mark.parametrize(
    ("where", "key", "value", "words"),
    [
        ("images", "id", None, "the id of image 1 is missing"),
        ("images", "id", [1], r"the id of image 1 is \[1\], neither number nor text"),
        ("images", "id", True, "the id of image 1 is True, neither"),
        ("images", "id", "2", "image id 2 stands there twice"),
        ("images", "id", 2.0, "image id 2 stands there twice"),
        ("categories", "id", None, "the id of category 1 is missing"),
        ("categories", "id", {"a": 1}, "the id of category 1 is {'a': 1}, neither"),
        ("categories", "id", 7.0, "category id 7 stands there twice"),
        ("annotations", "image_id", [1], r"annotation 1: image_id is \[1\], which is no id"),
        ("annotations", "category_id", [3], r"annotation 1 has no bbox.*category_id \[3\]"),
        ("annotations", "category_id", 8, "annotation 1 has no bbox.*category_id 8"),
        ("annotations", "bbox", None, "annotation 1 has no bbox"),
        ("annotations", "bbox", [1, 2, 3], "annotation 1 has no bbox"),
        ("annotations", "bbox", [1, 2, "20", 20], "annotation 1 has no bbox"),
        ("annotations", "bbox", [1, 2, True, 20], "annotation 1 has no bbox"),
        ("annotations", "bbox", [1, 2, 10**400, 20], r"annotation 1 has no bbox of four numbers.*10000\S*\.\.\.0+, 20"),
        ("annotations", "bbox", [1e308, 2, 1e308, 20], "annotation 1 has no bbox"),
        ("annotations", "bbox", [NAN, 2, 20, 20], "annotation 1 has no bbox"),
        ("annotations", "area", "big", "annotation 1: area is 'big', not a number"),
        ("annotations", "area", NAN, "annotation 1: area is nan, not a number"),
        ("annotations", "area", 10**400, "annotation 1: area is 1000"),
        ("annotations", "area", [400], r"annotation 1: area is \[400\]"),
        ("annotations", "iscrowd", "0", "annotation 1: iscrowd is '0', neither 0 nor 1"),
        ("annotations", "iscrowd", [0], "annotation 1: iscrowd is"),
    ],
)
def test_odd_types_in_coco_truth_are_one_line(where: str, key: str, value: Any, words: str, tmp_path: Path) -> None:
    content = coco_truth()
    content[where][0][key] = value
    path = write(tmp_path / "t.json", content)
    with pytest.raises(UserError, match=words) as caught:
        read_coco_truth(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("images", "width", "x"), ("images", "height", None), ("images", "height", 10**400), ("images", "width", [1]),
        ("images", "file_name", None), ("images", "file_name", ["x"]),
        ("categories", "name", None), ("categories", "name", ["x"]), ("categories", "name", ""),
        ("annotations", "area", None), ("annotations", "iscrowd", None), ("annotations", "id", [1]),
    ],
)  # fmt: skip
def test_odd_types_that_decide_nothing_are_read(where: str, key: str, value: Any, tmp_path: Path) -> None:
    content = coco_truth()
    content[where][0][key] = value
    truth = read_coco_truth(write(tmp_path / "t.json", content))
    assert truth.table.area.tolist() == [400, 400]
    assert truth.class_names == (("3" if where == "categories" else "cat"), "dog")


def test_names_of_categories_stand_on_one_line(tmp_path: Path) -> None:
    content = coco_truth()
    content["categories"] = [{"id": 3, "name": "traffic\n light "}, {"id": 7, "name": 1}]
    assert read_coco_truth(write(tmp_path / "t.json", content)).class_names == ("traffic light", "1")


def test_annotations_of_images_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    annotation = {"id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}
    content = {
        "images": [{"id": 1}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{**annotation, "image_id": 1}, {**annotation, "image_id": 2}],
    }
    truth = read_coco_truth(write(tmp_path / "t.json", content))
    counts = evaluate_coco({}, truth.table, truth.class_names).counts
    assert (counts.truths, counts.truths_counted) == (2, 1)
    assert counts.truths_ignored == {"image not in the file": 1}


DEEP = "[" * 20_000 + "]" * 20_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('"x": ' + DEEP, "entry 1 is not a detection: nested too deep"),
        ('"x": ' + "7" * 5000, "entry 1 is not a detection: a number of too many digits"),
        ('"image_id": [1]', r"entry 1: image_id is \[1\], neither number nor text"),
        ('"image_id": true', "entry 1: image_id is True, neither"),
        ('"category_id": {"id": 1}', "entry 1: category_id is {'id': 1}, neither"),
        ('"category_id": 1.5', "class '1.5' is not in the data set"),
        ('"category_id": "\\ud800\\u001b[31m"', r"class '\\ud800\\x1b\[31m' is not in the data set"),
        ('"score": ' + "9" * 400, "score is not a finite number: 999"),
        ('"bbox": [0, 0, 1e999, 5]', "box is not four finite numbers"),
        ('"bbox": [0, 0, 1e200, 5]', "box is not four finite numbers"),
        ('"bbox": [[0], 0, 1, 5]', "box is not four finite numbers"),
    ],
)
def test_faults_of_results_are_one_short_line(change: str, words: str, tmp_path: Path) -> None:
    text = json.dumps(entry())[:-1] + f", {change}}}"  # of a key given twice the last one counts
    path = write(tmp_path / "r.json", f"[{text}]")
    with pytest.raises(UserError, match=words) as caught:
        read_detections(path, NAMES, class_keys=[1, 2])
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < 600


def test_whole_floats_are_ids_as_in_the_reference(tmp_path: Path) -> None:
    content = coco_truth()
    for part, key in (("images", "id"), ("annotations", "image_id"), ("categories", "id")):
        for row in content[part]:
            row[key] = float(row[key])
    truth = read_coco_truth(write(tmp_path / "t.json", content))
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in ((1, 3.0, [1, 2, 20, 20], 0.9), (2.0, 7, [4, 5, 20, 15], 0.8))
    ]
    found = read_detections(write(tmp_path / "r.json", results), truth.class_names, class_keys=truth.class_keys)
    assert (truth.class_keys, truth.table.image_ids, found.image_ids) == ((3, 7), ("1", "2"), ("1", "2"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "t.json"))
        run = COCOeval(coco, coco.loadRes(str(tmp_path / "r.json")), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert evaluate_coco(found, truth.table, truth.class_names).mean_ap == pytest.approx(run.stats[0], abs=1e-9)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image_id": "a", "detections": ' + DEEP + "}", "line 1: not JSON: nested too deep"),
        ('{"image_id": ' + "7" * 5000 + ', "detections": []}', "line 1: not JSON: a number of too many digits"),
        ('{"image_id": null, "detections": []}', "line 1: image_id is None, neither text nor number"),
        (
            '{"image_id": "a", "detections": {"score": 1}}',
            "line 1: not an image's detections, but JSON of another kind",
        ),
        (
            '{"image_id": "a", "detections": [{"score": 1, "box": [0, 0, 1, 1], "class_name": null}]}',
            "line 1: class_name is None, not text",
        ),
    ],
)
def test_faults_of_lines_are_one_line(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_detections(write(tmp_path / "d.jsonl", line), NAMES)


HEADER = "image_id,class_name,score,x1,y1,x2,y2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column class_name"),
        (HEADER + ",score\n", "2 times the column score"),
        (HEADER + "\na,cat,0.5,1,2\n", "line 2: 5 fields, fewer than the header has"),
        (HEADER + '\n"' + "x" * 200_000 + '",cat,0.5,1,2,3,4\n', "not CSV: field larger than field limit"),
        ("x" * 200_000 + "\n", "not CSV: field larger than field limit"),
        (HEADER + "\na,cat,0.5,1,2,1_0,4\n", "box is not four finite numbers"),
        (HEADER + "\na,cat,1e999,1,2,3,4\n", "score is not a finite number: inf"),
    ],
)
def test_faults_of_csv_are_one_line(text: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", text)
    with pytest.raises(UserError, match=words) as caught:
        read_detections(path, NAMES)
    assert str(caught.value).startswith(str(path))


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    text = "y2,x1,extra,path,score,y1,class_name,x2,image_id\n4,1,?,p/a.jpg,0.5,2,cat,3,a\n\n9,6,?,,0.25,7,cat,8,b\n"
    found = read_detections(write(tmp_path / "d.csv", text), NAMES)
    assert (found.image_ids, found.paths) == (("a", "b"), ("p/a.jpg", ""))
    assert found.boxes.tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]]


@pytest.mark.parametrize("number", ["x", "9" * 5000, "1.5", "-1"])
def test_faults_of_the_list_of_images(number: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not an image's name and its own number") as caught:
        read_image_numbers(write(tmp_path / "val.txt", f"val/a {number}\n"))
    assert len(str(caught.value)) < 400


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are Unix's")
def test_a_pipe_in_a_folder_of_files_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "comp3_det_test_cat.txt")
    with pytest.raises(UserError, match="not a file that can be read"):
        read_detections(tmp_path, NAMES)
