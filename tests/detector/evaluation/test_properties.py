"""What must hold for every protocol, whatever the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.evaluation.coco import evaluate_coco
from detector.evaluation.ilsvrc_det import evaluate_ilsvrc_det
from detector.evaluation.result import EvaluationResult
from detector.evaluation.voc import evaluate_voc
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
    numbers = st.integers(0, 40)
    for i in range(draw(st.integers(0, 4))):
        n = draw(st.integers(0, 4))
        corner = np.array(draw(st.lists(st.tuples(numbers, numbers), min_size=n, max_size=n))).reshape(n, 2)
        side = np.array(draw(st.lists(st.tuples(numbers, numbers), min_size=n, max_size=n))).reshape(n, 2) + 4
        boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
        labels = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int64)
        masks = st.lists(st.booleans() if flags else st.just(False), min_size=n, max_size=n)
        ignore, crowd = (np.array(draw(masks), np.bool_) for _ in range(2))
        area = side.prod(axis=1).astype(np.float64)
        truth[str(i)] = GroundTruth(boxes, labels, ignore, crowd, area)
        m = draw(st.integers(0, 6))
        rows = []
        for _ in range(m):
            if n and draw(st.booleans()):
                rows.append(boxes[draw(st.integers(0, n - 1))] + draw(st.sampled_from([0, 1, 5, -3])))
            else:
                x, y = draw(numbers), draw(numbers)
                rows.append(np.array([x, y, x + draw(numbers), y + draw(numbers)]))
        scores = draw(st.lists(st.integers(0, 8), min_size=m, max_size=m))
        found_labels = draw(st.lists(st.integers(0, 2), min_size=m, max_size=m))
        found[str(i)] = Detections.sorted(
            np.array(rows, np.float32).reshape(-1, 4),
            np.array(scores, np.float32) / 8,
            np.array(found_labels, np.int64),
            SIZE,
        )
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
@given(data=data_sets(), extra=data_sets())
def test_an_unrelated_class_changes_no_other(protocol: Protocol, data: Data, extra: Data) -> None:
    found, truth = data
    more_found, more_truth = dict(found), dict(truth)
    for name, objects in extra[1].items():  # everything of the other data set becomes one new class
        if name not in truth:
            continue
        old = truth[name]
        more_truth[name] = GroundTruth(
            np.concatenate([old.boxes, objects.boxes]),
            np.concatenate([old.labels, np.full(len(objects), 3)]),
            np.concatenate([old.ignore, objects.ignore]),
            np.concatenate([old.crowd, objects.crowd]),
            np.concatenate([old.area, objects.area]),
        )
        here, there = found[name], extra[0][name]
        more_found[name] = Detections.sorted(
            np.concatenate([here.boxes, there.boxes]),
            np.concatenate([here.scores, there.scores]),
            np.concatenate([here.labels, np.full(len(there), 3)]),
            SIZE,
        )
    before, after = protocol(found, truth, NAMES), protocol(more_found, more_truth, [*NAMES, "d"])
    for row, twin in zip(before.classes, after.classes, strict=False):
        np.testing.assert_array_equal([row.ap, row.max_recall], [twin.ap, twin.max_recall])
        assert (row.true_positives, row.false_positives) == (twin.true_positives, twin.false_positives)


@EVERY
@settings(deadline=None, max_examples=20)
@given(data=data_sets(flags=False))
def test_perfect_detections_score_one_and_none_score_zero(protocol: Protocol, data: Data) -> None:
    # In VOC, of two objects of one class with the very same box only one can be found.
    truth = {
        name: t.select(np.sort(np.unique(np.column_stack([t.boxes, t.labels]), axis=0, return_index=True)[1]))
        for name, t in data[1].items()
    }
    perfect = {name: Detections(t.boxes, np.ones(len(t), np.float32), t.labels, SIZE) for name, t in truth.items()}
    objects = sum(len(t) for t in truth.values())
    assert aps(protocol(perfect, truth, NAMES))[-1] == pytest.approx(1 if objects else np.nan, nan_ok=True)
    assert aps(protocol({}, truth, NAMES))[-1] == pytest.approx(0 if objects else np.nan, nan_ok=True)


@EVERY
@settings(deadline=None, max_examples=20)
@given(data=data_sets(), which=st.integers(0, 30), rise=st.integers(1, 8))
def test_raising_a_true_detection_never_lowers_ap(protocol: Protocol, data: Data, which: int, rise: int) -> None:
    # Alone in its image and class, so that the higher score changes its rank and no match.
    found, truth = data
    before = protocol(found, truth, NAMES)
    matches = before.matches
    assert matches is not None
    group = matches.detections.labels * 100 + matches.detections.image
    alone = np.bincount(group, minlength=1)[group] == 1 if len(group) else np.zeros(0, np.bool_)
    true = np.flatnonzero((matches.outcome == 1).all(axis=0) & alone)
    if not len(true):
        return
    row = true[which % len(true)]
    name = matches.detections.image_ids[matches.detections.image[row]]
    mine = found[name]
    position = int(np.flatnonzero(mine.labels == matches.detections.labels[row])[0])
    scores = mine.scores.copy()
    scores[position] += rise / 8
    raised = {**found, name: Detections.sorted(mine.boxes, scores, mine.labels, SIZE)}
    after = protocol(raised, truth, NAMES)
    label = int(mine.labels[position])
    assert after.classes[label].ap >= before.classes[label].ap - 1e-12
    assert after.mean_ap >= before.mean_ap - 1e-12


@EVERY
def test_image_ids_decide_ties_not_their_order(protocol: Protocol) -> None:
    # Ids that are numbers are ordered as numbers: 2 before 10.
    box = np.array([[0, 0, 50, 50]], np.float32)
    label, score = np.zeros(1, np.int64), np.full(1, 0.5, np.float32)
    truth = {"10": GroundTruth.of(box[:0], label[:0]), "2": GroundTruth.of(box, label)}
    found = {name: Detections(box, score, label, SIZE) for name in truth}
    assert protocol(found, truth, ["a"]).mean_ap == pytest.approx(1)
    swapped = {"2": truth["10"], "10": truth["2"]}
    assert protocol(found, swapped, ["a"]).mean_ap == pytest.approx(0.5)


@EVERY
def test_detections_of_unknown_images_and_classes_are_counted(protocol: Protocol) -> None:
    box = np.array([[0, 0, 50, 50]], np.float32)
    score = np.full(1, 0.5, np.float32)
    truth = {"here": GroundTruth.of(box, np.zeros(1, np.int64))}
    found = {
        "here": Detections(box, score, np.array([7]), SIZE),
        "elsewhere": Detections(box, score, np.zeros(1, np.int64), SIZE),
    }
    result = protocol(found, truth, ["a"])
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


@EVERY
def test_inverted_and_outside_boxes_are_false_positives_that_are_told(protocol: Protocol) -> None:
    from detector.evaluation.tables import DetectionTable, TruthTable

    side = np.array([[50.0, 50.0]])
    truth = TruthTable(
        ("i",), np.array([SIZE]), np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([[0.0, 0, 50, 50]]), side,
        np.zeros(1, np.bool_), np.zeros(1, np.bool_), np.array([2500.0]),
    )  # fmt: skip
    boxes = np.array([[50.0, 50, 20, 10], [200, 0, 250, 50], [0, 0, 50, 50], [0, 0, 50, 50]])
    found = DetectionTable(
        ("i",), np.zeros(4, np.int64), np.zeros(4, np.int64), np.array([0.9, 0.8, 0.7, 0.7]), boxes,
        boxes[:, 2:] - boxes[:, :2],
    )  # fmt: skip
    result = protocol(found, truth, ["a"])
    assert result.classes[0].true_positives == 1
    assert result.counts.notes == {
        "detections without area (they match nothing)": 1,
        "detections outside their image": 1,
        "detections that repeat another exactly": 1,
    }


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_table_refuses_scores_that_are_not_finite(score: float) -> None:
    from detector.evaluation.tables import DetectionTable

    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    zero: Any = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match=r"image 'i'.*not finite"):
        DetectionTable(("i",), zero, zero, np.array([score]), box, box[:, 2:])


def test_a_table_refuses_an_image_that_occurs_twice() -> None:
    from detector.evaluation.tables import DetectionTable

    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="'i' occurs more than once"):
        DetectionTable(("i", "j", "i"), none, none, np.zeros(0), np.zeros((0, 4)), np.zeros((0, 2)))


def test_warmup_leaves_nothing_to_compile() -> None:
    # Loops are compiled anew for other kinds of arrays (read-only ones, for one), so the warm-up must meet the same.
    from detector.evaluation import analysis_kernels, kernels
    from detector.evaluation.analysis import confusion_matrix
    from detector.evaluation.error_analysis import analyse_errors
    from detector.evaluation.warmup import warmup

    def signatures() -> dict[str, int]:
        loops = [*vars(kernels).items(), *vars(analysis_kernels).items()]
        return {name: len(loop.signatures) for name, loop in loops if hasattr(loop, "signatures")}

    warmup()
    before = signatures()
    assert before["match_voc"] == before["match_coco"] == before["resampled_ap"] == before["nearest_truths"] == 1
    box = np.array([[0, 0, 50, 50], [10, 10, 90, 90]], np.float32)
    truth = {name: GroundTruth.of(box, np.array([0, 1])) for name in "xyz"}
    found = {"x": Detections(box + 1, np.ones(2, np.float32), np.array([1, 0]), SIZE), "q": Detections.empty(SIZE)}
    for protocol in PROTOCOLS.values():
        matches = protocol(found, truth, NAMES, bootstrap_samples=3).matches
        assert matches is not None
        analyse_errors(matches, proposals={"y": box})
        confusion_matrix(matches)
    assert signatures() == before
