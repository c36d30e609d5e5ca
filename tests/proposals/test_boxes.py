"""Greedy suppression against torchvision's, and the rule of its loop in plain words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import nms as torchvision_nms

from proposals.boxes import iou, nms


@given(st.integers(0, 10_000), st.integers(0, 60), st.floats(0.05, 0.95), st.sampled_from([np.float32, np.float64]))
def test_suppression_is_torchvisions(seed: int, n: int, threshold: float, kind: type) -> None:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 40, (n, 2)), rng.uniform(1, 30, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(kind)
    scores = rng.permutation(n).astype(kind)
    expected = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).numpy()
    kept = nms(boxes, scores, threshold)
    np.testing.assert_array_equal(kept, expected)
    for count in (0, 1, 5):
        np.testing.assert_array_equal(nms(boxes, scores, threshold, count), expected[:count])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_equals_keep_their_order_and_boxes_without_area_stay(kind: type) -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 5]], kind)
    scores = np.full(5, 0.5, kind)
    assert iou(boxes[:1], boxes[4:])[0, 0] == 0.5
    assert nms(boxes, scores, 0.5).tolist() == [0, 2, 3, 4]  # an IoU of exactly the threshold is not greater
    assert nms(boxes, scores, 0.49).tolist() == [0, 2, 3]
