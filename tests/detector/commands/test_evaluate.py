"""``detector evaluate`` and ``detector compare`` on small data sets in several formats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from PIL import Image

from detector.commands.options import Metric
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.assemble import score
from detector.evaluation.plain import to_plain
from detector.evaluation.result import DEFAULT_METRIC, METRICS

RED, BLUE, GREY = (250, 10, 10), (20, 20, 220), (90, 90, 90)
XML = (
    "<annotation><filename>{name}.png</filename><size><width>60</width><height>40</height></size>{objects}</annotation>"
)
OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>1</ymin>"
    "<xmax>{x2}</xmax><ymax>40</ymax></bndbox></object>"
)


@pytest.fixture
def voc(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Three pictures: tomato and sky, tomato, nothing but grey with a tomato in the annotation; ids a, b, c."""
    root = tmp_path / "set"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    sides = {"a": (RED, BLUE), "b": (RED, GREY), "c": (GREY, GREY)}
    tomato = OBJECT.format(name="tomato", difficult=0, x1=1, x2=30)
    sky = OBJECT.format(name="sky", difficult=0, x1=31, x2=60)
    objects = {"a": tomato + sky, "b": tomato, "c": tomato}
    for name, (left, right) in sides.items():
        picture(f"set/JPEGImages/{name}.png", left, right)
        (root / "Annotations" / f"{name}.xml").write_text(XML.format(name=name, objects=objects[name]))
    (root / "ImageSets/Main/val.txt").write_text("a\nb\nc\n")
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    return root


def line(image: str, *rows: tuple[str, float, list[float]]) -> str:
    """A line of detections.jsonl."""
    entries = [{"class_name": name, "score": score, "box": box, "label": 0} for name, score, box in rows]
    record: dict[str, Any] = {"image_id": image, "path": f"{image}.png", "width": 60, "height": 40}
    return json.dumps({**record, "detections": entries})


LEFT, RIGHT = [0.0, 0.0, 30.0, 40.0], [30.0, 0.0, 60.0, 40.0]


@pytest.fixture
def detections(tmp_path: Path) -> Path:
    """Tomatoes of a and b found, the sky taken for a tomato."""
    path = tmp_path / "found.jsonl"
    path.write_text(
        "\n".join([line("a", ("tomato", 0.9, LEFT), ("tomato", 0.8, RIGHT)), line("b", ("tomato", 0.7, LEFT))])
    )
    return path


def test_every_metric_of_detection_is_offered() -> None:
    assert [*get_args(Metric)] == [*METRICS, "regions", "images"]
    assert set(DEFAULT_METRIC.values()) <= set(METRICS)
    for metric in METRICS:
        assert score(metric, {}, {}, ("cat",)).metric == metric


def test_detections_from_a_file(run_cli: Callable[..., Any], voc: Path, detections: Path, tmp_path: Path) -> None:
    done = run_cli(
        "evaluate", "--data", voc, "--detections", detections, "--metric", "voc10", "--out", "e", "--bootstrap", 50
    )
    assert done.code == 0, done.err
    evaluation = Evaluation.load(tmp_path / "e" / "evaluation.json")
    # Tomatoes: true, false, true of three; precision 1 at 1/3, 2/3 at 2/3.
    assert evaluation.result.classes[evaluation.result.class_names.index("tomato")].ap == pytest.approx(1 / 3 + 2 / 9)
    assert evaluation.result.mean_ap == pytest.approx((1 / 3 + 2 / 9) / 2)
    assert evaluation.errors.counts["classification"] == 1
    assert evaluation.errors.counts["missed"] == 1
    assert evaluation.result.interval is not None
    assert "voc10: mean AP 27.8" in done.out
    assert "3 images (0 without an object, 1 without a detection)" in done.out
    assert "4 objects, 4 counted" in done.out
    assert "3 detections, 3 counted" in done.out
    assert Path(evaluation.images["c"].path) == (voc / "JPEGImages" / "c.png").resolve()
    assert (tmp_path / "e" / "per_class.csv").read_text().count("\n") == 4
    config = yaml.safe_load((tmp_path / "e" / "config.yaml").read_text())["config"]
    assert (config["metric"], config["split"]) == ("voc10", "val")


def test_a_model_is_run_and_its_detections_kept(
    run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path
) -> None:
    done = run_cli("evaluate", "--data", voc, "--out", "e", "--bootstrap", 0, "--report")
    assert done.code == 0, done.err
    evaluation = Evaluation.load(tmp_path / "e" / "evaluation.json")
    assert evaluation.result.metric == "voc07"
    row = evaluation.result.classes[evaluation.result.class_names.index("sky")]
    assert row.ap == pytest.approx(1)
    assert len((tmp_path / "e" / "detections.jsonl").read_text().splitlines()) == 3
    # The proposals are known, so the tomato that is grey is the classifier's fault.
    assert evaluation.errors.counts["missed_by_classifier"] == 1
    assert evaluation.errors.counts["missed_by_proposals"] == 0
    assert [row[:4] for row in evaluation.images["c"].proposals] == [tuple(LEFT), tuple(RIGHT)]
    assert fake_model.calls[0][1]["score_threshold"] == 0.01
    assert (tmp_path / "e" / "report.html").is_file()


def test_the_first_pictures_only(run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path) -> None:
    chosen = ("--first", 2, "--search-side", 64, "--members", 1)
    done = run_cli("evaluate", "--data", voc, "--out", "e", "--bootstrap", 0, *chosen)
    assert done.code == 0, done.err
    assert [json.loads(row)["image_id"] for row in (tmp_path / "e" / "detections.jsonl").read_text().splitlines()] == [
        "a",
        "b",
    ]
    assert "2 images" in done.out
    assert (fake_model.calls[0][1]["search_side"], fake_model.calls[0][1]["members"]) == (64, 1)
    refused = run_cli("evaluate", "--data", voc, "--detections", "e", "--members", 2)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "--members, --exact and the sides are for a model's run" in refused.err


@pytest.mark.parametrize("metric", ["voc07", "regions"])
def test_an_image_side_is_the_model_s_or_refused(
    run_cli: Callable[..., Any], voc: Path, fake_model: Any, metric: str
) -> None:
    done = run_cli("evaluate", "--data", voc, "--bootstrap", 0, "--metric", metric, "--image-side", 384)
    if metric == "voc07":
        assert done.code == 0, done.err
        assert fake_model.calls[0][1]["image_side"] == 384
    else:
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "leave the sides out" in done.err


def test_detections_of_a_run_are_measured_on_the_pictures_that_it_looked_at(
    run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path
) -> None:
    def result(out: str) -> dict[str, Any]:
        return to_plain(Evaluation.load(tmp_path / out / "evaluation.json").result)

    arguments = ("evaluate", "--data", voc, "--bootstrap", 0)
    assert run_cli(*arguments, "--first", 2, "--out", "e").code == 0
    for out, source in (("f", "e"), ("g", tmp_path / "e" / "detections.jsonl")):
        done = run_cli(*arguments, "--detections", source, "--out", out)
        assert (done.code, "holds the first 2 images" in done.err) == (0, True), done.err
        assert result(out) == result("e")
    done = run_cli(*arguments, "--detections", "e", "--first", 3, "--out", "h")
    assert (done.code, "3 images (0 without an object, 1 without a detection)" in done.out) == (0, True), done.out
    assert run_cli(*arguments, "--out", "all").code == 0
    assert run_cli(*arguments, "--detections", "all", "--first", 2, "--out", "i").code == 0
    assert result("i")["mean_ap"] == result("e")["mean_ap"]


def test_compare_counts_the_pictures_that_were_run(
    run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path
) -> None:
    for out, chosen in (("e", ("--first", 2)), ("f", ("--first", 2)), ("g", ())):
        assert run_cli("evaluate", "--data", voc, "--out", out, "--bootstrap", 0, *chosen).code == 0
    done = run_cli("compare", "e", "f", "--samples", 200, "--json")
    assert json.loads(done.out)["images"] == 2
    mean = Evaluation.load(tmp_path / "e" / "evaluation.json").result.mean_ap
    assert json.loads(done.out)["mean"]["a"] == pytest.approx(mean)
    assert "differ in first: 2 and None" in run_cli("compare", "e", "g").err


def test_detections_of_a_run_give_the_same_numbers(
    run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path
) -> None:
    assert run_cli("evaluate", "--data", voc, "--out", "e", "--bootstrap", 0).code == 0
    assert run_cli("evaluate", "--data", voc, "--detections", "e", "--out", "f", "--bootstrap", 0).code == 0
    first, second = (Evaluation.load(tmp_path / run / "evaluation.json").result for run in "ef")
    assert to_plain(first) == to_plain(second)


def test_compare(run_cli: Callable[..., Any], voc: Path, detections: Path, tmp_path: Path) -> None:
    better = tmp_path / "better.jsonl"
    better.write_text(
        "\n".join(
            [
                line("a", ("tomato", 0.9, LEFT), ("sky", 0.8, RIGHT)),
                line("b", ("tomato", 0.7, LEFT)),
                line("c", ("tomato", 0.7, LEFT)),
            ]
        )
    )
    for source, out in ((detections, "one"), (better, "two")):
        done = run_cli("evaluate", "--data", voc, "--detections", source, "--out", out, "--bootstrap", 0)
        assert done.code == 0, done.err
    done = run_cli("compare", "one", "two", "--samples", 200)
    assert done.code == 0, done.err
    assert done.out.startswith("voc07 on 3 images, 200 paired resamples")
    assert "mean    A" in done.out
    assert "B 100.0" in done.out
    content = json.loads(run_cli("compare", "one", "two", "--samples", 200, "--json").out)
    assert content["mean"]["b"] == pytest.approx(1)
    assert content["mean"]["difference"] > 0
    done = run_cli("compare", "one", "two", "--samples", 200, "--json")
    assert json.loads(done.out) == content  # the same seed, the same numbers


def test_compare_refuses_runs_of_other_data(
    run_cli: Callable[..., Any], voc: Path, detections: Path, tmp_path: Path
) -> None:
    for metric, out in (("voc07", "one"), ("voc10", "two")):
        run_cli("evaluate", "--data", voc, "--detections", detections, "--metric", metric, "--out", out)
    done = run_cli("compare", "one", "two")
    assert done.code == 1
    assert "differ in metric: voc07 and voc10" in done.err
    assert run_cli("compare", "one", "nowhere").code == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("config: {inputs: []}")
    assert "not a run of detector evaluate" in run_cli("compare", "one", "other").err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (line("a", ("giraffe", 0.5, LEFT)), "class 'giraffe' is not in the data set"),
        (line("elsewhere", ("tomato", 0.5, LEFT)), "none of its images (elsewhere...) is in the data set"),
        (line("a", ("tomato", 0.5, LEFT))[:-9], "not JSON"),
        (line("a", ("tomato", float("nan"), LEFT)), "score is not a finite number"),
    ],
)
def test_faults_are_one_line(run_cli: Callable[..., Any], voc: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    done = run_cli("evaluate", "--data", voc, "--detections", "bad.jsonl", "--out", "e")
    assert done.code == 1
    assert len(done.error_lines) == 1
    assert words in done.err
    assert not (tmp_path / "e").exists()


def test_faulty_rows_can_be_left_out_and_are_told(run_cli: Callable[..., Any], voc: Path, tmp_path: Path) -> None:
    rows = [("giraffe", 0.5, LEFT), ("tomato", float("nan"), LEFT), ("tomato", 0.5, LEFT)]
    (tmp_path / "bad.jsonl").write_text(line("a", *rows))
    done = run_cli(
        *("evaluate", "--data", voc, "--detections", "bad.jsonl", "--out", "e", "--bootstrap", 0),
        *("--invalid", "skip", "--unknown-classes", "skip"),
    )
    assert done.code == 0, done.err
    expected = (
        "3 detections, 1 counted; 1 ignored (class not in the data set); 1 ignored (score is not a finite number)"
    )
    assert expected in done.out


def test_coco_file_is_measured_as_it_stands(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    # No pictures at all, ids from 0, and numbers that float32 would round.
    box = [0.1, 0.2, 31.999999999, 32.00000001]
    truth = {
        "images": [{"id": 0, "file_name": "x.jpg", "width": 60, "height": 40}],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": box, "area": 1023.9999999, "iscrowd": 0}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    results = [{"image_id": 0, "category_id": 0, "bbox": box, "score": 0.3}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    done = run_cli("evaluate", "--data", "truth.json", "--detections", "results.json", "--out", "e", "--bootstrap", 0)
    assert done.code == 0, done.err
    result = Evaluation.load(tmp_path / "e" / "evaluation.json").result
    assert result.metric == "coco"
    assert result.mean_ap == pytest.approx(1)
    assert result.numbers["ap_small"] == pytest.approx(1)
    assert np.isnan(result.numbers["ap_medium"])


def test_model_of_other_classes(run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path) -> None:
    for xml in (voc / "Annotations").glob("*.xml"):
        xml.write_text(xml.read_text().replace("sky", "sea"))
    done = run_cli("evaluate", "--data", voc, "--out", "e")
    assert done.code == 1
    assert "the data set lacks classes of the model: sky" in done.err
    done = run_cli("evaluate", "--data", voc, "--out", "e", "--unknown-classes", "skip", "--bootstrap", 0)
    assert done.code == 0, done.err
    assert "ignored (class not in the data set)" in done.out
    for xml in (voc / "Annotations").glob("*.xml"):
        xml.write_text(xml.read_text().replace("tomato", "potato"))
    done = run_cli("evaluate", "--data", voc, "--out", "f", "--unknown-classes", "skip")
    assert "no class in common" in done.err


def test_pictures_that_cannot_be_read(run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path) -> None:
    (voc / "JPEGImages" / "b.png").write_bytes(b"no picture")
    done = run_cli("evaluate", "--data", voc, "--out", "e")
    assert done.code == 1
    done = run_cli("evaluate", "--data", voc, "--out", "f", "--on-error", "skip", "--bootstrap", 0)
    assert done.code == 3
    result = Evaluation.load(tmp_path / "f" / "evaluation.json").result
    assert result.counts.images_without_detections == 2  # b, and c where there is nothing to find
    assert result.counts.truths_counted == 4


@pytest.mark.parametrize("metric", ["regions", "images"])
def test_pictures_that_cannot_be_named(
    run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path, metric: str
) -> None:
    (voc / "JPEGImages" / "b.png").write_bytes(b"no picture")
    command = ("evaluate", "--data", voc, "--metric", metric, "--bootstrap", 0)
    assert run_cli(*command, "--out", "e").code == 1
    done = run_cli(*command, "--out", "f", "--on-error", "skip")
    assert done.code == 3, done.err
    assert "b.png" in done.err


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_accuracy_of_regions_and_images(
    run_cli: Callable[..., Any], voc: Path, fake_model: Any, tmp_path: Path, crops: int
) -> None:
    done = run_cli("evaluate", "--data", voc, "--metric", "regions", "--crops", crops, "--out", "e", "--bootstrap", 50)
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "e" / "classification.json").read_text())
    assert content["result"]["count"] == 4
    assert content["result"]["top1"] == pytest.approx(0.75)  # the grey tomato is background
    assert f"with {crops} crop" in done.out
    assert "top-1 accuracy 75.0 %" in done.out
    error = content["result"]["calibration_error"]
    assert 0 < error < 1
    assert f"expected calibration error {100 * error:.1f} % (15 bins)" in done.out
    # Whole pictures: only b and c show one class; b's halves are red and grey.
    done = run_cli("evaluate", "--data", voc, "--metric", "images", "--crops", crops, "--out", "f")
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "f" / "classification.json").read_text())
    assert content["result"]["count"] == 2
    assert content["skipped"] == {"images without objects or with objects of several classes": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "m", "--detections", "found.jsonl"], "exclude each other"),
        (["--metric", "regions", "--detections", "found.jsonl"], "measures a model"),
        (["--metric", "regions", "--crops", "5"], "--crops must be 1, 10 or 144"),
        (["--split", "nowhere", "--detections", "found.jsonl"], "nowhere"),
    ],
)
def test_arguments_that_do_not_go_together(
    run_cli: Callable[..., Any], voc: Path, detections: Path, arguments: list[str], words: str
) -> None:
    done = run_cli("evaluate", "--data", voc, *arguments)
    assert done.code == 1
    assert words in done.err


def test_nothing_is_overwritten(run_cli: Callable[..., Any], voc: Path, detections: Path, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "mine.txt").write_text("mine")
    done = run_cli("evaluate", "--data", voc, "--detections", detections, "--out", "e")
    assert done.code == 1
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["mine.txt"]


def test_ilsvrc_submission(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "ilsvrc"
    for folder in ("Annotations/DET/val", "Data/DET/val", "ImageSets/DET"):
        (root / folder).mkdir(parents=True)
    name = "ILSVRC2012_val_00000007"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(root / "Data/DET/val" / f"{name}.JPEG")
    item = OBJECT.format(name="n02691156", difficult=0, x1=0, x2=29).replace("<ymin>1", "<ymin>0").replace("40", "39")
    (root / "Annotations/DET/val" / f"{name}.xml").write_text(XML.format(name=name, objects=item))
    (root / "ImageSets/DET/val.txt").write_text(f"{name} 7\n")
    (tmp_path / "s.txt").write_text("7 2 0.5 0 0 29 39\n")
    arguments = ["evaluate", "--data", root, "--detections", "s.txt", "--bootstrap", 0]
    assert "name their list with --image-list" in run_cli(*arguments, "--out", "d").err
    done = run_cli(*arguments, "--out", "e", "--image-list", root / "ImageSets/DET/val.txt")
    assert done.code == 0, done.err
    assert "ilsvrc_det: mean AP 100.0" in done.out
    result = Evaluation.load(tmp_path / "e" / "evaluation.json").result
    assert result.counts.detections_counted == 1
    assert len(result.classes) == 200


def test_truth_without_images(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    annotation = {"id": 1, "image_id": 3, "category_id": 0, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}
    truth = {"images": [], "categories": [{"id": 0, "name": "cat"}], "annotations": [annotation]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "none.json").write_text("[]")
    done = run_cli("evaluate", "--data", "truth.json", "--detections", "none.json", "--out", "e")
    assert done.code == 0, done.err
    assert "coco: mean AP -" in done.out
    assert "1 objects, 0 counted; 1 ignored (image not in the file)" in done.out
    row = {"image_id": 3, "category_id": 0, "bbox": [0, 0, 5, 5], "score": 0.5}
    (tmp_path / "some.json").write_text(json.dumps([row]))
    done = run_cli("evaluate", "--data", "truth.json", "--detections", "some.json", "--out", "f")
    assert done.code == 1
    assert "none of its images (3...) is in the data set (which is empty...)" in done.err


HOSTILE = {"\x1b[31mtomato\x1b]0;title\x07": r"\x1b[31mtomato\x1b]0;title\x07", "[/]": "[/]", "[red]a": "[red]a"}


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, Path]:
    """A COCO truth whose class names would steer a terminal or break its markup, and perfect results for it."""
    names = [*HOSTILE, "\ud800 lone"]
    truth = {
        "images": [{"id": 1, "file_name": "\x1b[32m.jpg", "width": 60, "height": 40}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": i, "bbox": [0, 0, 30, 40], "area": 1200, "iscrowd": 0}
            for i in range(len(names))
        ],
    }
    rows = [{"image_id": 1, "category_id": i, "bbox": [0, 0, 30, 40], "score": 0.5} for i in range(len(names))]
    paths = tmp_path / "truth.json", tmp_path / "results.json"
    for path, content in zip(paths, (truth, rows), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_names_cannot_steer_a_terminal(run_cli: Callable[..., Any], hostile: tuple[Path, Path], tmp_path: Path) -> None:
    truth, results = hostile
    done = run_cli("evaluate", "--data", truth, "--detections", results, "--out", "e", "--bootstrap", 0, "--report")
    assert done.code == 0, done.err
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
    evaluation = Evaluation.load(tmp_path / "e" / "evaluation.json")
    assert evaluation.result.class_names == (*HOSTILE, "? lone")
    assert "? lone," in (tmp_path / "e" / "per_class.csv").read_text(encoding="utf-8")
    assert run_cli("report", "e", "--out", "again.html").code == 0


def test_names_in_messages_cannot_steer_a_terminal(
    run_cli: Callable[..., Any], hostile: tuple[Path, Path], voc: Path, fake_model: Any, tmp_path: Path
) -> None:
    truth, _ = hostile
    (tmp_path / "bad.jsonl").write_text(line("\x1b[32mid", ("\x1b[31mx", 0.5, LEFT)))
    (tmp_path / "other.jsonl").write_text(line("\x1b[32mid", ("[/]", 0.5, LEFT)))
    for file, words in (("bad.jsonl", r"class '\x1b[31mx' is not in"), ("other.jsonl", r"images (\x1b[32mid...) is")):
        done = run_cli("evaluate", "--data", truth, "--detections", file, "--out", "e")
        assert (done.code, len(done.error_lines)) == (1, 1), done.err
        assert words in done.err
        assert "\x1b" not in done.err
    for xml in (voc / "Annotations").glob("*.xml"):
        xml.write_text(xml.read_text().replace("tomato", "potato\x7f[/]").replace("sky", "sea"))
    done = run_cli("evaluate", "--data", voc, "--out", "f")
    assert "no class in common" in done.err
    assert r"potato\x7f[/]" in done.err


def test_the_name_of_a_data_set_is_shown_escaped(run_cli: Callable[..., Any], voc: Path, tmp_path: Path) -> None:
    folder = voc.rename(tmp_path / "a\x1b[31m[red]$x")
    done = run_cli("evaluate-proposals", "--data", folder, "--methods", "single", "--limit", 1, "--out", "p")
    assert done.code == 0, done.err
    assert done.out.startswith(r"a\x1b[31m[red]$x: 2 annotated boxes")


def test_a_model_names_classes_and_not_their_ids(
    run_cli: Callable[..., Any], fake_model: Any, picture: Callable[..., Path], tmp_path: Path
) -> None:
    picture("photos/a.png", RED, BLUE)
    objects = (("tomato", "sky", [0, 0, 30, 40]), ("sky", "tomato", [30, 0, 30, 40]))  # name, and the other's as id
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
        "categories": [{"id": key, "name": name} for name, key, _ in objects],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": key, "bbox": box, "area": 1200, "iscrowd": 0}
            for i, (_, key, box) in enumerate(objects, 1)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    arguments = ("--metric", "coco", "--images", tmp_path / "photos", "--bootstrap", 0)
    for source, out in (((), "e"), (("--detections", "e"), "f")):
        done = run_cli("evaluate", "--data", "truth.json", *arguments, *source, "--out", out)
        assert done.code == 0, done.err
        assert "coco: mean AP 100.0" in done.out


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[", "not valid YAML"),
        ("config: 3", "not a run of detector evaluate"),
        ("config: {data: [x], metric: coco, detections: d}", "data: Input should be a valid string"),
        ("config: {data: d, metric: magic, detections: d}", "metric: Input should be 'voc07', 'voc10', 'coco' or"),
        ("config: {? [a] : 1}", "not valid YAML"),
    ],
)
def test_compare_names_the_fault_of_a_configuration(
    run_cli: Callable[..., Any], tmp_path: Path, config: str, words: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config)
    done = run_cli("compare", "run", "run")
    assert (done.code, len(done.error_lines)) == (1, 1)
    assert words in done.err


@pytest.mark.parametrize("first", ["-1", "0", "true", "2.5", "[1]", "x", "*a"])
def test_a_faulty_configuration_beside_detections_limits_nothing(
    run_cli: Callable[..., Any], voc: Path, tmp_path: Path, first: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(f"verb: evaluate\nconfig: {{first: {first}}}\n")
    (tmp_path / "run" / "detections.jsonl").write_text(line("a", ("tomato", 0.9, LEFT)))
    done = run_cli("evaluate", "--data", voc, "--detections", "run", "--out", "e", "--bootstrap", 0)
    assert done.code == 0, done.err
    assert "3 images" in done.out


def test_a_folder_of_classes_is_measured_by_its_images(
    run_cli: Callable[..., Any], picture: Callable[..., Path], fake_model: Any, tmp_path: Path
) -> None:
    picture("sorted/tomato/a.png", RED, RED)
    picture("sorted/sky/b.png", BLUE, BLUE)
    done = run_cli("evaluate", "--data", "sorted", "--out", "e")
    assert (done.code, len(done.error_lines)) == (1, 1), done.err
    assert "sorted has no boxes" in done.err
    assert "--metric images" in done.err
    done = run_cli("evaluate", "--data", "sorted", "--metric", "images", "--out", "e")
    assert done.code == 0, done.err


def test_compare_refuses_detections_that_changed_or_are_gone(
    run_cli: Callable[..., Any], voc: Path, detections: Path, tmp_path: Path
) -> None:
    (tmp_path / "devkit").mkdir()
    (tmp_path / "devkit" / "comp3_det_val_tomato.txt").write_text("a 0.9 1 1 30 40\n")
    (tmp_path / "devkit" / "comp3_det_val_sky.txt").write_text("a 0.9 31 1 60 40\n")
    for out, source in (("one", detections), ("two", tmp_path / "devkit")):
        assert run_cli("evaluate", "--data", voc, "--detections", source, "--out", out, "--bootstrap", 0).code == 0
    config = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())["config"]
    assert config["detections_sha256"] == hashlib.sha256(detections.read_bytes()).hexdigest()
    arguments = ("compare", "one", "two", "--samples", 200)
    before = detections.read_text()
    assert run_cli(*arguments).code == 0
    detections.write_text(before.replace("0.9", "0.8"))
    done = run_cli(*arguments)
    assert (done.code, len(done.error_lines)) == (1, 1)
    assert "one: the detections that it measured have changed since" in done.err
    detections.unlink()
    done = run_cli(*arguments)
    assert (done.code, len(done.error_lines)) == (1, 1)
    assert "one: the detections that it measured are gone" in done.err
    detections.write_text(before)
    assert run_cli(*arguments).code == 0
    (tmp_path / "devkit" / "comp3_det_val_sky.txt").unlink()
    assert "two: the detections that it measured have changed since" in run_cli(*arguments).err


COCO_IMAGE = {"id": 1, "file_name": "a.png", "width": 60, "height": 40}
# A training reader would leave out the second object, which is no pixel wide.
COCO_OBJECTS = [
    {"id": i, "image_id": 1, "category_id": 0, "bbox": box, "area": 1200, "iscrowd": 0}
    for i, box in enumerate(([0, 0, 30, 40], [40, 0, 0, 40]))
]
COCO = {"images": [COCO_IMAGE], "categories": [{"id": 0, "name": "tomato"}], "annotations": COCO_OBJECTS}


@pytest.mark.parametrize(
    ("files", "split", "recorded"),
    [
        (["annotations/instances_val2017.json"], (), "val2017"),
        (["annotations/instances_val2017.json"], ("--split", "val"), "val2017"),
        (["annotations/instances_val2017.json", "annotations/instances_train2017.json"], (), "val2017"),
        (["annotations/instances_val2017.json", "annotations/instances_train2017.json"], ("--split", "val"), "val2017"),
        (["annotations/val.json"], (), "val"),
        (["val/_annotations.coco.json", "train/_annotations.coco.json"], (), "val"),
        (["truth.json"], (), "truth"),
    ],
)
def test_the_annotation_file_of_a_coco_folder_is_measured_as_it_stands(
    run_cli: Callable[..., Any],
    picture: Callable[..., Path],
    fake_model: Any,
    tmp_path: Path,
    files: list[str],
    split: tuple[str, ...],
    recorded: str,
) -> None:
    for file in files:
        (tmp_path / "set" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / file).write_text(json.dumps(COCO))
    picture("set/images/a.png", RED, GREY)
    row = {"image_id": 1, "category_id": 0, "bbox": [0, 0, 30, 40], "score": 0.5}
    (tmp_path / "results.json").write_text(json.dumps([row]))
    arguments = ("evaluate", "--data", "set", *split, "--bootstrap", 0, "--unknown-classes", "skip")
    done = run_cli(*arguments, "--detections", "results.json", "--out", "given")
    assert done.code == 0, done.err
    assert "2 objects, 2 counted" in done.out
    done = run_cli(*arguments, "--out", "run")
    assert done.code == 0, done.err
    assert "1 objects, 1 counted" in done.out
    for out in ("given", "run"):
        assert yaml.safe_load((tmp_path / out / "config.yaml").read_text())["config"]["split"] == recorded
    done = run_cli("compare", "given", "run", "--samples", 100)
    assert done.code == 0, done.err


def test_images_that_are_named_for_a_coco_file_must_be_there(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(COCO))
    (tmp_path / "results.json").write_text("[]")
    arguments = ("evaluate", "--data", "truth.json", "--detections", "results.json", "--bootstrap", 0)
    done = run_cli(*arguments, "--images", "typo", "--out", "e")
    assert (done.code, len(done.error_lines)) == (1, 1), done.err
    assert "typo" in done.err
    assert run_cli(*arguments, "--out", "e").code == 0
    (tmp_path / "truth.json").write_text("{}")
    done = run_cli(*arguments, "--out", "f")
    assert (done.code, len(done.error_lines)) == (1, 1), done.err
    assert "no list `images`" in done.err


def test_the_command_of_a_run_can_be_pasted(
    run_cli: Callable[..., Any], voc: Path, detections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["detector", "evaluate", "--data", "my photos"])
    assert run_cli("evaluate", "--data", voc, "--detections", detections, "--out", "e", "--bootstrap", 0).code == 0
    command = Evaluation.load(tmp_path / "e" / "evaluation.json").info["command"]
    assert command == "detector evaluate --data 'my photos'"
