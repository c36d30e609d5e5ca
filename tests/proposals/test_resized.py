"""Proposals found on a resized copy are in the pixels of the original."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from proposals.resized import ResizedSource
from proposals.types import Proposals, Source


class WholeAndCorner:
    """Proposes the whole image and the pixel at the lower right; remembers what it was given."""

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        self.seen = image
        height, width = image.shape[:2]
        boxes = np.array([[0, 0, width, height], [width - 1, height - 1, width, height]], np.float32)
        codes = np.full(2, Source.GIVEN, np.uint8)
        return Proposals(boxes, np.array([2, 1], np.float32), codes, (height, width))


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (1000, 700), (33, 7), (1, 1), (2, 4000)])
def test_boxes_come_back_in_original_pixels(shape: tuple[int, int]) -> None:
    inner = WholeAndCorner()
    found = ResizedSource(inner, 100).propose(np.zeros((*shape, 3), np.uint8))
    height, width = shape
    assert max(inner.seen.shape[:2]) == 100
    assert found.image_size == shape
    np.testing.assert_allclose(found.boxes[0], [0, 0, width, height], rtol=1e-6)
    small_height, small_width = inner.seen.shape[:2]
    side = (found.boxes[-1, 2] - found.boxes[-1, 0], found.boxes[-1, 3] - found.boxes[-1, 1])
    np.testing.assert_allclose(side, (width / small_width, height / small_height), rtol=1e-3)


def test_an_image_of_that_size_is_searched_as_it_is() -> None:
    inner, image = WholeAndCorner(), np.zeros((60, 100, 3), np.uint8)
    ResizedSource(inner, 100).propose(image)
    assert inner.seen is image


def test_side_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ResizedSource(WholeAndCorner(), 0)
