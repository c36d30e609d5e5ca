"""Detection files in and out: nothing lost, nothing silently dropped, every fault told with its place."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boxes import found_of, truth_of
from coco_reference import run_reference
from official_files import write_coco_results, write_ilsvrc, write_voc

from detector.commands.detection_files import SavedDetections, write_csv
from detector.evaluation import columns, json_stream
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.read_files import read_detections, read_image_numbers
from detector.evaluation.read_truth import CocoTruth, read_coco_truth
from detector.evaluation.tables import DetectionTable
from detector.evaluation.voc import evaluate_voc
from detector.types import Detections
from proposals.errors import UserError

NAMES = ["cat", "traffic light"]


def table(n: int = 50) -> DetectionTable:
    """Random detections of five images, with numbers that need all their digits."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 100, (n, 4))
    boxes[:, 2:] += boxes[:, :2]
    images, labels = rng.integers(0, 5, n), rng.integers(0, 2, n)
    sides = boxes[:, 2:] - boxes[:, :2]
    return DetectionTable(tuple(str(i) for i in range(1, 6)), images, labels, rng.random(n), boxes, sides)


def numbers(found: DetectionTable) -> list[tuple[Any, ...]]:
    """Score and box of each row, in an order of their own: by image, class and score."""
    columns = found.image.tolist(), found.labels.tolist(), found.scores.tolist(), found.boxes.tolist()
    every = sorted((found.image_ids[i], label, score, *box) for i, label, score, box in zip(*columns, strict=True))
    return [row[2:] for row in every]


def write(path: Path, content: Any) -> Path:
    """A JSON file, or text."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read(path: Path, content: Any, **options: Any) -> DetectionTable:
    """The detections of a file with this content; COCO's categories are 1 and 2."""
    return read_detections(write(path, content), NAMES, class_keys=[1, 2], image_numbers={1: "i"}, **options)


def test_coco_results_keep_every_digit(tmp_path: Path) -> None:
    found = table()
    write_coco_results(tmp_path / "r.json", found, [7, 9])
    again = read_detections(tmp_path / "r.json", NAMES, class_keys=[7, 9])
    np.testing.assert_array_equal(again.sides, found.sides)
    np.testing.assert_array_equal(again.boxes[:, :2], found.boxes[:, :2])
    np.testing.assert_array_equal(again.scores, found.scores)
    assert [again.image_ids[i] for i in again.image] == [found.image_ids[i] for i in found.image]


@pytest.mark.parametrize(("name", "content"), [("r.json", "[]"), ("d.jsonl", ""), ("s.txt", "")])
def test_empty_files(name: str, content: str, tmp_path: Path) -> None:
    assert len(read(tmp_path / name, content)) == 0


def test_voc_devkit_round_trip_and_convention(tmp_path: Path) -> None:
    found = table()
    write_voc(tmp_path / "kit", found, NAMES, "comp4_det_my_test")
    np.testing.assert_allclose(numbers(read_detections(tmp_path / "kit", NAMES)), numbers(found), rtol=1e-14)
    whole = DetectionTable.of({"000012": found_of([47, 239, 195, 371], 0.5)})
    write_voc(tmp_path / "one", whole, NAMES)
    assert (tmp_path / "one" / "comp3_det_test_cat.txt").read_text() == "000012 0.5 48 240 195 371\n"


def test_ilsvrc_round_trip_and_convention(tmp_path: Path) -> None:
    found = table()
    numbered = read_image_numbers(write(tmp_path / "val.txt", "\n".join(f"val/{i} {i + 100}" for i in range(1, 6))))
    write_ilsvrc(tmp_path / "s.txt", found, numbered)
    image, label, _, x1, _, x2, _ = (tmp_path / "s.txt").read_text().split("\n")[0].split()
    assert (image, label) == (str(int(found.image_ids[found.image[0]]) + 100), str(found.labels[0] + 1))
    assert float(x1) == found.boxes[0, 0]  # counts from 0 ...
    assert float(x2) == pytest.approx(found.boxes[0, 2] - 1)  # ... and includes the last pixel
    again = read_detections(tmp_path / "s.txt", NAMES, image_numbers=numbered)
    np.testing.assert_allclose(numbers(again), numbers(found), rtol=1e-13)


def test_own_files_round_trip(tmp_path: Path) -> None:
    found = found_of([[0.1, 0.2, 30.3, 40.4], [1, 2, 3, 4]], [0.7, 0.1], [1, 0], (50, 60))
    saved = [
        SavedDetections.of("a", "a.jpg", found, NAMES),
        SavedDetections.of("b", "b.jpg", Detections.empty((5, 5)), NAMES),
    ]
    write(tmp_path / "detections.jsonl", "".join(image.to_json() + "\n" for image in saved))
    write_csv(tmp_path / "d.csv", saved)
    for path in (tmp_path, tmp_path / "detections.jsonl", tmp_path / "d.csv"):
        again = read_detections(path, NAMES)
        np.testing.assert_array_equal(again.boxes.astype(np.float32), found.boxes)
        assert again.labels.tolist() == [1, 0]
    assert read_detections(tmp_path, NAMES).image_ids == ("a", "b")


# --- faults of detections ----------


def entry(**changes: Any) -> dict[str, Any]:
    """A row of COCO results."""
    return {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5} | changes


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ('"score": "0.9"', "score is not a finite number: '0.9'"),
        ('"score": NaN', "score is not a finite number: nan"),
        ('"score": null', "score is not a finite number: None"),
        ('"score": true', "score is not a finite number: True"),
        ('"score": ' + "9" * 400, "score is not a finite number: 999"),
        ('"bbox": [0, 0, 5]', r"box is not four finite numbers: \[0, 0, 5\]"),
        ('"bbox": [0, 0, "5", 5]', "box is not four finite numbers"),
        ('"bbox": [0, 0, 1e999, 5]', "box is not four finite numbers"),
        ('"bbox": [0, 0, 1e200, 5]', "box is not four finite numbers"),
        ('"bbox": [[0], 0, 1, 5]', "box is not four finite numbers"),
        ('"bbox": null', "box is not four finite numbers: None"),
        ('"bbox": {"x": 1}', "box is not four finite numbers"),
    ],
)
def test_faulty_numbers_stop_or_are_counted(fault: str, words: str, tmp_path: Path) -> None:
    good = [json.dumps(entry(image_id=i)) for i in range(3)]
    faulty = json.dumps(entry(image_id=77))[:-1] + f", {fault}}}"  # of a key given twice the last one counts
    text = f"[{', '.join([*good, faulty, *good])}]"
    with pytest.raises(UserError, match=rf"detection 4 \(image '77'\): {words}.*--invalid skip"):
        read(tmp_path / "r.json", text)
    again = read(tmp_path / "r.json", text, invalid="skip")
    assert (len(again), list(again.rejected.values())) == (6, [1])
    counts = evaluate_voc(again, {"1": truth_of([0, 0, 5, 5])}, NAMES).counts
    assert counts.detections == 7
    assert counts.detections_ignored == {next(iter(again.rejected)): 1, "image not in the data set": 4}


CAT = {"box": [0, 0, 5, 5], "score": 0.5, "class_name": "cat"}
LINE = json.dumps({"image_id": "i", "detections": [CAT]})
HEADER = "image_id,class_name,score,x1,y1,x2,y2"
DEEP = "[" * 20_000 + "]" * 20_000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.json", "", "is something else"),
        ("r.json", '{"images": []}', "an object, perhaps an annotation file"),
        ("r.json", "\xff\xfe[", "results file is a JSON list"),
        ("r.json", "[1, 2]", "entry 1 is not an object"),
        ("r.json", '[{"image_id": 1,}]', "entry 1 is not JSON"),
        ("r.json", '[{"a": 1} {"b": 2}]', "entry 1 has no 'image_id'; is it a COCO results file"),
        ("r.json", json.dumps([entry()])[:-1] + "{", "after entry 1 comes '{', not a comma"),
        ("r.json", json.dumps([entry()]) + " [", "after the list comes"),
        ("r.json", [entry(x=[1]), entry(category_id=1.5)], "class '1.5' is not in the data set"),
        ("r.json", [entry(category_id="\ud800\x1b[31m")], r"class '\\ud800\\x1b\[31m' is not in the data set"),
        ("r.json", [entry(category_id={"id": 1})], "entry 1: category_id is {'id': 1}, neither"),
        ("r.json", [entry(image_id=[1])], r"entry 1: image_id is \[1\], neither number nor text"),
        ("r.json", [entry(image_id=True)], "entry 1: image_id is True, neither"),
        ("r.json", '[{"x": ' + DEEP + "}]", "entry 1 is not a detection: nested too deep"),
        ("r.json", '[{"x": ' + "7" * 5000 + "}]", "entry 1 is not a detection: a number of too many digits"),
        ("d.jsonl", LINE[:30], "line 1: not JSON.*truncated"),
        ("d.jsonl", "\n" + LINE[:90], "line 2: not JSON.*truncated"),
        ("d.jsonl", "[1]", "line 1: not an image's detections"),
        ("d.jsonl", '{"image_id": 3}', "line 1: not an image's detections"),
        ("d.jsonl", '{"image_id": 3, "detections": [{"score": 1}]}', "line 1: not an image's detections"),
        ("d.jsonl", '{"image_id": "a", "detections": {"score": 1}}', "line 1: .* but JSON of another kind"),
        ("d.jsonl", '{"image_id": null, "detections": []}', "line 1: image_id is None, neither text nor number"),
        ("d.jsonl", LINE.replace('"cat"', "null"), "line 1: class_name is None, not text"),
        ("d.jsonl", '{"image_id": "a", "detections": ' + DEEP + "}", "line 1: not JSON: nested too deep"),
        ("d.jsonl", '{"image_id": ' + "7" * 5000 + "}", "line 1: not JSON: a number of too many digits"),
        ("d.csv", "", "no column class_name"),
        ("d.csv", HEADER + ",score\n", "2 times the column score"),
        ("d.csv", HEADER + "\na,cat,0.5,1,2\n", "line 2: 5 fields, fewer than the header has"),
        ("d.csv", HEADER + '\n"' + "x" * 200_000 + '",cat,0.5,1,2,3,4\n', "not CSV: field larger than field limit"),
        ("d.csv", HEADER + "\na,cat,0.5,1,2,1_0,4\n", "box is not four finite numbers"),
        ("d.csv", HEADER + "\na,cat,1e999,1,2,3,4\n", "score is not a finite number: inf"),
        ("s.txt", "1 1 0.5 0 0 5 5\n1 1 0.5 0 0", "line 2: 5 fields in place of 7"),
        ("s.txt", "1 1 high 0 0 5 5\n", "score is not a finite number"),
        ("x.bin", "", "tells no format"),
    ],
)
def test_a_fault_is_one_short_line(name: str, content: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path / name, content)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name))
    assert message.isprintable()
    assert len(message) < 600


def test_files_that_are_not_there_or_tell_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_detections(tmp_path / "no.json", NAMES)
    with pytest.raises(UserError, match="holds neither"):
        read_detections(tmp_path, NAMES)
    with pytest.raises(UserError, match="format 'magic' is unknown"):
        read(tmp_path / "x.bin", "", format="magic")
    with pytest.raises(UserError, match="name their list with --image-list"):
        read_detections(write(tmp_path / "x.txt", ""), NAMES)
    for name in ("bytes.jsonl", "bytes.json"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match="not UTF-8"):
            read_detections(tmp_path / name, NAMES)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    path, both = tmp_path / "r.json", [entry(), entry(category_id=99)]
    with pytest.raises(UserError, match=r"class '99' is not in the data set.*--unknown-classes skip"):
        read(path, both)
    assert read(path, both, unknown_class="skip").rejected == {"class not in the data set": 1}
    kit = "1 1 high 0 0 5 5\n1 9 0.5 0 0 5 5\n"
    again = read(tmp_path / "s.txt", kit, unknown_class="skip", invalid="skip")
    assert again.rejected == {"class not in the data set": 1, "score is not a finite number": 1}
    with pytest.raises(UserError, match="line 2: image 'i' stands in the file a second time"):
        read(tmp_path / "d.jsonl", f"{LINE}\n{LINE}\n")
    again = read(tmp_path / "d.jsonl", f"{LINE}\n{LINE}\n", invalid="skip")
    assert (len(again), again.rejected) == (1, {"its image stands in the file a second time": 1})


def test_classes_are_matched_by_name_not_by_number(tmp_path: Path) -> None:
    boxes = [{**CAT, "label": 0, "class_name": name} for name in ("Traffic_Light", "cat")]
    path = write(tmp_path / "d.jsonl", {"image_id": "i", "detections": boxes})
    assert read_detections(path, NAMES).labels.tolist() == [1, 0]
    with pytest.raises(UserError, match="class 'Traffic_Light' is not in"):  # two would fit
        read_detections(path, ["cat", "traffic light", "traffic_light"])


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    text = "y2,x1,extra,path,score,y1,class_name,x2,image_id\n4,1,?,p/a.jpg,0.5,2,cat,3,a\n\n9,6,?,,0.25,7,cat,8,b\n"
    found = read(tmp_path / "d.csv", text)
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


# --- reading piece by piece ----------


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
        with pytest.raises(UserError, match=r"ends after entry \d.* truncated, copy it again"):
            list(json_stream.stream_objects(write(tmp_path / "r.json", text[:length])))


def test_a_large_results_file_needs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 4000
    monkeypatch.setattr(columns, "_BATCH", 256)
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 16)
    write_coco_results(tmp_path / "r.json", table(n), [1, 2])
    tracemalloc.start()
    found = read_detections(tmp_path / "r.json", NAMES, class_keys=[1, 2])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == n
    # Whole, the parsed JSON alone takes some 700 bytes a detection. Here: the columns, 72 bytes a detection, twice more
    # while they are joined and frozen, and one batch and chunk.
    assert peak < 3 * 72 * n + 600_000 < 700 * n


# --- COCO's truth ----------


def coco_truth(path: Path, where: str = "", key: str | None = None, value: Any = None) -> CocoTruth:
    """Two images with an object each, as COCO writes them; ``value`` is put in its place, if any is named."""
    box = {"area": 400, "iscrowd": 0}
    content: dict[str, Any] = {
        "images": [{"id": i, "width": 64, "height": 48, "file_name": f"{i}.jpg"} for i in (1, 2)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 20, 20], **box},
            {"id": 2, "image_id": 2, "category_id": 7, "bbox": [4, 5, 20, 20], **box},
        ],
    }
    if key:
        content[where][0][key] = value
    elif where:
        content[where] = value
    return read_coco_truth(write(path, content))


NAN = float("nan")


@pytest.mark.parametrize(
    ("where", "key", "value", "words"),
    [
        ("", "", None, "is not JSON"),
        ("images", "", None, "it has no list `images`"),
        ("images", "", [3], "image 1 is 3, no image"),
        ("images", "id", None, "the id of image 1 is missing"),
        ("images", "id", [1], r"the id of image 1 is \[1\], neither number nor text"),
        ("images", "id", True, "the id of image 1 is True, neither"),
        ("images", "id", "2", "image id 2 stands there twice"),
        ("images", "id", 2.0, "image id 2 stands there twice"),
        ("categories", "", ["cat"], "category 1 is 'cat', no category"),
        ("categories", "id", None, "the id of category 1 is missing"),
        ("categories", "id", {"a": 1}, "the id of category 1 is {'a': 1}, neither"),
        ("categories", "id", 7.0, "category id 7 stands there twice"),
        ("annotations", "", {}, "`annotations` is not a list"),
        ("annotations", "", [None], "annotation 1 is None, no annotation"),
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
def test_faults_of_coco_truth_are_one_line(where: str, key: str, value: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        if where:
            coco_truth(tmp_path / "t.json", where, key, value)
        else:
            read_coco_truth(write(tmp_path / "t.json", '{"images": ['))
    assert str(caught.value).startswith(str(tmp_path / "t.json"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("", "", None),
        ("images", "width", "x"), ("images", "height", None), ("images", "height", 10**400), ("images", "width", [1]),
        ("images", "file_name", None), ("images", "file_name", ["x"]),
        ("categories", "name", None), ("categories", "name", ["x"]), ("categories", "name", ""),
        ("annotations", "area", None), ("annotations", "iscrowd", None), ("annotations", "id", [1]),
    ],
)  # fmt: skip
def test_odd_types_that_decide_nothing_are_read(where: str, key: str, value: Any, tmp_path: Path) -> None:
    truth = coco_truth(tmp_path / "t.json", where, key, value)
    assert truth.table.area.tolist() == [400, 400]
    assert truth.class_names == (("3" if where == "categories" else "cat"), "dog")
    assert truth.class_keys == (3, 7)
    assert truth.files["2"] == "2.jpg"


def test_names_of_categories_stand_on_one_line(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "traffic\n light "}, {"id": 7, "name": 1}]
    assert coco_truth(tmp_path / "t.json", "categories", None, categories).class_names == ("traffic light", "1")


def test_annotations_of_images_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    truth = coco_truth(tmp_path / "t.json", "images", None, [{"id": 1}])
    counts = evaluate_coco({}, truth.table, truth.class_names).counts
    assert (counts.truths, counts.truths_counted) == (2, 1)
    assert counts.truths_ignored == {"image not in the file": 1}


def test_whole_floats_are_ids_as_in_the_reference(tmp_path: Path) -> None:
    def result(image: float, category: float, box: list[int], score: float) -> dict[str, Any]:
        return {"image_id": image, "category_id": category, "bbox": box, "score": score}

    coco_truth(tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text())
    for part, key in (("images", "id"), ("annotations", "image_id"), ("categories", "id")):
        for row in content[part]:
            row[key] = float(row[key])
    truth = read_coco_truth(write(tmp_path / "t.json", content))
    results = [result(1, 3.0, [1, 2, 20, 20], 0.9), result(2.0, 7, [4, 5, 20, 15], 0.8)]
    found = read_detections(write(tmp_path / "r.json", results), truth.class_names, class_keys=truth.class_keys)
    assert (truth.class_keys, truth.table.image_ids, found.image_ids) == ((3, 7), ("1", "2"), ("1", "2"))
    expected = run_reference(content, results).stats[0]
    assert evaluate_coco(found, truth.table, truth.class_names).mean_ap == pytest.approx(expected, abs=1e-9)
