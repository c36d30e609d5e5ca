"""The experiment's tables: variants, proposals, what one change is worth, what each kind of error costs."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from boxes import found_of, truth_of

from detector.experiment.tables import (
    coverage,
    effects_csv,
    effects_markdown,
    errors_csv,
    evaluate_variants,
    measure_effects,
    to_csv,
    to_markdown,
)
from detector.experiment.variants import Variant
from detector.types import Detections, GroundTruth

NOTHING = found_of([])
METRICS = ("ilsvrc_det", "voc10")


def objects(count: int) -> tuple[dict[str, GroundTruth], dict[str, Detections]]:
    """Images of one object each, of two classes by turns, and detections that find them."""
    truth = {str(i): truth_of([5, 5, 25, 25], i % 2) for i in range(count)}
    return truth, {name: found_of(t.boxes, labels=t.labels) for name, t in truth.items()}


def test_the_tables_hold_what_was_measured() -> None:
    truth, right = objects(4)
    variants = [Variant(name="right", members=(0,)), Variant(name="blind", change={"multibox": None})]
    detections = {name: {"right": right[name], "blind": NOTHING} for name in truth}
    results = evaluate_variants(variants, detections, truth, ("a", "b"), METRICS, bootstrap_samples=20, seed=0)
    rows = list(csv.DictReader(io.StringIO(to_csv(results))))
    assert [float(row["voc10"]) for row in rows] == [1.0, 0.0]
    assert [float(row["ilsvrc_det"]) for row in rows] == [1.0, 0.0]
    assert [(row["members"], row["change"]) for row in rows] == [("0", "{}"), ("", '{"multibox": null}')]
    boxes = {name: {"right": t.boxes, "blind": np.zeros((0, 4), np.float32)} for name, t in truth.items()}
    covered = {row.name: row for row in coverage(boxes, truth)}
    assert (covered["right"].recall50, covered["right"].boxes, covered["right"].average_recall) == (1, 1, 1)
    assert (covered["blind"].recall50, covered["blind"].boxes) == (0, 0)
    text = to_markdown(results, list(covered.values()), 4)
    assert "| variant | ILSVRC DET | AP at IoU 0.5 |" in text
    assert "| right | 100.0 (100.0 to 100.0) | 100.0 (100.0 to 100.0) |" in text
    assert "| right | 1 | 100.0 | 100.0 | 100.0 |" in text
    assert "4 images" in text


def test_effects_are_measured_on_the_same_resamples() -> None:
    """The joint variant finds what the better member finds, so against that one alone nothing is left to chance."""
    truth, found = objects(24)
    variants = [Variant(name="first", members=(0,)), Variant(name="second", members=(1,))]
    variants += [Variant(name="both", against=("first", "second")), Variant(name="moved", against=("first",))]
    names = [v.name for v in variants]
    half = {name: found[name] if int(name) % 3 else NOTHING for name in truth}
    detections = {name: dict(zip(names, (half[name], NOTHING, half[name], half[name]), strict=True)) for name in truth}
    results = evaluate_variants(variants, detections, truth, ("a", "b"), METRICS, bootstrap_samples=0, seed=0)
    joint, moved = measure_effects(results, samples=200, seed=0)
    assert joint.variant.against == ("first", "second")
    assert (joint.before, joint.after) == pytest.approx((1 / 3, 2 / 3), abs=0.03)
    assert joint.interval is not None
    assert 0 < joint.interval.low < joint.after - joint.before < joint.interval.high
    assert (moved.variant.name, moved.after - moved.before) == ("moved", 0)
    assert moved.interval is not None
    assert (moved.interval.low, moved.interval.high) == (0, 0)
    lines = list(csv.DictReader(io.StringIO(effects_csv([joint, moved]))))
    assert [float(line["difference"]) for line in lines] == [joint.after - joint.before, 0]
    assert [(line["of"], line["against"]) for line in lines] == [("both", "first; second"), ("moved", "first")]
    shown = effects_markdown([joint, moved], "VOC 2007")
    assert "mean AP in % (VOC 2007)" in shown
    assert "| moved | first | " in shown
    assert "| both | the mean of 2: first, ... | " in shown
    assert "+0.0 (+0.0 to +0.0)" in shown
    assert measure_effects(results, samples=0, seed=0)[0].interval is None


def test_the_table_of_errors_says_what_each_kind_costs() -> None:
    truth, right = objects(4)
    detections = {
        name: {
            "right": right[name],
            "aside": found_of(t.boxes + np.array([8, 0, 8, 0]), labels=t.labels),
            "misnamed": found_of(t.boxes, labels=1 - t.labels),
        }
        for name, t in truth.items()
    }
    variants = [Variant(name=name, members=(0,)) for name in ("right", "aside", "misnamed")]
    results = evaluate_variants(variants, detections, truth, ("a", "b"), METRICS, bootstrap_samples=0, seed=0)
    rows = [
        (row["variant"], float(row["mean_ap"]), float(row["localisation"]), float(row["classification"]))
        for row in csv.DictReader(io.StringIO(errors_csv(results)))
    ]
    assert rows == [("right", 1, 0, 0), ("aside", 0, 1, 0), ("misnamed", 0, 0, 1)]
