"""What must hold for every protocol, whatever the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from boxes import found_of, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.evaluation import kernels
from detector.evaluation.analysis import confusion_matrix
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.error_analysis import analyse_errors
from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det
from detector.evaluation.result import EvaluationResult
from detector.evaluation.tables import DetectionTable, TruthTable
from detector.evaluation.voc import evaluate_voc
from detector.evaluation.warmup import warmup
from detector.types import Detections, GroundTruth

Protocol = Callable[..., EvaluationResult]
Data = tuple[dict[str, Detections], dict[str, GroundTruth]]
PROTOCOLS: dict[str, Protocol] = {
    "voc07": lambda *a, **k: evaluate_voc(*a, year=2007, **k),
    "voc10": lambda *a, **k: evaluate_voc(*a, year=2010, **k),
    "coco": evaluate_coco,
    "ilsvrc_det": evaluate_ilsvrc_det,
}
EVERY = pytest.mark.parametrize("protocol", list(PROTOCOLS.values()), ids=list(PROTOCOLS))
NAMES = ["a", "b", "c"]
SIZE = (100, 100)


@st.composite
def data_sets(draw: st.DrawFn, flags: bool = True) -> Data:
    """A few images with objects of three classes and detections, some of them near the objects."""
    found, truth = {}, {}
    numbers, labels = st.integers(0, 40), st.integers(0, 2)

    def several(kind: st.SearchStrategy[Any], count: int) -> list[Any]:
        return draw(st.lists(kind, min_size=count, max_size=count))

    for i in range(draw(st.integers(0, 4))):
        n, m = draw(st.integers(0, 4)), draw(st.integers(0, 6))
        corner, side = (np.array(several(st.tuples(numbers, numbers), n)).reshape(n, 2) for _ in range(2))
        boxes = np.concatenate([corner, corner + side + 4], axis=1)
        mask = st.booleans() if flags else st.just(False)
        truth[str(i)] = truth_of(boxes, several(labels, n), several(mask, n), several(mask, n))
        rows = []
        for _ in range(m):
            if n and draw(st.booleans()):
                rows.append(boxes[draw(st.integers(0, n - 1))] + draw(st.sampled_from([0, 1, 5, -3])))
            else:
                x, y = draw(numbers), draw(numbers)
                rows.append(np.array([x, y, x + draw(numbers), y + draw(numbers)]))
        scores = np.array(several(st.integers(0, 8), m)) / 8
        found[str(i)] = found_of(rows, scores, several(labels, m), SIZE)
    return found, truth


def aps(result: EvaluationResult) -> list[float]:
    """APs by class and their mean."""
    return [row.ap for row in result.classes] + [result.mean_ap]


@EVERY
@settings(deadline=None, max_examples=20)
@given(data=data_sets())
def test_between_zero_and_one_and_everything_is_counted(protocol: Protocol, data: Data) -> None:
    found, truth = data
    result = protocol(found, truth, NAMES)
    values = [v for row in result.classes for v in (row.ap, row.max_recall, *row.numbers.values())]
    values += [*result.numbers.values(), result.mean_ap]
    assert all(np.isnan(v) or 0 <= v <= 1 for v in values)
    counts = result.counts
    assert counts.detections == sum(len(d) for d in found.values())
    assert counts.detections == counts.detections_counted + sum(counts.detections_ignored.values())
    assert counts.truths == sum(len(t) for t in truth.values())
    assert counts.truths == counts.truths_counted + sum(counts.truths_ignored.values())
    assert counts.detections_counted == sum(row.true_positives + row.false_positives for row in result.classes)
    assert counts.images == len(truth)
    for row in result.classes:
        assert len(row.recall) == len(row.precision) == len(row.scores) == row.detections
        assert np.all(np.diff(row.scores) <= 0)
        assert not row.truths or np.all(np.diff(row.recall) >= 0)


@EVERY
@settings(deadline=None, max_examples=20)
@given(data=data_sets(), seed=st.integers(0, 99))
def test_order_of_images_does_not_matter(protocol: Protocol, data: Data, seed: int) -> None:
    found, truth = data
    order = np.random.default_rng(seed).permutation(len(truth))
    ids = list(truth)
    other = protocol({ids[i]: found[ids[i]] for i in order[::-1]}, {ids[i]: truth[ids[i]] for i in order}, NAMES)
    np.testing.assert_array_equal(aps(protocol(found, truth, NAMES)), aps(other))


@EVERY
@settings(deadline=None, max_examples=20)
@given(data=data_sets(flags=False))
def test_perfect_detections_score_one_and_none_score_zero(protocol: Protocol, data: Data) -> None:
    # In VOC, of two objects of one class with the very same box only one can be found.
    truth = {
        name: t.select(np.sort(np.unique(np.column_stack([t.boxes, t.labels]), axis=0, return_index=True)[1]))
        for name, t in data[1].items()
    }
    perfect = {name: found_of(t.boxes, 1, t.labels, SIZE) for name, t in truth.items()}
    objects = sum(len(t) for t in truth.values())
    assert aps(protocol(perfect, truth, NAMES))[-1] == pytest.approx(1 if objects else np.nan, nan_ok=True)
    assert aps(protocol({}, truth, NAMES))[-1] == pytest.approx(0 if objects else np.nan, nan_ok=True)


BOX = [0, 0, 50, 50]


@EVERY
def test_image_ids_decide_ties_not_their_order(protocol: Protocol) -> None:
    # Ids that are numbers are ordered as numbers: 2 before 10.
    found = {name: found_of(BOX, 0.5) for name in ("10", "2")}
    assert protocol(found, {"10": truth_of([]), "2": truth_of(BOX)}, ["a"]).mean_ap == pytest.approx(1)
    assert protocol(found, {"2": truth_of([]), "10": truth_of(BOX)}, ["a"]).mean_ap == pytest.approx(0.5)


@EVERY
def test_detections_of_unknown_images_and_classes_are_counted(protocol: Protocol) -> None:
    found = {"here": found_of(BOX, labels=7), "elsewhere": found_of(BOX)}
    result = protocol(found, {"here": truth_of(BOX)}, ["a"])
    assert result.mean_ap == 0
    assert result.counts.detections_ignored == {"image not in the data set": 1, "class not in the data set": 1}
    assert result.counts.images_without_detections == 1


@EVERY
def test_no_images_at_all(protocol: Protocol) -> None:
    result = protocol({}, {}, NAMES, bootstrap_samples=20)
    assert np.isnan(result.mean_ap)
    assert result.interval is None
    assert result.counts.images == 0
    assert np.isnan(protocol({}, {}, []).mean_ap)


def table(boxes: Any, scores: Any, image_ids: tuple[str, ...] = ("i",)) -> DetectionTable:
    """Detections of the first image, of any numbers."""
    rows = np.array(boxes, np.float64).reshape(-1, 4)
    zeros = np.zeros(len(rows), np.int64)
    return DetectionTable(image_ids, zeros, zeros, np.array(scores, np.float64), rows, rows[:, 2:] - rows[:, :2])


@EVERY
def test_inverted_and_outside_boxes_are_false_positives_that_are_told(protocol: Protocol) -> None:
    known_size = replace(TruthTable.of({"i": truth_of(BOX)}), image_sizes=np.array([SIZE]))
    found = table([[50, 50, 20, 10], [200, 0, 250, 50], BOX, BOX], [0.9, 0.8, 0.7, 0.7])
    result = protocol(found, known_size, ["a"])
    assert result.classes[0].true_positives == 1
    assert result.counts.notes == {
        "detections without area (they match nothing)": 1,
        "detections outside their image": 1,
        "detections that repeat another exactly": 1,
    }


def test_a_table_refuses_what_is_not_finite_and_an_image_that_occurs_twice() -> None:
    for score in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"image 'i'.*not finite"):
            table(BOX, [score])
    with pytest.raises(ValueError, match="'i' occurs more than once"):
        table([], [], ("i", "j", "i"))


def test_warmup_leaves_nothing_to_compile() -> None:
    # Loops are compiled anew for other kinds of arrays (read-only ones, for one), so the warm-up must meet the same.
    def signatures() -> dict[str, int]:
        return {name: len(loop.signatures) for name, loop in vars(kernels).items() if hasattr(loop, "signatures")}

    warmup()
    before = signatures()
    assert before["match_voc"] == before["match_coco"] == before["resampled_ap"] == before["nearest_truths"] == 1
    boxes = [BOX, [10, 10, 90, 90]]
    truth = {name: truth_of(boxes, [0, 1]) for name in "xyz"}
    found = {"x": found_of(np.array(boxes) + 1, labels=[1, 0]), "q": Detections.empty(SIZE)}
    for protocol in PROTOCOLS.values():
        matches = protocol(found, truth, NAMES, bootstrap_samples=3).need_matches()
        analyse_errors(matches, proposals={"y": boxes})
        confusion_matrix(matches)
    assert signatures() == before
