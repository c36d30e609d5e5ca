"""The report's page, parsed: what it says, and that it says it safely."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boxes import found_of, truth_of
from made_up_evaluation import CLASSES, COST, HOSTILE, HOSTILE_FILE, made_up_evaluation
from PIL import Image

from detector.evaluation.analysis_types import ErrorExample, Evaluation
from detector.evaluation.plain import from_plain
from detector.evaluation.voc import evaluate_voc
from detector.report.page_data import gallery, interpolated, kind_of, mean_curve, page_data
from detector.report.pictures import Sources
from detector.report.sections import counted, error_kinds
from detector.report.write import render, write_report
from proposals.errors import UserError


class Page(HTMLParser):
    """Tags with their attributes, the text of table rows and headings, and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text: list[str] = []
        self.open: list[str] = []
        self._script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id") or "code"
            self.scripts[self._script] = ""
        if tag not in ("meta", "input", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags are nested"
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] += data
        elif self.open and self.open[-1] != "style":
            self.text.append(data)

    def data(self, name: str = "data") -> Any:
        return json.loads(self.scripts[name])

    def find(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and attributes.items() <= a.items()]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return made_up_evaluation(tmp_path_factory.mktemp("pictures"), n_images=14)


@pytest.fixture(scope="module")
def page_file(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(evaluation, out, config=f"name: {HOSTILE}\n")
    return out


@pytest.fixture(scope="module")
def page(page_file: Path) -> Page:
    return Page(page_file.read_text(encoding="utf-8"))


def test_page_is_one_well_formed_file_without_links_to_elsewhere(page: Page) -> None:
    assert page.open == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert {t for t, _ in page.tags} & {"link", "iframe", "object", "embed", "base"} == set()


def test_every_section_and_every_label_has_a_target(page: Page) -> None:
    ids = {a["id"] for _, a in page.tags if "id" in a}
    wanted = {"overview", "classes", "errors", "found", "confusion", "gallery", "counted", "run"}
    assert {a["id"] for a in page.find("section")} == wanted
    assert {(a["href"] or "")[1:] for a in page.find("a") if a.get("class") != "skip"} <= ids
    for attributes in page.find("input") + page.find("select"):
        inside_label = "aria-label" in attributes or attributes.get("id") in ids or "value" in attributes
        assert inside_label or "data-layer" in attributes


def test_policy_allows_this_script_and_no_network(page: Page) -> None:
    (policy,) = [a["content"] or "" for a in page.find("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.scripts["code"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe-eval" not in policy


def test_hostile_names_stay_text(page: Page, page_file: Path) -> None:
    source = page_file.read_text(encoding="utf-8")
    assert "<script>alert" not in source
    assert "<img src=x" not in source
    assert source.count("</script>") == source.count("<script") == 3, "two blocks of data and one of code"
    assert source.count("<!--") == 0
    assert HOSTILE in page.text
    assert page.data()["classes"][1]["name"] == HOSTILE
    assert any(HOSTILE_FILE in picture["id"] for picture in page.data("pictures"))


@pytest.mark.parametrize("name", ["</script>", "<!--<script>", "\u2028", "a\x00b", "]]>", "\udce9.jpg", "'\"&"])
def test_data_survive_any_name(evaluation: Evaluation, name: str) -> None:
    changed = replace(evaluation, recall_by_size=(replace(evaluation.recall_by_size[0], name=name),))
    source = render(changed, ({}, []), []).encode("utf-8", "replace").decode()
    assert source.count("</script>") == 3
    assert Page(source).data()["sizes"][0][0] == name


def test_data_that_are_no_json_are_refused(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.report.write.picture_data", lambda *arguments: [math.nan])
    with pytest.raises(ValueError, match="JSON"):
        render(evaluation, ({}, []), [])


def test_headline_is_the_result(page: Page, evaluation: Evaluation) -> None:
    result = evaluation.result
    assert result.interval is not None
    assert f"{100 * result.mean_ap:.1f}" in page.text
    assert f"{100 * result.interval.low:.1f} to {100 * result.interval.high:.1f}" in page.text


def test_class_table_holds_every_class(page: Page, evaluation: Evaluation) -> None:
    rows = page.find("tr")
    assert [a["data-class"] for a in rows if "data-class" in a] == [str(i) for i in range(len(CLASSES))]
    assert [c["ap"] for c in page.data()["classes"]] == [
        None if math.isnan(row.ap) else round(row.ap, 4) for row in evaluation.result.classes
    ]
    assert {a["data-type"] for a in page.find("th") if "data-type" in a} == {"text", "number"}


def test_errors_are_points_of_100(page: Page) -> None:
    for key in ("classification", "missed_by_proposals", "missed_by_classifier"):
        assert f"{100 * COST[key]:.1f}" in page.text
    kinds = [kind["key"] for kind in page.data()["kinds"]]
    assert kinds == [*list(COST)[:5], "missed_by_proposals", "missed_by_classifier"]


def test_missed_objects_are_one_kind_where_proposals_are_not_known(tmp_path: Path) -> None:
    evaluation = made_up_evaluation(tmp_path, n_images=7, proposals_known=False)
    kinds = [kind.key for kind in error_kinds(evaluation.errors)]
    assert kinds[-1] == "missed"
    assert {kind_of(case) for case in evaluation.errors.examples} <= set(kinds)


def test_cases_point_to_their_pictures(page: Page, evaluation: Evaluation) -> None:
    pictures, cases = page.data("pictures"), page.data()["cases"]
    assert len(cases) == len(evaluation.errors.examples) == 14
    by_id = {example.image_id: example for example in evaluation.errors.examples}
    for case in cases:
        example = by_id[pictures[case["picture"]]["id"]]
        assert CLASSES[case["label"]] == example.class_name
        assert case["box"] == pytest.approx(example.box or example.truth_box, abs=0.05)
    assert page.data()["casesInAll"] == 21, "three of each of seven kinds"


def test_pictures_are_small_jpegs_and_a_missing_file_is_an_empty_source(page: Page) -> None:
    sources = [p["src"] for p in page.data("pictures")]
    assert sources.count("") == 1
    for source in filter(None, sources):
        with Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,")))) as picture:
            assert picture.size == (64, 48)
    assert all(len(p["proposals"]) == 2 and p["proposals"][0] == [4, 4, 20, 30, 1] for p in page.data("pictures"))


def test_counts_tell_what_was_ignored() -> None:
    boxes = [[0, 0, 10, 10], [20, 20, 40, 40]]
    found, truth = found_of(boxes), truth_of(boxes, ignore=[False, True])
    result = evaluate_voc({"a": found, "not there": found}, {"a": truth}, ["cat"], year=2007)
    notes = {"data set: image left out (missing-image)": 3, "objects without area": 2}
    pictures, objects, detections, left_out, odd = counted(replace(result.counts, notes=notes))
    assert (pictures.counted, objects.counted, objects.ignored) == (1, 1, 1)
    assert detections.counted + detections.ignored == 4
    assert "difficult" in objects.why
    assert "not in the data set" in detections.why
    assert (left_out.counted, left_out.ignored, left_out.why) == (0, 3, "left out while the data set was read")
    assert (odd.counted, odd.ignored, odd.why) == (2, 0, "counted, but worth a look")


def test_curve_is_the_one_that_ap_is_the_area_of() -> None:
    right, wrong = [0, 0, 10, 10], [50, 50, 60, 60]
    truth = {str(i): truth_of(right) for i in range(4)}
    # By descending score: right, wrong, wrong, right, right; one object is never found.
    found = {
        "0": found_of(right, 0.9), "1": found_of([wrong, right], [0.8, 0.5]), "2": found_of([wrong, right], [0.7, 0.4])
    }  # fmt: skip
    result = evaluate_voc(found, truth, ["cat"], year=2010)
    curve = interpolated(result.classes[0])
    assert curve.recall.tolist() == [0.25, 0.5, 0.75]
    assert curve.precision == pytest.approx((1, 0.6, 0.6))
    assert curve.scores == pytest.approx((0.9, 0.5, 0.4))
    assert np.sum(np.diff(curve.recall, prepend=0) * curve.precision) == pytest.approx(result.mean_ap)
    mean = mean_curve(result.classes).precision
    assert mean[[25, 26, 75, 76, 100]] == pytest.approx([1, 0.6, 0.6, 0, 0])


def test_gallery_takes_the_kinds_in_turns_and_keeps_its_limits(evaluation: Evaluation) -> None:
    pictures, cases = gallery(evaluation, max_cases=7, max_pictures=100)
    assert len({kind_of(case) for case in cases}) == 7
    assert len(pictures) == 7
    pictures, cases = gallery(evaluation, max_cases=100, max_pictures=3)
    assert len(pictures) == 3
    assert {case.image_id for case in cases} == set(pictures)


def test_example_of_an_unknown_picture_or_class_does_no_harm(evaluation: Evaluation) -> None:
    stray = ErrorExample("background", None, "gone", "cat", 0.5, (1.0, 2.0, 30.0, 20.0), None, None, math.nan)
    unknown = replace(stray, class_name="unheard of")
    changed = replace(evaluation, errors=replace(evaluation.errors, examples=(stray, unknown)))
    pictures, cases = gallery(changed, max_cases=10, max_pictures=10)
    assert [(p.height, p.width) for p in pictures.values()] == [(20, 30)]
    assert len(cases) == 1


def test_a_picture_whose_size_nothing_says_is_as_large_as_its_boxes(evaluation: Evaluation) -> None:
    example = evaluation.errors.examples[0]
    info = replace(evaluation.images[example.image_id], height=0, width=0)
    changed = replace(evaluation, images={example.image_id: info})
    picture = gallery(changed, max_cases=1, max_pictures=1)[0][example.image_id]
    assert (picture.height, picture.width) == (28, 24)


@pytest.mark.parametrize("what", ["box", "truth_box", "truths", "detections", "proposals"])
def test_a_box_of_another_number_of_values_is_no_result(evaluation: Evaluation, what: str) -> None:
    plain = evaluation.to_dict()
    if what in ("box", "truth_box"):
        plain["errors"]["examples"][0][what].pop()
    else:
        rows = next(iter(plain["images"].values()))[what]
        (rows[0] if what == "proposals" else rows[0]["box"]).pop()
    with pytest.raises(ValueError, match="numbers"):
        from_plain(Evaluation, plain)


def test_empty_evaluation_still_makes_a_page(tmp_path: Path) -> None:
    base = made_up_evaluation(tmp_path / "pictures", 1)
    result = evaluate_voc({}, {}, [], year=2007)
    errors = replace(base.errors, examples=(), classes=(), mean_ap=math.nan, cost={}, counts={})
    confusion = replace(base.confusion, class_names=(), matrix=np.zeros((1, 1), np.int64))
    empty = replace(base, result=result, errors=errors, confusion=confusion, images={}, recall_by_size=())
    write_report(empty, tmp_path / "empty.html")
    page = Page((tmp_path / "empty.html").read_text(encoding="utf-8"))
    assert page.data()["cases"] == []
    assert "classes" not in {a["id"] for a in page.find("section")}
    assert "mAP is –." in page.text


def test_pictures_in_a_folder_are_named_by_number(evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "r.html", pictures_in_folder=True)
    names = sorted(p.name for p in (tmp_path / "r-pictures").iterdir())
    assert names[:2] == ["00000-small.jpg", "00000.jpg"]
    assert len(names) == 2 * 13, "one picture's file is missing"
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    for picture in page.data("pictures"):
        for key in ("src", "large"):
            assert not picture[key] or (tmp_path / picture[key]).is_file()


@pytest.mark.parametrize("there", ["r.html", "r-pictures"])
def test_nothing_is_overwritten(evaluation: Evaluation, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_report(evaluation, tmp_path / "r.html", pictures_in_folder=True)
    assert [p.name for p in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def killed(*arguments: object) -> None:
    """Stands for what a kill interrupts."""
    raise KeyboardInterrupt


def killed_halfway(self: Path, data: bytes, write: Any = Path.write_bytes) -> None:
    """Stands for the writing of a file that a kill interrupts."""
    write(self, data[: len(data) // 2])
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("what", "interrupted"), [("detector.report.write.render", killed), ("pathlib.Path.write_bytes", killed_halfway)]
)
def test_a_report_that_was_killed_is_made_again(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, interrupted: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(what, interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_report(evaluation, tmp_path / "r.html", pictures_in_folder=True)
    assert {p.name for p in tmp_path.iterdir()} == {"r.html.unfinished", "r-pictures"}
    left = {path.suffix for path in (tmp_path / "r-pictures").iterdir()}
    assert left == {".unfinished" if interrupted is killed_halfway else ".jpg"}, "no picture is there by half"
    write_report(evaluation, tmp_path / "r.html", pictures_in_folder=True)
    assert {p.name for p in tmp_path.iterdir()} == {"r.html", "r-pictures"}
    assert {path.suffix for path in (tmp_path / "r-pictures").iterdir()} == {".jpg"}
    write_report(evaluation, tmp_path / "whole" / "r.html", pictures_in_folder=True)
    assert (tmp_path / "r.html").read_bytes() == (tmp_path / "whole" / "r.html").read_bytes()


def test_a_full_disk_leaves_nothing_of_a_report(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("detector.report.write.render", full)
    with pytest.raises(UserError, match="No space left"):
        write_report(evaluation, tmp_path / "r.html", pictures_in_folder=True)
    assert list(tmp_path.iterdir()) == []


def test_page_is_the_same_after_the_evaluation_was_saved_and_read(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path)
    again = Evaluation.load(tmp_path / "evaluation.json")
    pages = []
    for each in (again, evaluation):
        shown = gallery(each, max_cases=100, max_pictures=100)
        pages.append(render(each, shown, [Sources()] * len(shown[0])))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("right", [40, 900])
def test_long_curves_are_the_same_after_the_evaluation_was_saved_and_read(tmp_path: Path, right: int) -> None:
    n = 3000
    boxes = np.arange(n)[:, None] * 100 + np.array([0, 0, 50, 50])
    objects = np.sort(np.random.default_rng(0).permutation(n)[:right])
    found = found_of(boxes, np.linspace(1, 0, n), size=(100, 100 * n))
    result = evaluate_voc({"a": found}, {"a": truth_of(boxes[objects])}, ["cat"], year=2010)
    evaluation = replace(made_up_evaluation(tmp_path / "pictures", 1), result=result)
    evaluation.save(tmp_path)
    data, again = (page_data(e, ({}, [])) for e in (evaluation, Evaluation.load(tmp_path / "evaluation.json")))
    assert data == again
    assert np.mean(data["mean"]["p"]) == pytest.approx(result.mean_ap, abs=0.02)  # of 101 levels
