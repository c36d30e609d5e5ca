"""Families: what they sum up, when they are named, and how a model and the command have them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detector.detection.suppression import PostprocessConfig, postprocess
from detector.families import family_labels, unexplained, with_families
from detector.model.config import BUNDLED_MODEL, ModelConfig, read_model_config
from detector.model.load import load_model
from proposals.boxes import iou
from proposals.errors import UserError

NAMES = ("tabby", "lion", "Persian cat", "cup")
CAT = ((0, 2),)
SIZE = (100, 100)


def found(boxes: list[list[float]], probs: list[list[float]], **settings: float) -> list[tuple[int, float]]:
    """Labels and scores of the detections among regions of four classes, background what is left, with family 4."""
    table = np.array(probs, np.float32)
    table = np.concatenate([table, 1 - table.sum(axis=1, keepdims=True)], axis=1)
    config = PostprocessConfig(**{"score_threshold": 0.3, **settings})  # type: ignore[arg-type]
    made = postprocess(np.array(boxes, np.float32), table, SIZE, config, families=CAT)
    return [(int(label), round(float(score), 4)) for label, score in zip(made.labels, made.scores, strict=True)]


def test_two_unsure_classes_are_one_sure_family() -> None:
    assert found([[10, 10, 60, 60]], [[0.28, 0.0, 0.27, 0.1]]) == [(4, 0.55)]


def test_a_class_that_is_sure_enough_is_named_alone() -> None:
    assert found([[10, 10, 60, 60]], [[0.35, 0.0, 0.3, 0.1]]) == [(0, 0.35), (2, 0.3)]
    assert found([[10, 10, 60, 60]], [[0.35, 0.0, 0.2, 0.1]]) == [(0, 0.35)]


def test_another_thing_of_the_family_is_named_beside_it() -> None:
    far = [[0.35, 0.0, 0.2, 0.1], [0.28, 0.0, 0.27, 0.1]]
    assert found([[0, 0, 40, 40], [50, 50, 90, 90]], far) == [(4, 0.55), (0, 0.35)]
    # A class that is no kind of cat takes nothing away.
    assert found([[0, 0, 40, 40]], [[0.28, 0.4, 0.27, 0.0]]) == [(4, 0.55), (1, 0.4)]


def test_of_several_regions_the_familys_best_stays() -> None:
    both = [[0.28, 0.0, 0.27, 0.1], [0.25, 0.0, 0.28, 0.1]]
    assert found([[10, 10, 60, 60], [12, 10, 60, 60]], both) == [(4, 0.55)]


def test_soft_suppression_and_the_count_have_families_too() -> None:
    far = [[0.35, 0.0, 0.2, 0.1], [0.28, 0.0, 0.27, 0.1]]
    boxes: list[list[float]] = [[0, 0, 40, 40], [50, 50, 90, 90]]
    assert found(boxes, far, soft_sigma=0.5) == [(4, 0.55), (0, 0.35)]
    # What the explained family's box of the first thing would have taken goes to the next.
    assert found(boxes, [[0.5, 0.0, 0.3, 0.1], [0.0, 0.4, 0.0, 0.1]], max_detections=2) == [(0, 0.5), (1, 0.4)]
    soft = found(boxes, [[0.5, 0.0, 0.3, 0.1], [0.0, 0.4, 0.0, 0.1]], max_detections=2, soft_sigma=0.5)
    assert soft == [(0, 0.5), (1, 0.4)]


def test_a_chosen_class_leaves_families_out_and_a_chosen_family_classes() -> None:
    table = np.array([[0.28, 0.0, 0.27, 0.1, 0.35]], np.float32)
    box = np.array([[10, 10, 60, 60]], np.float32)
    config = PostprocessConfig(score_threshold=0.2)
    assert postprocess(box, table, SIZE, config, (0,), CAT).labels.tolist() == [0]
    assert postprocess(box, table, SIZE, config, (4,), CAT).labels.tolist() == [4]


def test_a_family_has_the_box_of_its_likeliest_class() -> None:
    each = np.array([[[0, 0, 10, 10], [0, 0, 20, 20], [0, 0, 30, 30], [0, 0, 40, 40]]], np.float32)
    table = np.array([[0.2, 0.0, 0.25, 0.0, 0.55]], np.float32)
    made = postprocess(each, table, SIZE, PostprocessConfig(score_threshold=0.4), families=CAT)
    assert made.labels.tolist() == [4]
    assert made.boxes.tolist() == [[0, 0, 30, 30]]
    voted = postprocess(each, table, SIZE, PostprocessConfig(score_threshold=0.4, box_voting=0.5), families=CAT)
    assert voted.boxes.tolist() == [[0, 0, 30, 30]]


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.booleans())
def test_columns_are_sums_and_the_others_stay(seed: int, count: int, own_boxes: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(6), count)[:, :5].astype(np.float32)
    scores[rng.random((count, 5)) < 0.3] = -1
    boxes = rng.random((count, 5 if own_boxes else 1, 4)).astype(np.float32)
    families = ((0, 3), (1, 2, 4))
    more_boxes, more = with_families(boxes, scores, families)
    assert more.shape == (count, 7)
    assert np.array_equal(more[:, :5], scores)
    for row in range(count):
        for number, labels in enumerate(families):
            good = [label for label in labels if scores[row, label] >= 0]
            expected = sum(float(scores[row, label]) for label in good) if good else -1.0
            assert more[row, 5 + number] == pytest.approx(expected, abs=1e-6)
            if own_boxes:
                best = max(labels, key=lambda label: scores[row, label])
                assert np.array_equal(more_boxes[row, 5 + number], boxes[row, best])
    assert more_boxes.shape == (count, 7 if own_boxes else 1, 4)
    assert with_families(boxes, scores, ()) == (boxes, scores)


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.floats(0, 1))
def test_what_stays_is_what_no_class_of_the_family_overlaps(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.random((count, 2)) * 20
    boxes = np.concatenate([corner, corner + 1 + rng.random((count, 2)) * 20], axis=1).astype(np.float32)
    labels = rng.integers(7, size=count)
    families = ((0, 3), (1, 2))
    keep = unexplained(boxes, labels, families, 5, threshold)
    overlap = iou(boxes, boxes)
    for row in range(count):
        own = families[labels[row] - 5] if labels[row] >= 5 else ()
        rivals = [other for other in range(count) if labels[other] in own]
        assert keep[row] == all(overlap[row, other] <= threshold for other in rivals)


def test_labels_of_families() -> None:
    assert family_labels({"cat": ("Persian cat", "tabby")}, NAMES) == ((2, 0),)
    assert family_labels({}, NAMES) == ()


@pytest.mark.parametrize(
    ("families", "fault"),
    [
        ({"cup": ("tabby", "lion")}, "'cup' is a class already"),
        ({"cat": ("tabby",)}, "'cat' needs two classes or more"),
        ({"cat": ("tabby", "lynx")}, "'cat' has 'lynx', which is no class"),
        ({"cat": ("tabby", "tabby")}, "'tabby' is in 'cat' already"),
        ({"cat": ("tabby", "Persian cat"), "pet": ("lion", "tabby")}, "'tabby' is in 'cat' already"),
    ],
)
def test_faults_are_one_line(families: dict[str, tuple[str, ...]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        family_labels(families, NAMES)
    with pytest.raises(ValueError, match="families: 'no' needs two classes or more"):
        ModelConfig.model_validate({**read_model_config(BUNDLED_MODEL).model_dump(), "families": {"no": ("tabby",)}})


def test_the_bundled_model_has_families_for_those_who_ask() -> None:
    config = read_model_config(BUNDLED_MODEL)
    plain = load_model(device="cpu")
    assert plain.class_names == config.class_names
    assert plain.families == ()
    asked = load_model(device="cpu", families=True, classes=["tabby", "Cat"])
    assert asked.class_names == (*config.class_names, *config.families)
    assert len(asked.families) == len(config.families)
    assert asked.labels is not None
    assert [asked.class_names[label] for label in asked.labels] == ["tabby", "cat"]
    cats = asked.families[asked.class_names.index("cat") - len(config.class_names)]
    assert {asked.class_names[label] for label in cats} == {"tabby", "Egyptian cat", "Persian cat"}
    with pytest.raises(UserError, match="the model has no class 'frozen dessert'"):
        load_model(device="cpu", classes="frozen dessert")


def test_the_command_names_families_unless_told_not_to(run_cli: Any, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "n.png")
    ask = ["detect", tmp_path / "n.png", "--score-threshold", "0", "--format", "csv", "--no-pictures", "--members", "1"]
    ask += ["--class", "bullfrog", "--device", "cpu"]
    done = run_cli(*ask, "--class", "frog", "--out", "a")
    assert (done.code, done.err) == (0, "")
    with Path("a", "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # All boxes of the frogs that are not named as such are where a bullfrog is named.
    assert {row["class_name"] for row in rows} == {"bullfrog"}
    done = run_cli(*ask[:-4], "--class", "frog", "--out", "b")
    with Path("b", "detections.csv").open(newline="") as file:
        assert {row["class_name"] for row in csv.DictReader(file)} == {"frog"}
    refused = run_cli(*ask, "--class", "frog", "--no-families", "--out", "c")
    assert refused.code == 1
    assert "the model has no class 'frog'; did you mean" in refused.err
