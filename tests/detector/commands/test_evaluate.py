"""``detector evaluate`` and ``detector compare`` on small data sets in several formats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from command_line import lines_of, record_of, tree
from PIL import Image
from voc_sets import voc_xml, write_voc

from detector.commands.options import Metric
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.assemble import score
from detector.evaluation.plain import to_plain
from detector.evaluation.result import DEFAULT_METRIC, METRICS

RED, BLUE, GREY = (250, 10, 10), (20, 20, 220), (90, 90, 90)
LEFT, RIGHT = [0.0, 0.0, 30.0, 40.0], [30.0, 0.0, 60.0, 40.0]


@pytest.fixture
def voc(tmp_path: Path, picture: Any) -> Path:
    """Three pictures: tomato and sky, tomato, nothing but grey with a tomato in the annotation; ids a, b, c."""
    for name, (left, right) in {"a": (RED, BLUE), "b": (RED, GREY), "c": (GREY, GREY)}.items():
        picture(f"set/JPEGImages/{name}.png", left, right)
    tomato, sky = ("tomato", (0, 0, 30, 40)), ("sky", (30, 0, 60, 40))
    objects = {"a": [tomato, sky], "b": [tomato], "c": [tomato]}
    return write_voc(tmp_path / "set", (40, 60), objects, {"val": "abc", "train": "a"})


def rename(data: Path, old: str, new: str) -> None:
    """Give a class of the VOC set another name."""
    for xml in (data / "Annotations").glob("*.xml"):
        xml.write_text(xml.read_text().replace(old, new))


def line(image: str, *rows: tuple[str, float, list[float]]) -> str:
    """A line of detections.jsonl."""
    entries = [{"class_name": name, "score": score, "box": box, "label": 0} for name, score, box in rows]
    record: dict[str, Any] = {"image_id": image, "path": f"{image}.png", "width": 60, "height": 40}
    return json.dumps({**record, "detections": entries})


@pytest.fixture
def detections(tmp_path: Path) -> Path:
    """Tomatoes of a and b found, the sky taken for a tomato."""
    path = tmp_path / "found.jsonl"
    found = line("a", ("tomato", 0.9, LEFT), ("tomato", 0.8, RIGHT)), line("b", ("tomato", 0.7, LEFT))
    path.write_text("\n".join(found))
    return path


def write_coco(path: Path, classes: Sequence[tuple[Any, str]], objects: Sequence[Any], file: str = "a.png") -> Path:
    """A COCO truth of one image of 60 x 40 pixels, whose id is 1: classes by id, and objects as (class id, box)."""
    annotations = [
        {"id": i, "image_id": 1, "category_id": key, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (key, box) in enumerate(objects)
    ]
    images = [{"id": 1, "file_name": file, "width": 60, "height": 40}] if file else []
    categories = [{"id": key, "name": name} for key, name in classes]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return path


def write_results(path: Path, *objects: tuple[int, list[float]]) -> Path:
    """COCO results in that image, as (class id, box)."""
    rows = [{"image_id": 1, "category_id": key, "bbox": box, "score": 0.5} for key, box in objects]
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def evaluate(run_cli: Any, fake_model: Any) -> Any:
    """``evaluate(data, ..., out="e")`` runs the verb without resampling; ``code`` is what it must end with."""

    def run(data: Path | str, *options: Any, out: str = "e", code: int = 0) -> Any:
        done = run_cli("evaluate", "--data", data, "--bootstrap", 0, *options, "--out", out)
        assert done.code == code, done.err
        return done

    return run


def result_of(out: str) -> Any:
    return Evaluation.load(Path(out) / "evaluation.json").result


def test_every_metric_of_detection_is_offered() -> None:
    assert [*get_args(Metric)] == [*METRICS, "regions", "images"]
    assert set(DEFAULT_METRIC.values()) <= set(METRICS)
    for metric in METRICS:
        assert score(metric, {}, {}, ("cat",)).metric == metric


def test_detections_from_a_file(evaluate: Any, voc: Path, detections: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["detector", "evaluate", "--data", "my photos"])
    done = evaluate(voc, "--detections", detections, "--metric", "voc10", "--bootstrap", 50)
    evaluation = Evaluation.load(Path("e/evaluation.json"))
    # Tomatoes: true, false, true of three; precision 1 at 1/3, 2/3 at 2/3.
    assert evaluation.result.classes[evaluation.result.class_names.index("tomato")].ap == pytest.approx(1 / 3 + 2 / 9)
    assert evaluation.result.mean_ap == pytest.approx((1 / 3 + 2 / 9) / 2)
    assert evaluation.errors.counts["classification"] == 1
    assert evaluation.errors.counts["missed"] == 1
    assert evaluation.result.interval is not None
    for words in (
        "voc10: mean AP 27.8", "3 images (0 without an object, 1 without a detection)", "4 objects, 4 counted",
        "3 detections, 3 counted",
    ):  # fmt: skip
        assert words in done.out
    assert Path(evaluation.images["c"].path) == (voc / "JPEGImages" / "c.png").resolve()
    assert Path("e/per_class.csv").read_text().count("\n") == 4
    config = record_of("e")["config"]
    assert (config["metric"], config["split"]) == ("voc10", "val")
    assert evaluation.info["command"] == "detector evaluate --data 'my photos'", "it can be pasted"


def test_a_model_is_run_and_its_detections_kept(evaluate: Any, voc: Path, fake_model: Any) -> None:
    evaluate(voc, "--report")
    evaluation = Evaluation.load(Path("e/evaluation.json"))
    assert evaluation.result.metric == "voc07"
    assert evaluation.result.classes[evaluation.result.class_names.index("sky")].ap == pytest.approx(1)
    assert len(lines_of("e")) == 3
    # The proposals are known, so the tomato that is grey is the classifier's fault.
    assert evaluation.errors.counts["missed_by_classifier"] == 1
    assert evaluation.errors.counts["missed_by_proposals"] == 0
    assert [row[:4] for row in evaluation.images["c"].proposals] == [tuple(LEFT), tuple(RIGHT)]
    assert fake_model.calls[0][1]["score_threshold"] == 0.01
    assert Path("e/report.html").is_file()


def test_the_first_pictures_only(evaluate: Any, voc: Path, fake_model: Any) -> None:
    done = evaluate(voc, "--first", 2, "--search-side", 64, "--members", 1, "--image-side", 384)
    assert [row["image_id"] for row in lines_of("e")] == ["a", "b"]
    assert "2 images" in done.out
    given = {"search_side": 64, "members": 1, "image_side": 384}
    assert fake_model.calls[0][1].items() >= given.items()
    assert record_of("e")["config"].items() >= {"first": 2, **given}.items()


def test_detections_of_a_run_are_measured_on_the_pictures_that_it_looked_at(evaluate: Any, voc: Path) -> None:
    evaluate(voc, "--first", 2)
    for source in ("e", "e/detections.jsonl"):
        done = evaluate(voc, "--detections", source, out=f"of-{len(source)}")
        assert "holds the first 2 images" in done.err
        assert to_plain(result_of(f"of-{len(source)}")) == to_plain(result_of("e"))
    done = evaluate(voc, "--detections", "e", "--first", 3, out="h")
    assert "3 images (0 without an object, 1 without a detection)" in done.out
    evaluate(voc, out="all")
    evaluate(voc, "--detections", "all", out="again")
    assert to_plain(result_of("again")) == to_plain(result_of("all"))
    evaluate(voc, "--detections", "all", "--first", 2, out="i")
    assert result_of("i").mean_ap == result_of("e").mean_ap


def test_compare_counts_the_pictures_that_were_run(run_cli: Any, evaluate: Any, voc: Path) -> None:
    for out, chosen in (("e", ("--first", 2)), ("f", ("--first", 2)), ("g", ())):
        evaluate(voc, *chosen, out=out)
    compared = json.loads(run_cli("compare", "e", "f", "--samples", 200, "--json").out)
    assert compared["images"] == 2
    assert compared["mean"]["a"] == pytest.approx(result_of("e").mean_ap)
    assert "differ in first: 2 and None" in run_cli("compare", "e", "g").fault


def test_compare(run_cli: Any, evaluate: Any, voc: Path, detections: Path, tmp_path: Path) -> None:
    lines = line("a", ("tomato", 0.9, LEFT), ("sky", 0.8, RIGHT)), *(line(i, ("tomato", 0.7, LEFT)) for i in "bc")
    (tmp_path / "better.jsonl").write_text("\n".join(lines))
    for source, out in ((detections, "one"), ("better.jsonl", "two")):
        evaluate(voc, "--detections", source, out=out)
    done = run_cli("compare", "one", "two", "--samples", 200)
    assert done.code == 0, done.err
    assert done.out.startswith("voc07 on 3 images, 200 paired resamples")
    assert "mean    A" in done.out
    assert "B 100.0" in done.out
    content, again = (json.loads(run_cli("compare", "one", "two", "--samples", 200, "--json").out) for _ in range(2))
    assert content["mean"]["b"] == pytest.approx(1)
    assert content["mean"]["difference"] > 0
    assert content == again  # the same seed, the same numbers


def test_compare_refuses_runs_of_other_data(
    run_cli: Any, evaluate: Any, voc: Path, detections: Path, tmp_path: Path
) -> None:
    for metric, out in (("voc07", "one"), ("voc10", "two")):
        evaluate(voc, "--detections", detections, "--metric", metric, out=out)
    assert "differ in metric: voc07 and voc10" in run_cli("compare", "one", "two").fault
    assert "nowhere" in run_cli("compare", "one", "nowhere").fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (line("a", ("giraffe", 0.5, LEFT)), "class 'giraffe' is not in the data set"),
        (line("a", ("\x1b[31mx", 0.5, LEFT)), r"class '\x1b[31mx' is not in"),
        (line("elsewhere", ("tomato", 0.5, LEFT)), "none of its images (elsewhere...) is in the data set"),
        (line("\x1b[32mid", ("tomato", 0.5, LEFT)), r"images (\x1b[32mid...) is"),
        (line("a", ("tomato", 0.5, LEFT))[:-9], "not JSON"),
        (line("a", ("tomato", float("nan"), LEFT)), "score is not a finite number"),
    ],
)
def test_faults_are_one_line(evaluate: Any, voc: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    fault = evaluate(voc, "--detections", "bad.jsonl", code=1).fault
    assert words in fault
    assert "\x1b" not in fault
    assert not Path("e").exists()


def test_faulty_rows_can_be_left_out_and_are_told(evaluate: Any, voc: Path, tmp_path: Path) -> None:
    rows = [("giraffe", 0.5, LEFT), ("tomato", float("nan"), LEFT), ("tomato", 0.5, LEFT)]
    (tmp_path / "bad.jsonl").write_text(line("a", *rows))
    done = evaluate(voc, "--detections", "bad.jsonl", "--invalid", "skip", "--unknown-classes", "skip")
    left_out = "1 ignored (class not in the data set); 1 ignored (score is not a finite number)"
    assert f"3 detections, 1 counted; {left_out}" in done.out


def test_coco_file_is_measured_as_it_stands(evaluate: Any, tmp_path: Path) -> None:
    # No pictures at all, ids from 0, and numbers that float32 would round.
    box = [0.1, 0.2, 31.999999999, 32.00000001]
    truth = write_coco(tmp_path / "truth.json", [(0, "cat")], [(0, box)])
    results = write_results(tmp_path / "results.json", (0, box))
    for path in (truth, results):
        path.write_text(path.read_text().replace('"image_id": 1', '"image_id": 0'))
    content = json.loads(truth.read_text())
    content["images"][0]["id"], content["annotations"][0]["area"] = 0, 1023.9999999
    truth.write_text(json.dumps(content))
    evaluate(truth, "--detections", results)
    result = result_of("e")
    assert (result.metric, result.mean_ap, result.numbers["ap_small"]) == ("coco", pytest.approx(1), pytest.approx(1))
    assert np.isnan(result.numbers["ap_medium"])


def test_model_of_other_classes(evaluate: Any, voc: Path) -> None:
    rename(voc, "sky", "sea")
    assert "the data set lacks classes of the model: sky" in evaluate(voc, code=1).fault
    assert "ignored (class not in the data set)" in evaluate(voc, "--unknown-classes", "skip").out
    rename(voc, "tomato", "potato\x7f[/]")
    fault = evaluate(voc, "--unknown-classes", "skip", out="f", code=1).fault
    assert "no class in common" in fault
    assert r"potato\x7f[/]" in fault


@pytest.mark.parametrize("metric", ["voc07", "regions", "images"])
def test_pictures_that_cannot_be_read(evaluate: Any, voc: Path, metric: str) -> None:
    (voc / "JPEGImages" / "b.png").write_bytes(b"no picture")
    assert "b.png" in evaluate(voc, "--metric", metric, code=1).fault
    assert "b.png" in evaluate(voc, "--metric", metric, "--on-error", "skip", out="f", code=3).err
    if metric == "voc07":
        counts = result_of("f").counts
        assert counts.images_without_detections == 2  # b, and c where there is nothing to find
        assert counts.truths_counted == 4


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_accuracy_of_regions_and_images(evaluate: Any, voc: Path, crops: int) -> None:
    done = evaluate(voc, "--metric", "regions", "--crops", crops, "--bootstrap", 50)
    content = json.loads(Path("e/classification.json").read_text())
    assert content["result"]["count"] == 4
    assert content["result"]["top1"] == pytest.approx(0.75)  # the grey tomato is background
    assert f"with {crops} crop" in done.out
    assert "top-1 accuracy 75.0 %" in done.out
    error = content["result"]["calibration_error"]
    assert 0 < error < 1
    assert f"expected calibration error {100 * error:.1f} % (15 bins)" in done.out
    # Whole pictures: only b and c show one class; b's halves are red and grey.
    evaluate(voc, "--metric", "images", "--crops", crops, out="f")
    content = json.loads(Path("f/classification.json").read_text())
    assert content["result"]["count"] == 2
    assert content["skipped"] == {"images without objects or with objects of several classes": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model m --detections found.jsonl", "exclude each other"),
        ("--detections found.jsonl --members 2", "--members, --looks, --exact and the sides are for a model's run"),
        ("--metric regions --detections found.jsonl", "measures a model"),
        ("--metric regions --looks 2", "leave the sides and --looks out"),
        ("--metric regions --image-side 384", "leave the sides and --looks out"),
        ("--metric regions --crops 5", "--crops must be 1, 10 or 144"),
        ("--split nowhere --detections found.jsonl", "nowhere"),
        ("--shard 1/2 --detections x", "--shard is for the detections of a model"),
        ("--shard 1/2 --metric regions", "--shard is for the detections of a model"),
        ("--shard 1/2 --report", "--shard is for the detections of a model"),
        ("--shard 3/2", "--shard 3/2: write i/N"),
        ("--resume", "--resume needs --shard"),
    ],
)
def test_arguments_that_do_not_go_together(
    evaluate: Any, voc: Path, detections: Path, arguments: str, words: str
) -> None:
    assert words in evaluate(voc, *arguments.split(), code=1).fault


def test_nothing_is_overwritten(evaluate: Any, voc: Path, detections: Path, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "mine.txt").write_text("mine")
    assert "e: already exists" in evaluate(voc, "--detections", detections, code=1).fault
    assert tree("e") == {"mine.txt"}


def test_ilsvrc_submission(evaluate: Any, tmp_path: Path) -> None:
    root = tmp_path / "ilsvrc"
    for folder in ("Annotations/DET/val", "Data/DET/val", "ImageSets/DET"):
        (root / folder).mkdir(parents=True)
    name = "ILSVRC2012_val_00000007"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(root / "Data/DET/val" / f"{name}.JPEG")
    xml = voc_xml(f"{name}.JPEG", (40, 60), [("n02691156", (-1, -1, 29, 39))])  # this set counts from 0
    (root / "Annotations/DET/val" / f"{name}.xml").write_text(xml)
    (root / "ImageSets/DET/val.txt").write_text(f"{name} 7\n")
    (tmp_path / "s.txt").write_text("7 2 0.5 0 0 29 39\n")
    assert "name their list with --image-list" in evaluate(root, "--detections", "s.txt", code=1).fault
    done = evaluate(root, "--detections", "s.txt", "--image-list", root / "ImageSets/DET/val.txt")
    assert "ilsvrc_det: mean AP 100.0" in done.out
    assert result_of("e").counts.detections_counted == 1
    assert len(result_of("e").classes) == 200


def test_truth_without_images(evaluate: Any, tmp_path: Path) -> None:
    truth = write_coco(tmp_path / "truth.json", [(0, "cat")], [(0, [0, 0, 5, 5])], file="")
    done = evaluate(truth, "--detections", write_results(tmp_path / "none.json"))
    assert "coco: mean AP -" in done.out
    assert "1 objects, 0 counted; 1 ignored (image not in the file)" in done.out
    some = write_results(tmp_path / "some.json", (0, [0, 0, 5, 5]))
    fault = evaluate(truth, "--detections", some, out="f", code=1).fault
    assert "none of its images (1...) is in the data set (which is empty...)" in fault


HOSTILE = {"\x1b[31mtomato\x1b]0;title\x07": r"\x1b[31mtomato\x1b]0;title\x07", "[/]": "[/]", "[red]a": "[red]a"}


def test_names_cannot_steer_a_terminal(run_cli: Any, evaluate: Any, tmp_path: Path) -> None:
    """Class names of a COCO truth would steer a terminal or break its markup; the results are perfect."""
    classes = [*enumerate([*HOSTILE, "\ud800 lone"])]
    objects: list[Any] = [(key, [0, 0, 30, 40]) for key, _ in classes]
    truth = write_coco(tmp_path / "truth.json", classes, objects, file="\x1b[32m.jpg")
    done = evaluate(truth, "--detections", write_results(tmp_path / "results.json", *objects), "--report")
    compared = run_cli("compare", "e", "e", "--samples", 100)
    assert compared.code == 0, compared.err
    for out in (done.out, compared.out):
        assert all(name in out for name in HOSTILE.values())
        assert "? lone" in out
        assert all(line.isprintable() for line in out.splitlines())
    places = {line.index("100.0") for line in done.out.splitlines() if line.startswith("  ")}
    assert len(places) == 1  # still a table
    content = json.loads(run_cli("compare", "e", "e", "--samples", 100, "--json").out)
    assert [row["name"] for row in content["classes"]] == [*HOSTILE, "? lone"]
    assert result_of("e").class_names == (*HOSTILE, "? lone")
    assert "? lone," in Path("e/per_class.csv").read_text(encoding="utf-8")
    assert run_cli("report", "e", "--out", "again.html").code == 0


def test_the_name_of_a_data_set_is_shown_escaped(run_cli: Any, voc: Path, tmp_path: Path) -> None:
    folder = voc.rename(tmp_path / "a\x1b[31m[red]$x")
    done = run_cli("evaluate-proposals", "--data", folder, "--methods", "single", "--limit", 1, "--out", "p")
    assert done.code == 0, done.err
    assert done.out.startswith(r"a\x1b[31m[red]$x: 2 annotated boxes")


def test_a_model_names_classes_and_not_their_ids(evaluate: Any, picture: Any, tmp_path: Path) -> None:
    picture("photos/a.png", RED, BLUE)
    classes = [("sky", "tomato"), ("tomato", "sky")]  # the other's name as id
    truth = write_coco(tmp_path / "truth.json", classes, [("sky", [0, 0, 30, 40]), ("tomato", [30, 0, 30, 40])])
    for source, out in (((), "e"), (("--detections", "e"), "f")):
        done = evaluate(truth, "--metric", "coco", "--images", tmp_path / "photos", *source, out=out)
        assert "coco: mean AP 100.0" in done.out


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[", "not valid YAML"),
        ("config: 3", "not a run of detector evaluate"),
        ("config: {inputs: []}", "not a run of detector evaluate"),
        ("config: {data: [x], metric: coco, detections: d}", "data: Input should be a valid string"),
        ("config: {data: d, metric: magic, detections: d}", "metric: Input should be 'voc07', 'voc10', 'coco' or"),
        ("config: {? [a] : 1}", "not valid YAML"),
    ],
)
def test_compare_names_the_fault_of_a_configuration(run_cli: Any, tmp_path: Path, config: str, words: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config)
    assert words in run_cli("compare", "run", "run").fault


@pytest.mark.parametrize("first", ["-1", "0", "true", "2.5", "[1]", "x", "*a"])
def test_a_faulty_configuration_beside_detections_limits_nothing(
    evaluate: Any, voc: Path, tmp_path: Path, first: str
) -> None:
    evaluate(voc, "--first", 2, out="run")
    file = tmp_path / "run" / "config.yaml"
    text = file.read_text()
    assert "  first: 2\n" in text
    file.write_text(text.replace("  first: 2\n", f"  first: {first}\n"))
    assert "3 images" in evaluate(voc, "--detections", "run").out


def test_a_folder_of_classes_is_measured_by_its_images(evaluate: Any, picture: Any) -> None:
    picture("sorted/tomato/a.png", RED, RED)
    picture("sorted/sky/b.png", BLUE, BLUE)
    fault = evaluate("sorted", code=1).fault
    assert "sorted has no boxes" in fault
    assert "--metric images" in fault
    evaluate("sorted", "--metric", "images")


def test_compare_refuses_detections_that_changed_or_are_gone(
    run_cli: Any, evaluate: Any, voc: Path, detections: Path, tmp_path: Path
) -> None:
    (tmp_path / "devkit").mkdir()
    (tmp_path / "devkit" / "comp3_det_val_tomato.txt").write_text("a 0.9 1 1 30 40\n")
    (tmp_path / "devkit" / "comp3_det_val_sky.txt").write_text("a 0.9 31 1 60 40\n")
    for out, source in (("one", detections), ("two", tmp_path / "devkit")):
        evaluate(voc, "--detections", source, out=out)
    assert record_of("one")["config"]["detections_sha256"] == hashlib.sha256(detections.read_bytes()).hexdigest()
    arguments = ("compare", "one", "two", "--samples", 200)
    before = detections.read_text()
    assert run_cli(*arguments).code == 0
    detections.write_text(before.replace("0.9", "0.8"))
    assert "one: the detections that it measured have changed since" in run_cli(*arguments).fault
    detections.unlink()
    assert "one: the detections that it measured are gone" in run_cli(*arguments).fault
    detections.write_text(before)
    assert run_cli(*arguments).code == 0
    (tmp_path / "devkit" / "comp3_det_val_sky.txt").unlink()
    assert "two: the detections that it measured have changed since" in run_cli(*arguments).fault


# A training reader would leave out the second object, which is no pixel wide.
TWO_OBJECTS: list[Any] = [(0, [0, 0, 30, 40]), (0, [40, 0, 0, 40])]
VAL, TRAIN = "annotations/instances_val2017.json", "annotations/instances_train2017.json"


@pytest.mark.parametrize(
    ("files", "split", "recorded"),
    [
        ([VAL], (), "val2017"),
        ([VAL], ("--split", "val"), "val2017"),
        ([VAL, TRAIN], (), "val2017"),
        ([VAL, TRAIN], ("--split", "val"), "val2017"),
        (["annotations/val.json"], (), "val"),
        (["val/_annotations.coco.json", "train/_annotations.coco.json"], (), "val"),
        (["truth.json"], (), "truth"),
    ],
)
def test_the_annotation_file_of_a_coco_folder_is_measured_as_it_stands(
    run_cli: Any, evaluate: Any, picture: Any, tmp_path: Path, files: list[str], split: tuple[str, ...], recorded: str
) -> None:
    for file in files:
        write_coco(tmp_path / "set" / file, [(0, "tomato")], TWO_OBJECTS)
    picture("set/images/a.png", RED, GREY)
    results = write_results(tmp_path / "results.json", TWO_OBJECTS[0])
    unknown = ("--unknown-classes", "skip")
    assert "2 objects, 2 counted" in evaluate("set", *split, *unknown, "--detections", results, out="given").out
    assert "1 objects, 1 counted" in evaluate("set", *split, *unknown, out="run").out
    assert [record_of(out)["config"]["split"] for out in ("given", "run")] == [recorded] * 2
    done = run_cli("compare", "given", "run", "--samples", 100)
    assert done.code == 0, done.err


def test_images_that_are_named_for_a_coco_file_must_be_there(evaluate: Any, tmp_path: Path) -> None:
    truth = write_coco(tmp_path / "truth.json", [(0, "tomato")], TWO_OBJECTS)
    arguments = (truth, "--detections", write_results(tmp_path / "results.json"))
    assert "typo" in evaluate(*arguments, "--images", "typo", code=1).fault
    evaluate(*arguments)
    truth.write_text("{}")
    assert "no list `images`" in evaluate(*arguments, out="f", code=1).fault
