"""The experiment's tables: variants, proposals, what one change is worth, what each kind of error costs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from detector.experiment.effects import effects_csv, effects_markdown, effects_of, measure_effects
from detector.experiment.recipe import read_experiment
from detector.experiment.table import coverage, errors_csv, evaluate_variants, to_csv, to_markdown
from detector.experiment.variants import Variant
from detector.types import Detections, GroundTruth

SIZE = (40, 48)


def test_the_tables_hold_what_was_measured() -> None:
    truth = {str(i): GroundTruth.of(np.array([[5, 5, 25, 25]], np.float32), np.array([i % 2])) for i in range(4)}
    right = {name: Detections(t.boxes, np.array([0.9], np.float32), t.labels, SIZE) for name, t in truth.items()}
    nothing = Detections.empty(SIZE)
    variants = [Variant(name="right", members=(0,)), Variant(name="blind", members=(1,), combine="maximum")]
    detections = {name: {"right": right[name], "blind": nothing} for name in truth}
    results = evaluate_variants(variants, detections, truth, ("a", "b"), bootstrap_samples=20, seed=0)
    rows = list(csv.DictReader(io.StringIO(to_csv(results))))
    assert [float(row["voc10"]) for row in rows] == [1.0, 0.0]
    assert [float(row["ilsvrc_det"]) for row in rows] == [1.0, 0.0]
    assert rows[1]["combine"] == "maximum"
    boxes = {name: {"scale1": t.boxes, "multibox": np.zeros((0, 4), np.float32)} for name, t in truth.items()}
    covered = {row.name: row for row in coverage(boxes, truth)}
    assert (covered["scale1"].recall50, covered["scale1"].boxes, covered["scale1"].average_recall) == (1, 1, 1)
    assert (covered["multibox"].recall50, covered["multibox"].boxes) == (0, 0)
    text = to_markdown(results, list(covered.values()), 4)
    assert "| right | 100.0 (100.0 to 100.0) | 100.0 (100.0 to 100.0) |" in text
    assert "| scale1 | 1 | 100.0 | 100.0 | 100.0 |" in text
    assert "4 pictures" in text


def test_effects_are_of_variants_that_differ_in_one_property() -> None:
    root = Path(__file__).resolve().parents[3] / "configs"
    variants = read_experiment(root / "tiny_imagenet_cpu.yaml").measurement.variants
    effects = {effect.of: effect.against for effect in effects_of(variants) if len(effect.against) > 1}
    singles = tuple(f"member {i} alone" for i in range(1, 7))
    assert effects["6 members"] == singles
    assert effects["2 members"] == singles[:2]
    assert effects["upper layers of their own, 3 members"] == tuple(
        f"upper layers of its own, member {i} alone" for i in (1, 2, 3)
    )
    assert effects["6 members, overlap"] == tuple(f"{name}, overlap" for name in singles)
    located = "overlap, localizer"
    assert effects[f"6 members, {located}"] == tuple(f"{name}, {located}" for name in singles)
    # 2 to 6 members, with overlaps, and with the localizer too; 2 and 3 of the other ensemble: nothing without its own
    # singles.
    assert len(effects) == 17
    pairs = [(effect.against[0], effect.of) for effect in effects_of(variants) if len(effect.against) == 1]
    first, six = "member 1 alone", "6 members"
    sources = [f"{first}, {source}" for source in ("selective search, scale 2", "MultiBox alone")]
    scale1 = f"{first}, selective search, scale 1"
    assert pairs == [
        *((scale1, of) for of in (first, *sources)),
        *((f"{scale1}, overlap", f"{of}, overlap") for of in (first, *sources)),
        (f"{first}, without context", first),
        *((six, how) for how in ("geometric mean", "maximum", "joined by suppression")),
        *((of, f"{of}, box regression") for of in (first, six)),
        *((f"{of}, overlap", f"{of}, box regression, overlap") for of in (first, six)),
        *((of, f"{of}, overlap") for of in (*singles, *(f"{n} members" for n in range(2, 7)))),
        *((of, f"{of}, overlap") for of in (scale1, *sources)),
        *((f"{of}, box regression", f"{of}, box regression, overlap") for of in (first, six)),
        (f"{six}, localizer", f"{six}, {located}"),
        (six, f"{six}, localizer"),
        *((f"{of}, overlap", f"{of}, {located}") for of in (*singles, *(f"{n} members" for n in range(2, 7)))),
        (six, f"{six}, voting"),
        (f"{six}, box regression, overlap", f"{six}, box regression, overlap, voting"),
        (f"{six}, {located}", f"{six}, {located}, voting"),
    ]


def test_effects_are_measured_on_the_same_resamples() -> None:
    """The joint variant finds what the better member finds, so against that one alone nothing is left to chance."""
    truth = {str(i): GroundTruth.of(np.array([[5, 5, 25, 25]], np.float32), np.array([i % 2])) for i in range(24)}
    found = {name: Detections(t.boxes, np.array([0.9], np.float32), t.labels, SIZE) for name, t in truth.items()}
    nothing = Detections.empty(SIZE)
    variants = [Variant(name=str(m), members=m) for m in ((0,), (1,), (0, 1))]
    variants += [Variant(name="moved", members=(0,), regression=True)]
    names = [v.name for v in variants]
    half = {name: found[name] if int(name) % 3 else nothing for name in truth}
    detections = {name: dict(zip(names, (half[name], nothing, half[name], half[name]), strict=True)) for name in truth}
    results = evaluate_variants(variants, detections, truth, ("a", "b"), bootstrap_samples=0, seed=0)
    effects = effects_of(variants)
    joint, moved = measure_effects(effects, results, samples=200, seed=0)
    assert joint.effect.against == ("(0,)", "(1,)")
    assert (joint.before, joint.after) == pytest.approx((1 / 3, 2 / 3), abs=0.03)
    assert joint.interval is not None
    assert 0 < joint.interval.low < joint.after - joint.before < joint.interval.high
    assert (moved.effect.against, moved.after - moved.before) == (("(0,)",), 0)
    assert moved.interval is not None
    assert (moved.interval.low, moved.interval.high) == (0, 0)
    lines = list(csv.DictReader(io.StringIO(effects_csv([joint, moved]))))
    assert [float(line["difference"]) for line in lines] == [joint.after - joint.before, 0]
    assert "+0.0 (+0.0 to +0.0)" in effects_markdown([moved])
    assert measure_effects(effects, results, samples=0, seed=0)[0].interval is None


def test_the_table_of_errors_says_what_each_kind_costs() -> None:
    truth = {str(i): GroundTruth.of(np.array([[5, 5, 25, 25]], np.float32), np.array([i % 2])) for i in range(4)}
    score = np.array([0.9], np.float32)
    detections = {
        name: {
            "right": Detections(t.boxes, score, t.labels, SIZE),
            "aside": Detections(t.boxes + np.array([8, 0, 8, 0], np.float32), score, t.labels, SIZE),
            "misnamed": Detections(t.boxes, score, 1 - t.labels, SIZE),
        }
        for name, t in truth.items()
    }
    variants = [Variant(name=name, members=(0,)) for name in ("right", "aside", "misnamed")]
    results = evaluate_variants(variants, detections, truth, ("a", "b"), bootstrap_samples=0, seed=0)
    rows = [
        (row["variant"], float(row["mean_ap"]), float(row["localisation"]), float(row["classification"]))
        for row in csv.DictReader(io.StringIO(errors_csv(results)))
    ]
    assert rows == [("right", 1, 0, 0), ("aside", 0, 1, 0), ("misnamed", 0, 0, 1)]
