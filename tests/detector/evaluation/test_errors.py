"""Error analysis against a slow, literal reading of TIDE's definitions, and the other analyses on sets done by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from boxes import found_of, truth_of

from detector.evaluation.analysis import (
    best_f1_threshold,
    calibration,
    confusion_matrix,
    recall_by_aspect,
    recall_by_size,
)
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.assemble import assemble
from detector.evaluation.average_precision import ap_area, precision_recall
from detector.evaluation.error_analysis import analyse_errors, detection_kinds
from detector.evaluation.plain import from_plain, to_plain
from detector.evaluation.voc import evaluate_voc
from proposals.boxes import iou

NAMES = ("a", "b", "c")


def evaluated(found: list[tuple], truth: list[tuple], ignore: Any = ()) -> Any:
    """Matches of VOC 2010; ``found``: (image, label, score, box), ``truth``: (image, label, box)."""
    detections, objects = {}, {}
    for image in sorted({row[0] for row in [*found, *truth]}):
        rows, own = [row for row in found if row[0] == image], [row for row in truth if row[0] == image]
        boxes, scores, labels = [row[3] for row in rows], [row[2] for row in rows], [row[1] for row in rows]
        detections[str(image)] = found_of(boxes, scores, labels)
        flags = [row in ignore for row in own]
        objects[str(image)] = truth_of([row[2] for row in own], [row[1] for row in own], flags)
    return evaluate_voc(detections, objects, NAMES, year=2010).matches


def overlap(a: Any, b: Any) -> float:
    """IoU of two boxes."""
    return float(iou(np.array([a], np.float64), np.array([b], np.float64))[0, 0])


def mean_ap(rows: list[tuple[int, float, bool]], positives: dict[int, int], classes: list[int]) -> float:
    """Mean area AP of (label, score, true) rows; a class with nothing at all is left out."""
    values = []
    for label in classes:
        own = sorted((row for row in rows if row[0] == label), key=lambda row: -row[1])
        if positives[label]:
            values.append(ap_area(*precision_recall(np.array([row[2] for row in own], np.bool_), positives[label])))
        elif own:
            values.append(0.0)
    return float(np.mean(values)) if values else 0.0


def tide(found: list[tuple], truth: list[tuple]) -> tuple[dict[str, int], dict[str, float]]:
    """Counts and costs by TIDE's definitions with VOC's matching, plain loops; all scores differ."""
    classes = sorted({row[1] for row in truth})
    order = sorted(range(len(found)), key=lambda i: -found[i][2])
    taken: dict[int, int] = {}
    true = set()
    for i in order:
        image, label, _, box = found[i]
        own = [g for g, t in enumerate(truth) if t[0] == image and t[1] == label]
        best = max(own, key=lambda g: overlap(box, truth[g][2]), default=None)
        if best is not None and overlap(box, truth[best][2]) >= 0.5 and best not in taken:
            taken[best] = i
            true.add(i)
    kinds: dict[int, tuple[str, int | None]] = {}
    for i in order:
        if i in true:
            continue
        image, label, _, box = found[i]
        here = {g: overlap(box, t[2]) for g, t in enumerate(truth) if t[0] == image}
        same = {g: v for g, v in here.items() if truth[g][1] == label}
        other = {g: v for g, v in here.items() if truth[g][1] != label}
        if same and 0.1 <= max(same.values()) <= 0.5:
            kinds[i] = ("localisation", max(same, key=lambda g: same[g]))
        elif other and max(other.values()) >= 0.5:
            kinds[i] = ("classification", max(other, key=lambda g: other[g]))
        elif any(v >= 0.5 and g in taken for g, v in same.items()):
            kinds[i] = ("duplicate", None)
        elif not here or max(here.values()) <= 0.1:
            kinds[i] = ("background", None)
        else:
            kinds[i] = ("both", None)
    fixer: dict[int, int] = {}
    for i in order:  # by descending score, so the first error of a truth is its best
        if i in kinds and kinds[i][1] is not None and kinds[i][1] not in taken:
            fixer.setdefault(kinds[i][1], i)  # type: ignore[arg-type]
    missed = [g for g in range(len(truth)) if g not in taken and g not in fixer]
    positives = {label: sum(t[1] == label for t in truth) for label in classes}

    def score(fixed: str) -> float:
        rows = []
        for i, (_, label, value, _) in enumerate(found):
            if i in true:
                rows.append((label, value, True))
            elif kinds[i][0] != fixed:
                rows.append((label, value, False))
            elif kinds[i][1] is not None and fixer.get(kinds[i][1]) == i:  # type: ignore[arg-type]
                rows.append((truth[kinds[i][1]][1], value, True))  # type: ignore[index]
        counted = dict(positives)
        if fixed == "missed":
            for g in missed:
                counted[truth[g][1]] -= 1
        return mean_ap(rows, counted, classes)

    names = ("classification", "localisation", "both", "duplicate", "background")
    counts = {name: sum(kind == name for kind, _ in kinds.values()) for name in names} | {"missed": len(missed)}
    base = score("nothing")
    return counts, {name: max(score(name) - base, 0.0) for name in counts}


@pytest.mark.parametrize("seed", range(40))
def test_counts_and_costs_equal_tide(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth: list[tuple] = []
    found: list[tuple] = []
    for image in range(int(rng.integers(1, 6))):
        for _ in range(rng.integers(0, 5)):
            corner = rng.uniform(0, 60, 2).round(3)
            box = (*corner, *(corner + rng.uniform(10, 60, 2).round(3)))
            truth.append((image, int(rng.integers(3)), tuple(float(x) for x in np.array(box, np.float32))))
        own = [row for row in truth if row[0] == image]
        for _ in range(rng.integers(0, 12)):
            if own and rng.random() < 0.8:
                _, label, box = own[rng.integers(len(own))]
                near = np.array(box) + rng.normal(0, rng.choice([2, 8, 20]), 4)
                near[2:] = np.maximum(near[2:], near[:2] + 1)
                label = label if rng.random() < 0.7 else int(rng.integers(3))
            else:
                corner = rng.uniform(0, 100, 2)
                near, label = np.concatenate([corner, corner + 30]), int(rng.integers(3))
            score = float(np.float32(rng.random()))
            found.append((image, label, score, tuple(float(x) for x in np.float32(near))))
    if not truth:
        truth.append((0, 0, (0.0, 0.0, 10.0, 10.0)))
    counts, costs = tide(found, truth)
    matches = evaluated(found, truth)
    analysis = analyse_errors(matches)
    assert {kind: analysis.counts[kind] for kind in counts} == counts
    kinds = detection_kinds(matches).tolist()
    assert {kind: kinds.count(kind) for kind in counts} == {**counts, "missed": 0}
    assert kinds.count("") == np.count_nonzero(matches.outcome[0] == 1)
    assert {kind: analysis.cost[kind] for kind in costs} == pytest.approx(costs, abs=1e-9)
    assert sum(row.counts["missed"] for row in analysis.classes) == counts["missed"]


BIG = (0.0, 0.0, 100.0, 100.0)
FAR = (150.0, 150.0, 190.0, 190.0)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ([(0, 0, 0.9, (40.0, 0.0, 140.0, 100.0))], "localisation"),  # IoU 60 / 140
        ([(0, 1, 0.9, BIG)], "classification"),
        ([(0, 1, 0.9, (40.0, 0.0, 140.0, 100.0))], "both"),
        ([(0, 0, 0.9, BIG), (0, 0, 0.8, BIG)], "duplicate"),
        ([(0, 0, 0.9, FAR)], "background"),
    ],
)
def test_each_kind(found: list[tuple], kind: str) -> None:
    analysis = analyse_errors(evaluated(found, [(0, 0, BIG)]))
    errors = {name: n for name, n in analysis.counts.items() if n and name != "missed"}
    assert errors == {kind: 1}
    example = next(e for e in analysis.examples if e.kind == kind)
    assert example.score == pytest.approx(found[-1][2])
    assert example.box == found[-1][3]
    assert example.truth_box == (None if kind == "background" else BIG)
    assert example.truth_class == (None if kind == "background" else "a")
    # An object that a localisation or classification error is about is not missed as well.
    assert analysis.counts["missed"] == (1 if kind in ("both", "background") else 0)


def test_missed_by_the_proposals_or_by_the_classifier() -> None:
    truth = [(0, 0, BIG), (1, 0, BIG), (2, 0, BIG)]
    found = [(0, 0, 0.9, BIG)]
    matches = evaluated(found, truth)
    proposals = {"1": [[0, 0, 100, 90], [5, 5, 9, 9]], "0": [BIG]}  # none at all in image 2
    analysis = analyse_errors(matches, proposals=proposals)
    assert analysis.proposals_known
    assert analysis.counts["missed"] == 2
    assert analysis.counts["missed_by_proposals"] == 1
    assert analysis.counts["missed_by_classifier"] == 1
    by_image = {e.image_id: e for e in analysis.examples}
    assert by_image["1"].missed_by == "classifier"
    assert by_image["1"].iou == pytest.approx(0.9)
    assert by_image["2"].missed_by == "proposals"
    assert by_image["2"].iou == 0
    assert analysis.cost["missed_by_proposals"] == pytest.approx(1 / 2 - 1 / 3)
    assert analysis.cost["missed"] == pytest.approx(1 - 1 / 3)
    unknown = analyse_errors(matches)
    assert not unknown.proposals_known
    assert "missed_by_proposals" not in unknown.counts
    assert unknown.examples[0].missed_by is None


def test_ignored_detections_and_difficult_objects_are_no_errors() -> None:
    truth = [(0, 0, BIG), (0, 0, FAR)]
    analysis = analyse_errors(evaluated([(0, 0, 0.9, BIG), (0, 0, 0.8, FAR)], truth, ignore=[truth[1]]))
    assert sum(analysis.counts.values()) == 0
    assert analysis.mean_ap == 1


def test_examples_are_the_worst_and_limited() -> None:
    found = [(0, 0, 0.1 + i / 100, FAR) for i in range(30)]
    analysis = analyse_errors(evaluated(found, [(0, 0, BIG)]), examples=5)
    scores = [e.score for e in analysis.examples if e.kind == "background"]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 5
    assert scores[0] == pytest.approx(0.39)


def test_without_truth_nothing_is_defined() -> None:
    analysis = analyse_errors(evaluated([(0, 0, 0.9, BIG)], []))
    assert np.isnan(analysis.mean_ap)
    assert np.isnan(analysis.cost["background"])
    assert analysis.counts["background"] == 1


def test_calibration() -> None:
    found = [(0, 0, 0.95, BIG), (0, 0, 0.85, FAR), (0, 1, 0.05, FAR), (1, 0, 1.0, BIG)]
    result = calibration(evaluated(found, [(0, 0, BIG), (1, 0, BIG)]))
    assert result.count.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 1, 2]
    assert result.precision[[0, 8, 9]].tolist() == [0, 0, 1]
    assert np.isnan(result.precision[1])
    assert result.expected_error == pytest.approx((0.05 + 0.85 + 2 * 0.025) / 4, abs=1e-6)
    assert result.max_error == pytest.approx(0.85, abs=1e-6)
    assert result.by_class["b"] == pytest.approx(0.05, abs=1e-6)
    assert np.isnan(result.by_class["c"])
    assert result.outside == 0
    assert calibration(evaluated([(0, 0, 7.5, BIG)], [(0, 0, BIG)])).outside == 1


def test_confusion_matrix() -> None:
    truth = [(0, 0, BIG), (0, 1, FAR), (1, 2, BIG)]
    found = [(0, 1, 0.9, BIG), (0, 1, 0.8, FAR), (1, 0, 0.7, FAR), (1, 2, 0.1, BIG)]
    result = confusion_matrix(evaluated(found, truth), score_threshold=0.5)
    expected = np.zeros((4, 4), np.int64)
    expected[0, 1] = 1  # a taken for b
    expected[1, 1] = 1
    expected[3, 0] = 1  # background taken for a
    expected[2, 3] = 1  # c not found: the detection scores too low
    assert result.matrix.tolist() == expected.tolist()


def test_confusion_prefers_the_pair_of_one_class() -> None:
    result = confusion_matrix(evaluated([(0, 1, 0.9, BIG), (0, 0, 0.8, BIG)], [(0, 0, BIG)]), score_threshold=0)
    assert result.matrix[0, 0] == 1
    assert result.matrix[3, 1] == 1


def test_best_f1_threshold() -> None:
    found = [(0, 0, 0.9, BIG), (0, 0, 0.6, FAR), (1, 0, 0.6, BIG), (2, 0, 0.3, FAR)]
    matches = evaluated(found, [(0, 0, BIG), (1, 0, BIG), (2, 0, BIG)])
    # 0.9: P 1, R 1/3, F1 1/2; 0.6 lets two in: P 2/3, R 2/3, F1 2/3; 0.3: P 1/2, R 2/3.
    assert best_f1_threshold(matches) == pytest.approx(0.6)
    assert best_f1_threshold(evaluated([(0, 0, 0.9, FAR)], [(0, 0, BIG)])) == 0


def test_recall_by_size_and_shape() -> None:
    tiny, wide = (0.0, 0.0, 10.0, 10.0), (100.0, 0.0, 196.0, 24.0)  # areas 100 and 48 * 48
    result = evaluated([(0, 0, 0.9, wide)], [(0, 0, tiny), (0, 0, wide)])
    sizes = {b.name: (b.truths, b.found) for b in recall_by_size(result) if b.truths}
    assert sizes == {"under 16 px": (1, 0), "32 to 64 px": (1, 1)}
    shapes = {b.name: b.recall for b in recall_by_aspect(result) if b.truths}
    assert shapes == {"about square": 0, "very wide": 1}
    assert np.isnan(recall_by_size(result)[-1].recall)
    assert np.isnan(recall_by_size(result)[-1].high)


def test_everything_goes_to_json_and_back() -> None:
    result = evaluate_voc({"i": found_of(BIG, 1)}, {"i": truth_of([BIG, FAR], [0, 1])}, NAMES, bootstrap_samples=20)
    evaluation = assemble(result, proposals={"i": [BIG]}, info={"data": "x"})
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    again = from_plain(Evaluation, json.loads(text))
    assert json.dumps(again.to_dict(), allow_nan=False) == text
    assert again.result.mean_ap == result.mean_ap
    assert again.result.interval == result.interval
    assert np.isnan(again.result.classes[2].ap)
    assert again.errors.counts["missed_by_proposals"] == 1
    np.testing.assert_array_equal(again.confusion.matrix, evaluation.confusion.matrix)
    with pytest.raises(ValueError, match="not a Evaluation"):
        from_plain(Evaluation, {"result": 3, "surprise": 1})
    with pytest.raises(ValueError, match="evaluate it anew"):
        assemble(again.result)


@pytest.mark.parametrize(("found", "points", "kept"), [(1, 200, 2), (30, 50, 32), (400, 50, 50)])
def test_thinned_curves_keep_their_ends_and_where_the_recall_rises(found: int, points: int, kept: int) -> None:
    n = 1000
    boxes = np.arange(n)[:, None] * 100 + np.array([0, 0, 50, 50])
    # The best one, or many that are neither the first nor the last.
    right = np.random.default_rng(0).permutation(np.arange(1, n - 1))[:found] if found > 1 else [0]
    result = evaluate_voc(
        {"i": found_of(boxes, np.linspace(1, 0, n), size=(100, 100 * n))}, {"i": truth_of(boxes[right])}, ["a"]
    )
    row, thin = result.classes[0], result.classes[0].thinned(points)
    assert len(thin.scores) == kept
    rises = np.flatnonzero(np.diff(row.recall, prepend=0) > 0)
    assert set(thin.scores[1:-1]) <= set(row.scores[rises])
    for ours, whole in zip(
        (thin.recall, thin.precision, thin.scores), (row.recall, row.precision, row.scores), strict=True
    ):
        assert (ours[0], ours[-1]) == (whole[0], whole[-1])
    if 1 < found < kept:
        assert thin.recall[1:-1].tolist() == row.recall[rises].tolist()
    assert thin.thinned(points) is thin
    assert len(to_plain(result.thinned())["classes"][0]["recall"]) <= 200


def test_csv_has_a_line_for_each_class_and_the_mean() -> None:
    lines = evaluate_voc({"i": found_of(BIG, 1)}, {"i": truth_of(BIG)}, ["a, b", "c"]).to_csv().splitlines()
    assert lines[0].startswith("class,ap,ap_low,ap_high,truths,detections")
    assert lines[1].startswith('"a, b",1.0,,,1,1,1,0,1.0')
    assert lines[2].startswith("c,,,,0,0,0,0,")
    assert lines[3].startswith("mean,1.0,,,1,1,1,0")
