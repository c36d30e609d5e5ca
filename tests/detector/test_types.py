"""Detections as other tools have them, and back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import supervision
import torch

from detector.types import Detections

NAMES = ("cat", "<dog>")


def some() -> Detections:
    boxes = np.array([[1, 2, 30, 40.5], [5, 6, 7, 8], [0, 0, 9, 9]], np.float32)
    return Detections(boxes, np.array([0.9, 0.5, 0.5], np.float32), np.array([1, 0, 2]), (50, 60), NAMES)


def assert_equal(a: Detections, b: Detections) -> None:
    for name in ("boxes", "scores", "labels"):
        one, other = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert (a.image_size, a.class_names) == (b.image_size, b.class_names)


@pytest.mark.parametrize("found", [some(), Detections.empty((50, 60))], ids=["some", "none"])
def test_supervision_there_and_back(found: Detections) -> None:
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    assert theirs.data["class_name"].tolist() == found.names
    theirs.xyxy += 1  # theirs may be changed, ours not
    theirs.xyxy -= 1
    assert_equal(Detections.from_supervision(theirs, found.image_size, found.class_names), found)


def test_from_supervision_in_any_order_and_without_scores() -> None:
    theirs = supervision.Detections(
        np.array([[0.0, 0, 1, 1], [0, 0, 2, 2]]), confidence=np.array([0.1, 0.2]), class_id=np.array([0, 1])
    )
    ours = Detections.from_supervision(theirs, (9, 9))
    assert ours.boxes[:, 2].tolist() == [2, 1]
    assert ours.labels.tolist() == [1, 0]
    bare = Detections.from_supervision(supervision.Detections(np.array([[0.0, 0, 1, 1]])), (9, 9))
    assert (bare.scores.tolist(), bare.labels.tolist()) == ([1.0], [0])
    assert len(Detections.from_supervision(supervision.Detections.empty(), (9, 9))) == 0


def test_a_data_frame() -> None:
    frame = some().to_dataframe()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["label", "class_name", "score", "x1", "y1", "x2", "y2"]
    assert frame["class_name"].tolist() == ["<dog>", "cat", "2"], "a label without a name is shown as its number"
    np.testing.assert_array_equal(frame[["x1", "y1", "x2", "y2"]].to_numpy(), some().boxes)
    assert len(Detections.empty((5, 5)).to_dataframe()) == 0


def test_torchvision() -> None:
    found = some()
    theirs = found.to_torchvision()
    assert {name: (t.dtype, t.tolist()) for name, t in theirs.items()} == {
        "boxes": (torch.float32, found.boxes.tolist()),
        "scores": (torch.float32, found.scores.tolist()),
        "labels": (torch.int64, found.labels.tolist()),
    }


def test_a_part_keeps_names_and_its_form_in_notebooks() -> None:
    found = Detections(*(getattr(some(), name) for name in ("boxes", "scores", "labels")), (50, 60), NAMES, repr)
    for part in (found.select(slice(1)), found.resized((100, 120))):
        assert (part.class_names, part.to_html) == (NAMES, repr)
    assert some()._repr_html_() is None
