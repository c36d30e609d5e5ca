"""Detection files in and out: nothing lost, nothing silently dropped, every fault told with its place."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.detection_files import SavedDetections, write_csv, write_line
from detector.evaluation import columns, json_stream
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.read_files import read_detections, read_image_numbers
from detector.evaluation.read_truth import read_coco_truth
from detector.evaluation.tables import DetectionTable
from detector.evaluation.voc import evaluate_voc
from detector.evaluation.write_files import write_coco_results, write_ilsvrc, write_voc
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
    paths = write_voc(tmp_path / "kit", found, NAMES, competition="comp4", image_set="my_test")
    assert [path.name for path in paths] == ["comp4_det_my_test_cat.txt", "comp4_det_my_test_traffic_light.txt"]
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
            write_line(file, image)
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
    with pytest.raises(UserError, match="the list of the images is needed"):
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


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", "mine")
    for call in (
        lambda: write_coco_results(path, table(), [1, 2]),
        lambda: write_ilsvrc(path, table(), {}),
    ):
        with pytest.raises(UserError, match="exists already"):
            call()
    assert path.read_text() == "mine"
    with pytest.raises(UserError, match="is not in the list of images"):
        write_ilsvrc(tmp_path / "new.txt", table(), {1: "1"})
    assert not (tmp_path / "new.txt").exists()
    with pytest.raises(ValueError, match="labels must be"):
        write_coco_results(tmp_path / "new.json", table(), [1])


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


def test_coco_truth_faults(tmp_path: Path) -> None:
    good: dict[str, Any] = {
        "images": [{"id": 1, "width": 9, "height": 9, "file_name": "a.jpg"}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}],
    }
    truth = read_coco_truth(write(tmp_path / "t.json", good))
    assert (truth.class_names, truth.class_keys, truth.files) == (("cat",), (3,), {"1": "a.jpg"})
    cases = {
        "stands there twice": {"images": good["images"] * 2},
        "category id 3 stands": {"categories": good["categories"] * 2},
        "annotation 1 has no bbox": {"annotations": [{**good["annotations"][0], "bbox": None}]},
        "annotation 1": {"annotations": [{**good["annotations"][0], "category_id": 8}]},
        "must be lists": {"annotations": {}},
    }
    for words, change in cases.items():
        with pytest.raises(UserError, match=words):
            read_coco_truth(write(tmp_path / "t.json", good | change))
    with pytest.raises(UserError, match="truncated"):
        read_coco_truth(write(tmp_path / "t.json", json.dumps(good)[:-5]))


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
